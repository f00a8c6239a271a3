"""The forecast of a Job file's next run, from the jobs that a run measured: all of its jobs, or a few (a canary).

`run` and `diagnose` import this package. Start with `forecast.py`; `measured_jobs.py` collects what it needs, and
`document.py` keeps it in the bucket.
"""
