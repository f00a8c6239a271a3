"""The life of a run: setup, start, monitor, finish, and the auto-monitor that runs in AWS.

`cli` and the Lambda function of the auto-monitor import it. It imports `results`, `observe`,
`fleet`, `aws`, and `core`. Start with `start.py`, then `monitor/loop.py`, then `finish.py`.
"""
