"""Measures the peak memory for submitting a million jobs. It must not grow with the number of jobs.

Sending a million messages over HTTP would take minutes, so a stand-in for SQS in the same process acknowledges them at
once. Everything else works as in `run.py submitJob`, including boto3 and a real client. The measured process is `python
-m tests.measure.bench.memory CONFIG JOBFILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.submission.submit import Submission, submit_jobs
from distributed_something.project.config_file import load_settings
from tests.measure.bench import child, project
from tests.measure.bench.report import Measurement


def measure_submission_memory(folder: Path, jobs: int) -> list[Measurement]:
    """Measure the time and peak memory for submitting `jobs` jobs in a new process."""
    files = project.write_project(folder / "memory", jobs)
    arguments = ["-m", "tests.measure.bench.memory", str(files.config), str(files.job_file)]
    result = child.run_python(arguments, child.build_environment())
    peak = result.peak_bytes / 1e6
    return [
        Measurement(f"submitJob, {jobs:,} jobs to a stand-in for SQS", f"{result.seconds:.0f} s"),
        Measurement("  peak memory", f"{peak:.0f} MB", "< 150 MB", peak < 150),
    ]


class InstantSqs:
    """A stand-in for an SQS client that responds to submitJob's calls at once, without a network."""

    def get_queue_url(self, **_: str) -> dict[str, str]:
        return {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/1/Bench"}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"MaximumMessageSize": "1048576"}}

    def send_message_batch(self, *, Entries: list[dict[str, str]], **_: str) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}


class InstantS3:
    """A stand-in for an S3 client that accepts submitJob's document at once."""

    def head_bucket(self, **_: str) -> dict[str, Any]:
        return {}

    def put_object(self, **_: Any) -> dict[str, Any]:
        return {}


def _submit_jobs(config: Path, path: Path) -> None:
    clients: Any = Clients(boto3.Session("test", "test", region_name="us-east-1"))
    assert clients.sqs  # create the real clients, so that their memory is included, before the stand-ins replace them
    assert clients.s3
    clients.__dict__.update(sqs=InstantSqs(), s3=InstantS3())
    job_file = load_job_file(path, lambda bucket, prefix: [])
    submission = Submission(job_file, plan_submission(job_file), SubmissionJournal(path))
    submit_jobs(
        clients,
        load_settings(config),
        submission,
        Clock(),
        progress=lambda sent, total: None,
        print_progress=lambda text: None,
    )


if __name__ == "__main__":
    _submit_jobs(*map(Path, sys.argv[1:]))
