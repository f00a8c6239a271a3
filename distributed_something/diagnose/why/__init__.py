"""`run.py why`: why nothing is running, the most likely cause first.

`observe/evidence.py` looks; here is the judgment, which is pure. `cli` imports it; it imports `observe` and `core`.
Start with `rank.py`; the causes are in one module for each subject, and `view.py` makes the text.
"""
