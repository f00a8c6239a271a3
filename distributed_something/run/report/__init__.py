"""Makes the report of a run, from the bucket with `run.py report`, or at the end of a run from what was read anyway."""
