"""The monitor: look, decide, act, again and again, until no job is left.

`run` imports it. Start with `loop.py`; what to do next is decided in `policy.py`, which is pure.
"""
