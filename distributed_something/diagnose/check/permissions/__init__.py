"""Asks AWS itself whether permissions suffice: EC2 about the machines (`launch.py`), and IAM about roles (`roles.py`).

Both questions are free and change nothing. Imported only by `check.py`; start with `roles.py`.
"""
