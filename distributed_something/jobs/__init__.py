"""Job files: checking them and sending their jobs to the queue; also `makeJobs` and `runJob`.

`project`, `fleet`, and the packages above them may import this package; it imports `aws`, `core`, and the public names
of `worker`. Start reading in `job_file.py`, then in `submission_plan.py`, `submit.py`, and `send_batches.py`.
"""
