"""Logs in CloudWatch: the container's own, and one stream for each job. They never cost a job anything.

`container` and `attempt` import it, and it imports only `job` and the clock of `machine`. Start reading in
`job_log.py`; `log_stream.py` is the only module that sends events.
"""
