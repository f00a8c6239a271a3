"""How many jobs a run has: those in the queue when it started, and those that were submitted later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.monitor_file import MonitorFile, parse_run_start
from distributed_something.observe.documents.submissions import (
    SubmissionReader,
    count_submitted_jobs,
    list_queue_submissions,
)
from distributed_something.observe.queue import observe_queue
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class RunStart:
    """What the queues held when a run started.

    `submissions_since`: the run includes the submissions that began at this time (seconds since 1970) or later.
    `other_jobs`: jobs in the queue that none of these submissions sent. `dead_letters`: messages in the dead-letter
    queue, which are older than the run.
    """

    submissions_since: float
    other_jobs: int
    dead_letters: int


def observe_run_start(clients: Clients, file: MonitorFile, now: float) -> RunStart:
    """Return what the queues hold now, just before the run's containers start. AWS errors are not caught.

    `now`: AWS's time, because submissions have times from AWS too.

    If this is the first run with this queue, its jobs are those of all submissions since the queue was created: SQS's
    count may still lack jobs that were sent in the last minute. Otherwise, only SQS's count tells how many jobs the
    previous run left.
    """
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    dead = observe_queue(clients.sqs, file.MONITOR_DEAD_LETTER_QUEUE) if file.MONITOR_DEAD_LETTER_QUEUE else None
    dead_letters = dead.counts.jobs if dead else 0
    if queue is None:
        return RunStart(now, 0, dead_letters)
    if _has_earlier_run(clients.s3, file, queue.created):
        return RunStart(now, queue.counts.jobs, dead_letters)
    submissions = list_queue_submissions(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME, queue)
    since = min([document.began for document in submissions], default=now)
    return RunStart(since, max(0, queue.counts.jobs - count_submitted_jobs(submissions)), dead_letters)


def observe_submitted_jobs(
    reader: SubmissionReader, file: MonitorFile, start: RunStart, until: float = math.inf
) -> int:
    """Return how many jobs the run has so far. AWS errors are not caught.

    `until`: jobs that were submitted later (in seconds since 1970) belong to the next run.
    """
    submissions = [
        document
        for document in reader.list_submissions(start.submissions_since)
        if document.queue == file.MONITOR_QUEUE_NAME and document.began <= until
    ]
    return start.other_jobs + count_submitted_jobs(submissions)


def list_runs(s3: S3Client, bucket: str, app: str) -> dict[str, float]:
    """Return when each of the app's runs started (seconds since 1970), keyed by the run's name.

    These are the runs that have documents in the bucket, oldest first. AWS errors are not caught.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=AppKeys(app).prefix, Delimiter="/")
    names = [entry["Prefix"].split("/")[-2] for page in pages for entry in page.get("CommonPrefixes", [])]
    starts = ((name, parse_run_start(name)) for name in sorted(names))
    return {name: start for name, start in starts if start is not None}


def _has_earlier_run(s3: S3Client, file: MonitorFile, since: float) -> bool:
    """Return whether the bucket has documents of another run of the app that started at `since` or later."""
    runs = list_runs(s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    return any(start >= since for name, start in runs.items() if name != file.run)
