"""One attempt at a job, from receiving its message to deleting it: lease, inputs, program, results, and record.

Only `container` imports this package. Start reading in `handler.py`, which defines the order of the steps, and continue
with `outcomes.py`, which defines how an attempt can end.
"""
