"""From a Fleet file to the request for a Spot Fleet: the file, its launch specifications, the run's launch template.

`observe`, `run`, and `diagnose` import it; it imports `aws` and `core`. Start with `fleet_file.py`, which reads and
checks the file, then `launch_plan.py`, from which everything that EC2 is sent is made.
"""
