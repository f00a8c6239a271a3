"""Which failed jobs of a run `retry` sends again.

`cli` imports this package. Start with `retry_jobs.py`.
"""
