"""The outcome of a run, read from the records in the bucket (one per job) and from the dead-letter queue.

Records are counted by listing them (one call per 1,000 jobs); only the records of failed jobs are opened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.aws.sqs import is_missing_queue_error
from distributed_something.core.errors import AWSError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.queue import observe_queue
from distributed_something.worker import job_id, split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


MAX_FAILED_JOBS_READ = 1000  # a summary counts all failed jobs, but reads at most this many of their records
MESSAGES_PER_CALL = 10  # the maximum that SQS allows
_PEEK_LEASE_SECONDS = 60  # how long a message that was read stays hidden from other readers


@dataclass(frozen=True)
class FailedJob:
    """A job in the dead-letter queue, and why it failed."""

    job: str
    reason: str
    attempts: int | None
    exit_code: int | None
    last_lines: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a run.

    `done`: the number of jobs done. `dead`: the number of jobs in the dead-letter queue. `failed`: details about the
    jobs in the dead-letter queue.
    """

    done: int
    dead: int
    failed: list[FailedJob] = field(default_factory=list)


def build_records_prefix(monitor_file: MonitorFile) -> str:
    """Return the prefix of the run's records and logs in the bucket."""
    return monitor_file.keys.jobs


def summarize_records(clients: Clients, monitor_file: MonitorFile, dead_letter_queue: str) -> RunSummary:
    """Count the records, and read the records of failed jobs. AWS errors are not caught."""
    bucket, prefix = monitor_file.MONITOR_BUCKET_NAME, build_records_prefix(monitor_file)
    keys = (item["Key"] for item in iter_bucket_objects(clients.s3, bucket, prefix))
    recorded = {key for key in keys if key.endswith(".json") and "/" not in key[len(prefix) :]}  # excludes failed/JOB/…
    dead, messages = _read_dead_letters(clients.sqs, dead_letter_queue)
    failed = [_load_failed_job(clients.s3, bucket, prefix, message) for message in messages]
    failed_records = sum(f"{prefix}{job.job}.json" in recorded for job in failed)
    return RunSummary(len(recorded) - failed_records, dead, failed)


def _read_dead_letters(sqs: SQSClient, name: str) -> tuple[int, list[Any]]:
    """Return how many messages are in the dead-letter queue, and up to MAX_FAILED_JOBS_READ of them.

    If the queue does not exist, return 0 and an empty list.
    """
    queue = observe_queue(sqs, name)
    if queue is None or not queue.counts.jobs:
        return 0, []
    try:
        messages = _peek_messages(sqs, queue.url, min(queue.counts.jobs, MAX_FAILED_JOBS_READ))
    except ClientError as error:
        if is_missing_queue_error(error):
            return 0, []
        raise
    return queue.counts.jobs, messages


def _peek_messages(sqs: SQSClient, url: str, limit: int) -> list[Any]:
    """Return up to `limit` messages from the queue without removing them."""
    messages_by_id: dict[str, Any] = {}
    while len(messages_by_id) < limit:
        messages = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=MESSAGES_PER_CALL,
            VisibilityTimeout=_PEEK_LEASE_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not messages:
            break
        messages_by_id.update((message["MessageId"], message) for message in messages)
    _release_messages(sqs, url, list(messages_by_id.values()))
    return list(messages_by_id.values())


def _release_messages(sqs: SQSClient, url: str, messages: list[Any]) -> None:
    for batch in split_into_batches(messages, MESSAGES_PER_CALL):
        sqs.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
                for n, message in enumerate(batch)
            ],
        )


def _load_failed_job(s3_client: S3Client, bucket: str, prefix: str, message: Any) -> FailedJob:
    try:
        job = job_id(json.loads(message["Body"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        reason = _get_reason(message) or "its message cannot be read"
        return FailedJob(f"message {message['MessageId']}", reason, None, None, (), "")
    try:
        record = json.loads(s3_client.get_object(Bucket=bucket, Key=f"{prefix}{job}.json")["Body"].read())
    except (*AWSError, ValueError):
        reason = _get_reason(message) or "no record: the worker was killed during every attempt"
        return FailedJob(job, reason, None, None, (), "")
    return FailedJob(
        job=job,
        reason=str(record.get("reason") or "no reason given"),
        attempts=record.get("attempts"),
        exit_code=record.get("exit_code"),
        last_lines=tuple(str(line) for line in record.get("last_lines") or ()),
        log=str(record.get("log") or ""),
    )


def _get_reason(message: Any) -> str | None:
    """Return why the worker sent this message to the dead-letter queue, or None if SQS moved it there."""
    reason: str | None = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
    return reason
