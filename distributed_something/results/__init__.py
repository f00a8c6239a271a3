"""Counts how a run's jobs ended, and summarizes the run.

`run` imports this package; it imports `observe`, `aws`, and `core`. Start with `outcome.py`.
"""
