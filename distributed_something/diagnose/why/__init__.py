"""`run.py why`: the possible causes when nothing is running, the most likely one first.

`observe/evidence.py` gathers the evidence from AWS; the pure functions here evaluate it. `cli` imports this package; it
imports `observe` and `core`. Start with `rank.py`. Each subject has one module of causes, and `view.py` formats them.
"""
