"""What a person sees while a run is watched: a screen in a terminal, or else single lines.

`run.finish` and the command `status` import this package. Start with `layout.py`, which turns a status into lines.
"""
