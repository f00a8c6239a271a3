"""Moves the files of a published implementation into a new project: `newProject --config FILE --files FOLDER`.

It belongs to `project` and may import what `project` may. Start with `move_in.py`.
"""
