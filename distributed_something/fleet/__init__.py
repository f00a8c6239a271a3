"""The Fleet file, its launch specifications, the run's launch template, and the request for a Spot Fleet.

`observe`, `run`, and `diagnose` import this package; it imports `aws` and `core`. Start with `fleet_file.py`, which
reads and checks the file, and then read `launch_plan.py`, which builds what is sent to EC2.
"""
