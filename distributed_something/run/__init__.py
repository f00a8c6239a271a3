"""The life of a run: setup, start, monitor, finish, and the auto-monitor that runs in AWS.

`diagnose` and `cli` import it. It imports the packages below it: `results`, `observe`, `fleet`, `jobs`, `account`,
`aws`, and `core`. Start with `start.py`, then `monitor/loop.py`, then `finish.py`.
"""
