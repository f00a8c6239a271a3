"""`submitJob`: checks the jobs, sends them, and records what was sent. Start reading in `submit.py`."""
