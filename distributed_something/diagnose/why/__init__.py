"""`run.py why`: the possible causes when nothing is running, the most likely one first.

`observe/evidence.py` gathers the evidence from AWS; the pure functions here evaluate it. `cli` imports this package,
which imports `observe` and `core`. Start with `rank.py`. There is one module of causes per subject; `view.py` formats
the causes.
"""
