"""The container's machine: its ID, spot notices, scale-in protection, idle alarm, usage, and mounted bucket.

The modules do not depend on each other's state, and `container` starts all of them. `admission`, `attempt`, and `logs`
import only `clock.py` and `times.py` from this package. Start reading in `metadata.py`, which detects EC2.
"""
