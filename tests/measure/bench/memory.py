"""Peak memory of submitting very many jobs: it must not grow with their number.

A million messages over HTTP would take minutes, so a stand-in inside the process acknowledges at once; all else is
what `run.py submitJob` does, boto3 loaded and a client made. Run it as
`python -m tests.measure.bench.memory CONFIG JOBFILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.config_settings import load_settings
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.submission_journal import SubmissionJournal
from distributed_something.jobs.submission_plan import plan_submission
from distributed_something.jobs.submit import Submission, submit_jobs
from tests.measure.bench import child, project
from tests.measure.bench.report import Line


def lines(folder: Path, count: int) -> list[Line]:
    """Peak memory and time of `count` jobs in a process of their own."""
    made = project.make(folder / "memory", count)
    measured = child.run(
        ["-m", "tests.measure.bench.memory", str(made.config), str(made.job_file)], child.environment()
    )
    peak = measured.peak_bytes / 1e6
    return [
        Line(f"{count:,} jobs to a stand-in for SQS, at once", f"{measured.seconds:.0f} s"),
        Line("  peak memory of it", f"{peak:.0f} MB", "< 150 MB", peak < 150),
    ]


class AtOnce:
    """The calls of an SQS client that submitJob makes, each answered without a network."""

    def get_queue_url(self, **_: str) -> dict[str, str]:
        return {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/1/Bench"}

    def send_message_batch(self, *, Entries: list[dict[str, str]], **_: str) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def list_queue_tags(self, **_: str) -> dict[str, Any]:
        return {}

    def tag_queue(self, **_: Any) -> dict[str, Any]:
        return {}


def _submit(config: Path, path: Path) -> None:
    clients: Any = Clients(boto3.Session("test", "test", region_name="us-east-1"))
    assert clients.sqs  # the real one, for its memory, before the stand-in takes its place
    clients.__dict__["sqs"] = AtOnce()
    job_file = load_job_file(path, lambda bucket, prefix: [])
    journal = SubmissionJournal(path.parent / ".journal", resume=False)
    submission = Submission(job_file, plan_submission(job_file), journal)
    submit_jobs(
        load_settings(config), clients, submission, Clock(), progress=lambda sent, total: None, say=lambda text: None
    )


if __name__ == "__main__":
    _submit(*map(Path, sys.argv[1:]))
