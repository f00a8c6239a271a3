"""The command `retry`, composed from `results` (which jobs), `run` (setup), and `jobs` (sending them).

Only `cli/main.py` imports it. Start reading in `retry_command.py`.
"""
