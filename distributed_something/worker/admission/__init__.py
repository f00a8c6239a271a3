"""Decides whether this container may take jobs now.

A container takes no jobs while its machine seems unhealthy, its disk is full, its machine is likely to be interrupted,
or its run is closed. `container` and `attempt` import this part. The monitor and `why` use
`distributed_something.worker` to read the documents that this part writes to S3. Start reading in `gate.py`.
"""
