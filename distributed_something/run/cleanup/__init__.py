"""Deletes everything that a run created, and verifies that nothing is left.

`cli` and the other modules in `run` import this package. Start with `remove.py`, which runs the cleanup steps in order.
`inventory.py` lists a run's remaining resources, and `orphans.py` lists resources that older runs left behind.
"""
