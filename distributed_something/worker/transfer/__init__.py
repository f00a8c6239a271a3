"""The transfer of inputs from S3 and the web to a job's folder, and of results from there to S3.

A transfer fails if a file is not complete and verified. `attempt`, `container`, and `machine` import this part, which
knows nothing about queues or records. Start reading in `inputs.py` and `results.py`; both build on `s3_file.py` and
`retry.py`.
"""
