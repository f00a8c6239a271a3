"""What AWS says about a run right now: its queue, fleet, machines, service, and everything else that it owns.

Nothing here changes anything or decides anything. `run`, `results`, and `diagnose` import it; it imports `fleet`,
`aws`, and `core`. Start with `snapshot.py`, the one look that the monitor decides on.
"""
