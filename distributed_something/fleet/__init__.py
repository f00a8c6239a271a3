"""The Fleet file, its launch specifications, the run's launch template, and the request for a Spot Fleet.

`observe`, `run`, and `diagnose` import this package; it imports `aws` and `core`. Start reading in `fleet_file.py`,
which reads and checks the file, and then in `launch_plan.py`, from which everything that EC2 receives is built.
"""
