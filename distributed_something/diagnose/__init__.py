"""Diagnosis of problems, before a run (`check`) and when nothing is running (`why`).

Nothing here changes anything in AWS. `cli` imports this package; it may import `observe`, `account`, and the packages
below them. Start with `check/check.py` and `why/rank.py`.
"""
