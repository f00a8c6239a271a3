"""The part of the local cloud that commands use: start or find it, call it, and copy its buckets to ordinary files.

It imports `base`, and imports boto3 only when it creates a client. Start reading in `cloud.py`.
"""
