"""The status of a run as data: its numbers, its failures by cause, and how long it will probably take.

`run` and `cli` import this package. Start with `document.py`.
"""
