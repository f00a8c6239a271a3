"""What a run did, read from what its workers wrote: a record a job in the bucket, and the dead-letter queue.

The number of records is counted by listing (one call a thousand jobs); only the records of failed jobs are opened.
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


MAX_FAILED_JOBS_READ = 1000  # failed jobs that a summary opens; the count is of all
MESSAGES_PER_CALL = 10  # SQS: in one call
_PEEK_LEASE_SECONDS = 60  # how long a look into the dead-letter queue hides its messages from others


@dataclass(frozen=True)
class FailedJob:
    """A job in the dead-letter queue, and why."""

    job: str
    reason: str
    attempts: int | None
    exit_code: int | None
    last_lines: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: jobs done, jobs in the dead-letter queue, and those of them that could be looked at."""

    done: int
    dead: int
    failed: list[FailedJob] = field(default_factory=list)


def build_records_prefix(monitor_file: MonitorFile) -> str:
    """Where the run's records and logs lie in the bucket."""
    return monitor_file.keys.jobs


def summarize_records(clients: Clients, monitor_file: MonitorFile, dead_letter_queue: str) -> RunSummary:
    """Counts records, opens those of failed jobs. Raises botocore's errors."""
    bucket, prefix = monitor_file.MONITOR_BUCKET_NAME, build_records_prefix(monitor_file)
    keys = (found["Key"] for found in iter_bucket_objects(clients.s3, bucket, prefix))
    recorded = {key for key in keys if key.endswith(".json") and "/" not in key[len(prefix) :]}  # not failed/JOB/…
    dead, messages = _read_dead_letters(clients.sqs, dead_letter_queue)
    failed = [_load_failed_job(clients.s3, bucket, prefix, message) for message in messages]
    not_done = sum(f"{prefix}{one.job}.json" in recorded for one in failed)
    return RunSummary(len(recorded) - not_done, dead, failed)


def _read_dead_letters(sqs: SQSClient, name: str) -> tuple[int, list[Any]]:
    """Return how many messages the dead-letter queue holds, and the first of them; none where it is gone."""
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


def _peek_messages(sqs: SQSClient, url: str, most: int) -> list[Any]:
    """Up to `most` messages of the queue, left in it."""
    found: dict[str, Any] = {}
    while len(found) < most:
        messages = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=MESSAGES_PER_CALL,
            VisibilityTimeout=_PEEK_LEASE_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not messages:
            break
        found.update((message["MessageId"], message) for message in messages)
    _release_messages(sqs, url, list(found.values()))
    return list(found.values())


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
        told = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "its message cannot be read")
        return FailedJob(f"message {message['MessageId']}", told, None, None, (), "")
    try:
        record = json.loads(s3_client.get_object(Bucket=bucket, Key=f"{prefix}{job}.json")["Body"].read())
    except (*AWSError, ValueError):
        told = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
        return FailedJob(job, told or "no record: its worker was killed at each attempt", None, None, (), "")
    return FailedJob(
        job=job,
        reason=str(record.get("reason") or "no reason given"),
        attempts=record.get("attempts"),
        exit_code=record.get("exit_code"),
        last_lines=tuple(str(line) for line in record.get("last_lines") or ()),
        log=str(record.get("log") or ""),
    )
