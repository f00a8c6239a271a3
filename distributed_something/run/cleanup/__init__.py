"""Cleanup: deleting everything that a run created, and verifying that nothing is left.

The other modules of `run`, and `cli`, import it. Start with `remove.py`, which takes the steps in order.
`inventory.py` lists the remaining resources of a run, and `orphans.py` those of older runs.
"""
