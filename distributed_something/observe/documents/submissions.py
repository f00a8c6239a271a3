"""Observation of an app's submissions, from the documents that `submitJob` writes to the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS
from distributed_something.core.submission import (
    SubmissionDocument,
    build_submission_time,
    is_same_path,
    parse_submission,
    parse_submission_time,
)
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.queue import QueueState
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


SILENT_SECONDS = 120.0  # `submitJob` writes its document about every 10 seconds


class SubmissionReader:
    """Reads an app's submission documents. Those that it has read are kept until they change.

    A document is written again while jobs are being sent, and also by `submitJob --resume` after it has ended.
    """

    def __init__(self, s3: S3Client, bucket: str, app: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, AppKeys(app).submissions
        self._documents: dict[str, tuple[str, SubmissionDocument | None]] = {}  # by key, with the object's ETag

    def list_submissions(self, since: float, now: float) -> list[SubmissionDocument]:
        """Return the app's submissions that began at `since` or later, oldest first; times are in seconds since 1970.

        A submission that has not ended and has not reported its progress for SILENT_SECONDS was killed. It is returned
        as one that ended when it last did. This takes one request per 1,000 submissions and one per submission that is
        new or has changed. A document that is not valid is left out. AWS errors are not caught.
        """
        items = self._list_items(since)
        changed = [key for key, (etag, _) in items.items() if self._documents.get(key, ("",))[0] != etag]
        for key, document in read_in_parallel(changed, self._read_document):
            self._documents[key] = (items[key][0], document)
        documents: list[SubmissionDocument] = []
        for key, (_, written_at) in sorted(items.items()):
            document = self._documents[key][1]
            if document is not None and document.ended is None and now - written_at > SILENT_SECONDS:
                document = replace(document, ended=build_submission_time(written_at))
            documents += [document] if document is not None else []
        return documents

    def _list_items(self, since: float) -> dict[str, tuple[str, float]]:
        """Return each document's ETag and the time when it was written (seconds since 1970), by its key."""
        # S3 lists only keys after StartAfter, and "TIME.json" sorts after "TIME".
        start_after = f"{self._prefix}{build_submission_time(max(0.0, since))}"
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, StartAfter=start_after
        )
        items = (item for page in pages for item in page.get("Contents", []))
        return {
            item["Key"]: (item["ETag"], item["LastModified"].timestamp())
            for item in items
            if item["Key"] > start_after and _is_submission_key(item["Key"], self._prefix)
        }

    def _read_document(self, key: str) -> SubmissionDocument | None:
        try:
            return parse_submission(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except ValueError:
            return None


def list_queue_submissions(
    s3: S3Client, bucket: str, app: str, queue: QueueState, now: float
) -> list[SubmissionDocument]:
    """Return the app's submissions to this queue since it was created, oldest first. AWS errors are not caught.

    The two times come from different clocks. SQS blocks a deleted queue's name for 60 seconds, so a submission shortly
    before the creation cannot be one to an earlier queue with this name.
    """
    since = queue.created - CLOCK_TOLERANCE_SECONDS - 1  # both clocks may be rounded to the second
    submissions = SubmissionReader(s3, bucket, app).list_submissions(since, now)
    return [document for document in submissions if document.queue == queue.name]


def count_waiting_jobs(submissions: Sequence[SubmissionDocument]) -> int:
    """Return how many of the jobs that these submissions sent are in the queue, if no job has run yet.

    `submissions`: oldest first. A complete `--replace` has removed all earlier ones.
    """
    replacements = [number for number, document in enumerate(submissions) if document.replaced]
    first = max(replacements, default=-1)
    sent = sum(document.sent for document in submissions[max(first, 0) :])
    return max(0, sent - sum(document.removed for document in submissions[first + 1 :]))


def has_recent_submission(submissions: Iterable[SubmissionDocument], now: float, settling_seconds: float) -> bool:
    """Return whether SQS's counts may not include jobs yet that one of these submissions sent.

    A submission that has not ended is judged by its beginning: SQS counts at least its first jobs by then.
    """
    return any(
        now - (document.began if document.end is None else document.end) < settling_seconds
        and (document.count or document.end is None)
        for document in submissions
    )


def find_repeated_submission(
    submissions: Iterable[SubmissionDocument],
    queue: QueueState,
    digests: frozenset[str],
    now: float,
    settling_seconds: float,
    path: str = "",
) -> SubmissionDocument | None:
    """Return the latest of this queue's submissions that sent the same jobs, if they may still wait.

    `digests`: of the messages and of the job IDs; one of them must be the same. Otherwise, the latest one from the Job
    file at `path` is returned, which may have been changed since. SQS's counts may not include jobs that were sent in
    the last `settling_seconds`.
    """
    sent = list(submissions)
    replaced = max((document.began for document in sent if document.replaced), default=0.0)
    current = [item for item in sent if item.began >= replaced and (item.count or item.ended is None)]
    same = [item for item in current if digests & {item.digest, item.jobs_digest} - {""}]
    same = same or [item for item in current if path and item.path and is_same_path(item.path, path)]
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
