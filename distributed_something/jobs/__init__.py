"""Checks Job files and sends their jobs to the queue. `makeJobs` and `runJob` are also here.

`project`, `fleet`, and the packages above them may import this package; it imports `aws`, `core`, and the public names
of `worker`. Start reading in `job_file.py`, then in `submission_plan.py`, `submit.py`, and `send_batches.py`.
"""
