"""Whether this container may take a job now: it may be sick, its disk full, its machine about to go, or its run closed.

`container` and `attempt` import it; the monitor and `why` read what it writes, through `distributed_something.worker`.
Start reading in `gate.py`.
"""
