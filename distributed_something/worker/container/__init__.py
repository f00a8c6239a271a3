"""One container: it starts, keeps its slots in work, fetches jobs ahead, and ends in the time that is left.

It puts all other parts of the worker together, and nothing of the worker imports it. Start reading in `serve.py`, which
generic-worker.py calls, and go on with `container.py`.
"""
