"""The results of a run: reading the records that workers wrote, and summarizing them.

`run` imports it; it imports `observe`, `aws`, and `core`. Start with `records.py`.
"""
