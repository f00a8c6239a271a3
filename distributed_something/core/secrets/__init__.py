"""Recognizes secrets, so that they are neither kept with a run nor copied into a new project.

It belongs to `core` and may import what `core` may. Start with `secrets.py`.
"""
