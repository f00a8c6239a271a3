"""What follows an attempt's program: its results are uploaded, or the reason why there are none is found.

Only `attempt/handler.py` imports this folder, which builds on `transfer`. Start reading in `result_publisher.py`.
"""
