"""The jobs that `retry` sends again: their messages, and the list in the bucket that says which ones were sent.

The list lets the next `retry` leave out jobs that are still in the queue, on any computer. It contains all jobs before
the first one is sent; if not all of them were sent, it is corrected at the end or, if the process was killed, by the
next `retry`, which finds the journal of the submission.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.core.files import read_json_object
from distributed_something.core.submission import (
    RetryList,
    SubmissionDocument,
    build_retry_list,
    build_submission_time,
    parse_retry_list,
)
from distributed_something.jobs.job_file import JobFile, parse_job_file
from distributed_something.jobs.job_keys import OwnNames
from distributed_something.jobs.sources import ObjectLister
from distributed_something.jobs.submission.document import DocumentWriter
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import SubmissionPlan, plan_submission
from distributed_something.worker import (
    AGAIN_ATTRIBUTE,
    RETRY_JOB_ATTRIBUTE,
    RETRY_RUN_ATTRIBUTE,
    SUBMISSION_ATTRIBUTE,
    RunKeys,
    job_id,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GROUPS_KEYS = ("groups", "plates")
Message = Mapping[str, Any] | str  # a string if the worker could not read the message


@dataclass(frozen=True)
class FailedMessage:
    """A failed job and its message. `again_since`: the attribute from `submitJob --again`, or "".

    `submission`: the time of the submission whose Job file the message was made from; "" if a script sent it.
    """

    job: str
    message: Message
    again_since: str = ""
    submission: str = ""


@dataclass(frozen=True)
class RetrySource:
    """Messages to send again, in the form in which `submit_jobs` expects a Job file. `path`: for error messages."""

    path: Path
    uploads: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RetryBatch:
    """The messages that `retry` sends, and the plan for their submission.

    `keys`: of the run in which the jobs failed. `sent`: for each message, the failed job that it repeats. `jobs`: the
    ID of the new message's job, keyed by the failed job's ID. The IDs differ only with a corrected Job file.
    """

    keys: RunKeys
    source: RetrySource | JobFile
    plan: SubmissionPlan
    sent: tuple[FailedMessage, ...]
    jobs: dict[str, str]

    @property
    def name(self) -> str:
        """What the submission's document says instead of a Job file's name."""
        return f"retry of {self.keys.run}"

    def build_attributes(self, time: str, number: int) -> dict[str, Any]:
        """Return the attributes of the message with this index, in SQS's form. `time`: of this submission."""
        failed = self.sent[number]
        texts = {
            RETRY_RUN_ATTRIBUTE: self.keys.run,
            RETRY_JOB_ATTRIBUTE: failed.job,
            AGAIN_ATTRIBUTE: failed.again_since,
            # Unchanged messages are still those of the first submission's Job file.
            SUBMISSION_ATTRIBUTE: time if isinstance(self.source, JobFile) else failed.submission,
        }
        return {name: {"DataType": "String", "StringValue": text} for name, text in texts.items() if text}


def repeat_messages(
    keys: RunKeys, path: Path, failed: Sequence[FailedMessage], timeout_minutes: float | None
) -> RetryBatch:
    """Return the original messages with, if given, another time limit, which is not part of a job's ID."""
    bodies = tuple(_encode_message(job.message, timeout_minutes) for job in failed)
    digest = hashlib.sha256("".join(bodies).encode()).hexdigest()
    plan = SubmissionPlan(len(bodies), bodies[0] if bodies else "", digest, bodies=bodies)
    return RetryBatch(keys, RetrySource(path), plan, tuple(failed), {job.job: job.job for job in failed})


