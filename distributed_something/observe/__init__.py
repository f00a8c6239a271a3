"""Observation of a run in AWS: its queue, fleet, machines, service, and all other resources.

Nothing here changes a resource or makes a decision. `run`, `results`, and `diagnose` import this package; it imports
`fleet`, `aws`, and `core`. Start with `snapshot.py`, the observation that the monitor bases its decisions on.
"""
