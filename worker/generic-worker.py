"""The file that a developer edits: how a message becomes a command, and what counts as success.

As shipped it runs any job file that has a `command`; a command-line program needs no change here. The package
`distributed_something.worker` does the rest: it takes messages from the queue, fetches inputs, runs the command,
uploads what it wrote, writes the record, and tries a failed job again.

A message is the job file's shared keys plus `"group"`. Each of the four functions below is a point of customisation.
"""

from __future__ import annotations

import sys
from typing import Any

from distributed_something.worker import Folders, Job, Result, Settings, job_from_message, serve, usual_failure


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """The job that `message` asks for. Raise BadMessage for a message that no try will make better.

    To build the command in Python instead of in the job file, make the Job yourself:

        group = message["group"]
        return Job(
            id=job_id(message),                                # readable, stable, safe in a key
            command=["my-program", group["image"], "--out", str(folders.output_dir)],
            inputs=[f"{message['input']}/{group['image']}"],   # keys, prefixes/ or s3://bucket/key
            input_bucket=settings.aws_bucket,
            output_bucket=settings.aws_bucket,
            output_location=f"{message['output']}/{job_id(message)}",
        )

    The user's own constants of config.py are environment variables: os.environ["MY_NAME"].
    """
    return job_from_message(message, folders, settings)


def prepare(job: Job, folders: Folders) -> None:
    """Runs when the inputs are in `folders.input_dir` and before the command: write or change files here."""


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Why the job failed, or None for success. What lies in `folders.output_dir` is uploaded only after success.

    As shipped: an exit code other than 0, or fewer files than the job file's `expected_files`. For a program whose exit
    code says nothing, look at its files instead:

        from distributed_something.worker import wrong_text
        return wrong_text(folders.output_dir / "done", "Complete")
    """
    return usual_failure(job, folders, result)


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure))
