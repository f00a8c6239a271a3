"""The machinery of `run.py`: one concept a file. Nothing here imports `config`, `localcloud` or makes a boto3 session."""
