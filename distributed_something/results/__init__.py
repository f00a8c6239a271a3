"""Counts how a run's jobs ended, groups the failed jobs by cause, and summarizes the run.

`run` imports this package; it imports `observe`, `aws`, and `core`. Start with `outcome.py`.
"""
