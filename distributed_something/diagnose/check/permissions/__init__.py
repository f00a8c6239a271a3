"""Asks AWS itself whether permissions suffice: EC2 about the machines (`launch.py`), and IAM about roles (`roles.py`).

Both questions are free and change nothing. What a bucket's policy allows to a service of AWS cannot be asked, so that
`resource_policy.py` evaluates it. Imported only by `check.py` and `account.py`; start with `roles.py`.
"""
