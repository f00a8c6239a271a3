"""Checks offline whether policies allow the requests of a rehearsal. Start with `replay.py`."""
