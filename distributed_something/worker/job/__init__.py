"""Builds jobs from messages: ids, input addresses, commands, and upload flags. Also contains the checks for hooks.

This is the lowest-level part of the worker; it imports no other part, only `safe_path.py`. `submitJob` also uses it, to
check a job file before sending any messages. Start reading in `job.py`.
"""
