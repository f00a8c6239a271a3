"""One container: starts the worker, keeps its slots busy, prefetches jobs, and stops within the time that remains.

This package puts all other parts of the worker together, and no other part imports it. Start reading in `serve.py`,
which generic-worker.py calls, and continue with `container.py`.
"""
