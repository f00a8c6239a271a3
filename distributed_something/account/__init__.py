"""The one-time setup of an AWS account for runs: the command `run.py setupAWS`.

Only `cli` and `diagnose` import this package; it imports `aws` and `core`. Start with `setup_aws.py`, which lists the
steps. The permissions of roles are in `policies.py`, those of users in `user_policies.py`.
"""
