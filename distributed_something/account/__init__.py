"""`run.py setupAWS`: what an AWS account needs once, before anybody's first run.

Only `cli` and `diagnose` import it; it imports `aws` and `core`. Start with `setup_aws.py`, the list of steps; what
roles and people may do is in `policies.py` and `user_policies.py`.
"""
