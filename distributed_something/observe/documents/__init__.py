"""Reads the documents about a run's jobs in the bucket: the containers' journals, and the submissions.

`results`, `run`, and the rest of `observe` import this package. Start with `journals.py`.
"""
