"""The machinery of `run.py`, one concept a file. Nothing here imports `config` or `localcloud`, or makes a session."""
