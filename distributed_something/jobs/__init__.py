"""From a Job file to messages in the queue: read, checked whole, and sent. `makeJobs` and `runJob` are here, too.

The packages above it, from `project` and `fleet` up, may import it; it imports `aws`, `core`, and the public names of
`worker`. Start reading in `job_file.py`, then follow `submission_plan.py`, `submit.py`, and `send_batches.py`.
"""
