"""Downloads inputs from S3 and the web to a job's folder, and uploads results from there to S3.

A transfer succeeds only if every file is complete and verified. `attempt`, `container`, and `machine` import this part;
it does not depend on queues or records. Start reading in `inputs.py` and `results.py`; both build on `s3_file.py` and
`retry.py`. Its subpackage `crt` is the faster way to download from S3.
"""
