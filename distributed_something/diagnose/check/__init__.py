"""`run.py check`: everything that can be looked at before a cent is spent, with one module for each subject.

`cli` imports it, also for startCluster, which ends where something is wrong. Start with `check.py`, the list of checks;
`lookups.py` asks AWS, and each check judges what it found by a pure function beside it.
"""
