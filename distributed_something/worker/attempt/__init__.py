"""One attempt at one job, from its message to the deletion of that message: lease, inputs, program, results, record.

Only `container` imports it; it uses everything below. Start reading in `handler.py`, the one place that says in which
order things happen, and go on with `outcomes.py`, which says how an attempt can end.
"""
