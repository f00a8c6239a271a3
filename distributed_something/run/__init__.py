"""The stages of a run (setup, start, monitor, and finish), and the auto-monitor that runs in AWS.

`cli` and the auto-monitor's Lambda function import this package. It imports `results`, `observe`, `fleet`, `aws`, and
`core`. Start with `start.py`, then `monitor/loop.py`, then `finish.py`.
"""