def correct_messages(
    keys: RunKeys,
    job_file: Path,
    failed: Sequence[FailedMessage],
    timeout_minutes: float | None,
    list_objects: ObjectLister,
    own_names: OwnNames | None = None,
) -> RetryBatch:
    """Return messages with the shared keys of a Job file and the groups of the failed jobs.

    Each message must contain a group. Raise InputError, which lists all problems, under the same conditions as
    `submitJob`; the Job file's own groups are ignored. `own_names`: as for `parse_job_file`.
    """
    content = {key: value for key, value in read_json_object(job_file, "a job file").items() if key not in GROUPS_KEYS}
    if timeout_minutes is not None:
        content["timeout_minutes"] = timeout_minutes
    by_group: dict[str, list[FailedMessage]] = {}
    for job in failed:
        by_group.setdefault(json.dumps(_get_group(job.message), sort_keys=True), []).append(job)
    groups = [_get_group(jobs[0].message) for jobs in by_group.values()]
    first_jobs = tuple(jobs[0].job for jobs in by_group.values())
    corrected = parse_job_file(job_file, content | {"groups": groups}, list_objects, own_names, failed_jobs=first_jobs)
    plan = plan_submission(corrected)
    new_ids = (job_id(json.loads(body)) for body in plan.bodies)
    jobs = {job.job: new_id for same, new_id in zip(by_group.values(), new_ids, strict=True) for job in same}
    return RetryBatch(keys, corrected, plan, tuple(same[0] for same in by_group.values()), jobs)


def count_unchanged_messages(batch: RetryBatch) -> int:
    """Return how many of the messages are the ones that failed."""
    bodies = zip(batch.plan.bodies, batch.sent, strict=True)
    return sum(json.loads(body) == failed.message for body, failed in bodies)


def has_group(message: Message) -> bool:
    """Return whether the message could be read, so that its group can be used in another message."""
    return bool(_get_group(message))


def _get_group(message: Message) -> Any:
    return message.get("group") if isinstance(message, Mapping) else None


def _encode_message(message: Message, timeout_minutes: float | None) -> str:
    if isinstance(message, str):
        return message
    return json.dumps(message if timeout_minutes is None else {**message, "timeout_minutes": timeout_minutes})


def write_retry_list(s3: S3Client, bucket: str, keys: RunKeys, retries: RetryList) -> None:
    """Write the list of jobs that are sent again. AWS errors are not caught."""
    body = build_retry_list(retries)
    s3.put_object(Bucket=bucket, Key=keys.retry(retries.time), Body=body, ContentType="application/json")


def select_sent_jobs(retries: RetryList, is_sent: Callable[[int], bool]) -> RetryList:
    """Return the list without the jobs whose messages were not sent. Messages are numbered from 0."""
    new_ids = [new_id for number, new_id in enumerate(dict.fromkeys(retries.jobs.values())) if is_sent(number)]
    sent = set(new_ids)
    return replace(retries, jobs={job: new_id for job, new_id in retries.jobs.items() if new_id in sent})


def settle_interrupted_retry(
    s3: S3Client, bucket: str, keys: RunKeys, journal: SubmissionJournal, writer: DocumentWriter
) -> int:
    """Correct what an interrupted `retry` wrote to the bucket, and return how many jobs it sent.

    Afterwards, its list and its submission's document contain only these jobs. This may be repeated, so the journal is
    kept. AWS errors are not caught.
    """
    interrupted = journal.read_sent_jobs()
    if interrupted is None:
        return 0
    document, numbers = interrupted
    retries = _read_retry_list(s3, bucket, keys.retry(document.time))
    if retries is not None:
        write_retry_list(s3, bucket, keys, select_sent_jobs(retries, numbers.__contains__))
    writer.write(_end_document(document, len(numbers), writer.now))
    return len(numbers)


def _read_retry_list(s3: S3Client, bucket: str, key: str) -> RetryList | None:
    try:
        return parse_retry_list(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if is_missing_object(error):  # the process was killed before it sent the first job
            return None
        raise
    except ValueError:
        return None


def _end_document(document: SubmissionDocument, count: int, now: float) -> SubmissionDocument:
    return replace(document, count=count, ended=document.ended or build_submission_time(now))
