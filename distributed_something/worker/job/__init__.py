"""What a message asks for: the job with its id, addresses, command, and upload flags, and the checks that hooks use.

The lowest part of the worker: it imports nothing of the others, and `submitJob` uses it too, to check a Job file before
anything is sent. Start reading in `job.py`.
"""
