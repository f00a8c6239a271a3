"""The decision whether this container may take jobs now.

A container takes no jobs while its machine seems unhealthy, its disk is full, its machine is likely to be interrupted,
or its run is closed. `container` and `attempt` import this part. Through `distributed_something.worker`, the monitor
and `why` read the documents that it writes to S3. Start reading in `gate.py`.
"""
