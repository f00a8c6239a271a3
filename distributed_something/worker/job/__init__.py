"""Jobs, which are built from messages: their ids, addresses, commands, and upload flags, and the checks for hooks.

This is the lowest part of the worker and imports no other part. `submitJob` uses it too, to check a job file before it
sends any messages. Start reading in `job.py`.
"""
