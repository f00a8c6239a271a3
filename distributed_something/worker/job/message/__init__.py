"""Messages: their keys, and how a job is built from a message. Start reading in `job_template.py`."""
