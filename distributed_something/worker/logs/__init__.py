"""Logs in CloudWatch: the container's own log, and one stream per job. A log failure never fails a job.

`container` and `attempt` import this package, which imports only `job` and the clock from `machine`. Start reading in
`job_log.py`; `log_stream.py` is the only module that sends events.
"""
