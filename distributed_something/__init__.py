"""Distributed-Something: the package behind run.py and the worker. See docs/architecture.md."""
