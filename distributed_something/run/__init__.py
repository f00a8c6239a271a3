"""A run's life: setup, start, monitor, finish, and the monitor that runs in AWS.

`diagnose` and `cli` import it; it imports everything below: `results`, `observe`, `fleet`, `jobs`, `account`, `aws`,
`core`. Start with `start.py`, then `monitor/loop.py`, then `finish.py`.
"""
