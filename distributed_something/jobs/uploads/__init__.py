"""The `upload` folders of a Job file: which files they contain, uploading them, and reading those that a check needs.

Only `jobs` and `cli` import this. Start with `upload_folders.py`.
"""
