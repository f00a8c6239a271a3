"""`run.py check`: the checks that need no running machines, one module per subject.

`cli` imports this package for `check` and for `startCluster`, which stops if a finding is WRONG. Start with `check.py`,
the list of checks. `lookups.py` queries AWS; next to each check, a pure `judge_…` function evaluates the results.
"""
