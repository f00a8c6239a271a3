"""Uploads an attempt's results, after claiming their place from other attempts at the job.

Only `attempt/handler.py` imports this folder, which builds on `transfer`. Start reading in `result_publisher.py`.
"""
