"""What a project of one's own is made of: `newProject` makes it, and `upgrade` brings a newer machinery into it.

Only `cli` imports it; it imports `jobs` and `core`. Start reading in `shipped_files.py`, which says whose each file is,
then in `new.py`.
"""
