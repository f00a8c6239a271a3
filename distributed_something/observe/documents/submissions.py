"""Observation of an app's submissions, from the documents that `submitJob` writes to the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS
from distributed_something.core.submission import (
    SubmissionDocument,
    build_submission_time,
    parse_submission,
    parse_submission_time,
)
from distributed_something.observe.queue import QueueState
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READER_THREADS = 16


def list_submissions(s3: S3Client, bucket: str, app: str, since: float = 0.0) -> list[SubmissionDocument]:
    """Return the app's submissions that began at `since` (seconds since 1970) or later, oldest first.

    This takes one request per submission and one per 1,000 submissions. A document that is not valid is left out. AWS
    errors are not caught.
    """
    prefix = AppKeys(app).submissions
    # S3 lists only keys after StartAfter, and "TIME.json" sorts after "TIME".
    start_after = f"{prefix}{build_submission_time(max(0.0, since))}"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=start_after)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    recent_keys = sorted(key for key in keys if key > start_after and _is_submission_key(key, prefix))
    if not recent_keys:
        return []
    with ThreadPoolExecutor(min(READER_THREADS, len(recent_keys))) as pool:
        documents = pool.map(lambda key: _read_submission(s3, bucket, key), recent_keys)
        return [document for document in documents if document is not None]


def list_queue_submissions(s3: S3Client, bucket: str, app: str, queue: QueueState) -> list[SubmissionDocument]:
    """Return the app's submissions to this queue since it was created, oldest first. AWS errors are not caught.

    The two times come from different clocks. SQS blocks a deleted queue's name for 60 seconds, so a submission shortly
    before the creation cannot be one to an earlier queue with this name.
    """
    since = queue.created - CLOCK_TOLERANCE_SECONDS - 1  # both clocks may be rounded to the second
    return [document for document in list_submissions(s3, bucket, app, since) if document.queue == queue.name]


def count_submitted_jobs(submissions: Sequence[SubmissionDocument]) -> int:
    """Return how many jobs these submissions sent to a queue or, if they have not ended, will send.

    Jobs that `--replace` removed from the queue are not included.
    """
    sent = (document.planned if document.ended is None else document.count for document in submissions)
    return max(0, sum(sent) - sum(document.removed for document in submissions))


def find_repeated_submission(
    submissions: Iterable[SubmissionDocument], queue: QueueState, digest: str, now: float, settling_seconds: float
) -> SubmissionDocument | None:
    """Return the latest of this queue's submissions that sent the jobs with this digest, if they may still wait.

    SQS's counts may not include jobs that were sent in the last `settling_seconds`.
    """
    sent = list(submissions)
    replaced = max((document.began for document in sent if document.removed), default=0.0)
    same = [
        document
        for document in sent
        if document.digest == digest and document.began >= replaced and (document.count or document.ended is None)
    ]
    is_settled = all(document.end is not None and now - document.end > settling_seconds for document in same)
    if not same or (is_settled and not queue.counts.jobs):
        return None
    return max(same, key=lambda document: document.time)


def _is_submission_key(key: str, prefix: str) -> bool:
    try:
        parse_submission_time(key.removeprefix(prefix).removesuffix(".json"))
    except ValueError:
        return False
    return key.endswith(".json")


def _read_submission(s3: S3Client, bucket: str, key: str) -> SubmissionDocument | None:
    try:
        return parse_submission(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ValueError:
        return None
