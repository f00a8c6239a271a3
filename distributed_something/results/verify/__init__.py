"""`run.py verify`: whether every result that a run's records list is in S3 as it was uploaded.

`cli` imports it. Start reading in `verify_results.py`.
"""
