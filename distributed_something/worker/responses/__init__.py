"""Checks of AWS's responses: botocore accepts truncated ones, and ones that something other than AWS sent.

`aws/clients.py` and `machine/worker_clients.py` add both checks to all of their clients.
"""
