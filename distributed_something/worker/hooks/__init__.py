"""Calls the hooks of generic-worker.py, and keeps what they return within limits: time, folder, and the job's ID.

Only `attempt` and `container` import this part. Start reading in `hook_calls.py`.
"""
