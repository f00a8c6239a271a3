"""The monitor: observe the run, decide, and act, again and again until no job remains.

The other modules of `run` import it. Start with `loop.py`. The decisions are in `policy.py`, which is pure.
"""
