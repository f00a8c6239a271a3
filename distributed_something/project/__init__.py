"""Projects: creating one for a program, building its image, and bringing a newer version of the package into it.

`cli` imports it; it imports `jobs` and `core`. Start with `new.py`; `template.py` knows where the shipped files are.
"""
