"""The hooks, which you edit to adapt the worker: how a message becomes a command, and what counts as success.

Without changes, this file runs any job file that has a `command`, so a command-line program usually needs no changes
here. The package `distributed_something.worker` takes messages from the queue, downloads the inputs, runs the command,
uploads the results, writes the record, and retries failed jobs.

A message contains the shared keys of the job file and `"group"`. The worker calls the three functions below for each
job; edit those that you need. A fourth one, `deliver`, can send results elsewhere: see docs/your-own.md.
"""

from __future__ import annotations

import sys
from typing import Any

from distributed_something.worker import Folders, Job, Result, Settings, job_from_message, serve, usual_failure


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job for `message`. Raise BadMessage if the message is invalid and retrying cannot help.

    To build the command in Python instead of in the job file, create the Job yourself:

        group = message["group"]
        return Job(
            id=job_id(message),                                # readable, always the same, allowed in S3 keys
            command=["my-program", group["image"], "--out", str(folders.output_dir)],
            inputs=[f"{message['input']}/{group['image']}"],   # keys, prefixes/ or s3://bucket/key
            input_bucket=settings.aws_bucket,
            output_bucket=settings.aws_bucket,
            output_location=f"{message['output']}/{job_id(message)}",
        )

    Constants that you add to config.py are available here as environment variables: os.environ["MY_NAME"].
    """
    return job_from_message(message, folders, settings)


def prepare(job: Job, folders: Folders) -> None:
    """Prepare the job's files. The worker calls this after it downloads the inputs to `folders.input_dir` and before
    it runs the command."""


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Return the reason why the job failed, or None if it succeeded. The files in `folders.output_dir` are uploaded
    only if it succeeded.

    Without changes, a job fails if its exit code is not 0 or if it wrote fewer files than `expected_files` in the job
    file. Whatever you change here, a job whose exit code is not 0 fails, unless you return EXIT_CODE_ACCEPTED. To check
    the job's files, too:

        from distributed_something.worker import wrong_text
        return usual_failure(job, folders, result) or wrong_text(folders.output_dir / "done", "Complete")

    If your program's exit code is not reliable, check only its files:

        from distributed_something.worker import EXIT_CODE_ACCEPTED, wrong_text
        return wrong_text(folders.output_dir / "done", "Complete") or EXIT_CODE_ACCEPTED
    """
    return usual_failure(job, folders, result)


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure))
