"""The machine around the container: its id, spot notices, scale-in protection, idle alarm, usage, and mounted bucket.

Each module stands alone and is put to work by `container`; `admission`, `attempt`, and `logs` use only the clocks in
`clock.py` and `times.py`. Start reading in `metadata.py`, which asks EC2 what this machine is.
"""
