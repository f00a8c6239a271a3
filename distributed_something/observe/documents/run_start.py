"""How many jobs a run has: those in the queue when it started, and those that were submitted later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.monitor_file import MonitorFile, parse_run_start
from distributed_something.core.submission import parse_submission_time
from distributed_something.observe.documents.submissions import (
    SubmissionReader,
    count_waiting_jobs,
    list_queue_submissions,
)
from distributed_something.observe.queue import observe_queue
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class RunStart:
    """What the queues held when a run started.

    `submissions_since`: the run also includes the submissions that began at this time (seconds since 1970) or later.
    `other_jobs`: jobs that were sent before. `dead_letters`: messages in the dead-letter queue, which are older than
    the run. `unfinished`: earlier submissions that had not sent all of their jobs, as the time in their documents and
    the number of jobs that `other_jobs` includes. They, or `--resume`, may send more jobs during the run.
    """

    submissions_since: float
    other_jobs: int
    dead_letters: int
    unfinished: tuple[tuple[str, int], ...] = ()


def observe_run_start(clients: Clients, file: MonitorFile, settling_seconds: float, now: float) -> RunStart:
    """Return what the queues hold now, just before the run's containers start. AWS errors are not caught.

    `now`: AWS's time, because submissions have times from AWS too. SQS's count may lack jobs that were sent in the last
    `settling_seconds`. If some were, the documents say how many jobs the queue holds at least.
    """
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    dead = observe_queue(clients.sqs, file.MONITOR_DEAD_LETTER_QUEUE) if file.MONITOR_DEAD_LETTER_QUEUE else None
    dead_letters = dead.counts.jobs if dead else 0
    if queue is None:
        return RunStart(now, 0, dead_letters)
    submissions = list_queue_submissions(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME, queue, now)
    unfinished = tuple((document.time, document.sent) for document in submissions if document.count < document.planned)
    recent = [document for document in submissions if document.end is None or now - document.end <= settling_seconds]
    known = submissions if recent and not _has_earlier_run(clients.s3, file, queue.created) else recent
    return RunStart(now, max(queue.counts.jobs, count_waiting_jobs(known)), dead_letters, unfinished)


@dataclass(frozen=True)
class SubmittedJobs:
    """The jobs of a run so far.

    `count`: how many there are. `is_sending`: whether a submission has not ended yet, so that not all of them are in
    the queue. `replaced_at`: when `submitJob --replace` last removed the waiting jobs during the run, in seconds since
    1970; None if it did not. `replacing`: how many jobs `submitJob --replace` will send once it has removed the
    waiting ones, which it is doing; None if it is not.
    """

    count: int
    is_sending: bool = False
    replaced_at: float | None = None
    replacing: int | None = None


def observe_submitted_jobs(
    reader: SubmissionReader, file: MonitorFile, start: RunStart, now: float, until: float = math.inf
) -> SubmittedJobs:
    """Return the jobs of the run so far. AWS errors are not caught.

    `until`: jobs that were submitted later (in seconds since 1970) belong to the next run.
    """
    sent_before = dict(start.unfinished)
    since = min([start.submissions_since, *map(parse_submission_time, sent_before)])
    documents = [
        document
        for document in reader.list_submissions(since, now)
        if document.queue == file.MONITOR_QUEUE_NAME
        and document.began <= until
        and (document.began >= start.submissions_since or document.time in sent_before)
    ]
    jobs = start.other_jobs
    for document in documents:
        if document.began >= start.submissions_since:
            jobs += document.sent - document.removed
        else:
            jobs += document.sent - sent_before[document.time]  # fewer if the process was killed
    removals = [document.removal_end for document in documents if document.removal_end is not None]
    is_sending = any(document.ended is None for document in documents)
    replacing = [document.planned for document in documents if document.is_removing]
    return SubmittedJobs(max(0, jobs), is_sending, max(removals, default=None), max(replacing, default=None))


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
