"""What a command does with the local cloud: start it or find it, call it, and copy its buckets to ordinary files.

It imports `base`, and boto3 only where a client is made. Start reading in `cloud.py`.
"""
