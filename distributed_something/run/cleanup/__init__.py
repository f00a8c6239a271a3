"""Removing everything that a run made, and proving that nothing is left.

`run` and `cli` import it. Start with `remove.py`, which takes the steps in order; `inventory.py` lists what is left,
and `orphans.py` what older runs left.
"""
