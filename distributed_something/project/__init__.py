"""Projects for the user's own programs: `newProject` creates them, and `upgrade` updates their copy of the package.

Only `cli` imports this package; it imports `jobs` and `core`. Start reading in `shipped_files.py`, which defines which
files belong to the package and which to the developer, then read `new.py`.
"""
