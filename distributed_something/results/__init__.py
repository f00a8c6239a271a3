"""Reads the records that workers wrote, and summarizes the results of a run.

`run` imports this package; it imports `observe`, `aws`, and `core`. Start with `outcome.py`.
"""
