"""What is wrong, before a run (`check`) and while nothing happens (`why`).

Nothing here changes anything in AWS. `cli` imports it; it imports everything below `run`. Start with `check/check.py`
and `why/rank.py`.
"""
