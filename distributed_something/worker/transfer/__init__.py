"""Inputs from S3 and the web into a job's folder, and results from there to S3: whole, verified, or not at all.

`attempt`, `container`, and `machine` import it; it knows neither queues nor records. Start reading in `inputs.py`
and `results.py`, which both stand on `s3_file.py` and `retry.py`.
"""
