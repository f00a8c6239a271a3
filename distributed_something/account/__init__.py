"""The one-time setup of an AWS account: the command `run.py setupAWS`.

Only `cli` and `diagnose` import this package; it imports `aws` and `core`. Start with `setup_aws.py`, which lists the
steps. `policies.py` contains the permissions for roles, `user_policies.py` the permissions for users.
"""
