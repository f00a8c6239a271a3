"""What a run produced, read from the records that its workers wrote, and how that is summed up.

`run` and `diagnose` import it; it imports `observe`, `aws`, and `core`. Start with `records.py`.
"""
