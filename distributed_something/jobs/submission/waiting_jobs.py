"""Removes the waiting jobs from a queue, for `submitJob --replace`.

Each job is received and then deleted, ten at a time from several threads. SQS's PurgeQueue would be a single call, but
it also deletes the messages of running jobs. Their workers would then lose their leases and discard their results.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed_something.aws.clients import SENDER_THREADS
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.core.submission import SubmissionDocument, is_same_path, parse_submission
from distributed_something.core.text import shorten_start
from distributed_something.jobs.submission.send_batches import catch_ctrl_c
from distributed_something.worker import RETRY_RUN_ATTRIBUTE, SUBMISSION_ATTRIBUTE, AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH_SIZE = 10  # SQS's limit for receiving and deleting
HIDDEN_SECONDS = 60  # if this process is killed, the jobs it was about to delete wait again after this time
# A receive call that waits asks all of SQS's servers, so an empty response means that no job is waiting. A call that
# does not wait asks only some of them.
WAIT_SECONDS = 1
DELETE_ATTEMPTS = 8
REPORT_SECONDS = 5.0
ACTION = "removing waiting jobs"


class JobSender(NamedTuple):
    """Who sent a job, from its message's attributes.

    `submission`: the time of the submission whose Job file the message was made from; "" if a script sent it.
    `retried_run`: the run whose failed job `retry` sent again; "" if it was not `retry`.
    """

    submission: str = ""
    retried_run: str = ""


class WaitingJobRemover:
    """Removes the waiting jobs from the queue at `url`; running jobs keep their messages.

    `removed`: the number of jobs removed so far; `senders`: the same by who had sent them. `report`: is called with the
    number every few seconds.
    """

    def __init__(self, sqs: SQSClient, url: str, clock: Clock, report: Callable[[int], None]) -> None:
        self._sqs, self._url, self._clock, self._report = sqs, url, clock, report
        self._lock = threading.Lock()
        self._failures: list[Exception] = []
        self._reported_at = clock.now()
        self.removed = 0
        self.senders: Counter[JobSender] = Counter()

    def remove_all(self, threads: int = SENDER_THREADS) -> None:
        """Remove jobs until none is waiting.

        After an error or Ctrl-C, complete the batches already started, and then raise the first error or
        KeyboardInterrupt. Raise CloudError if a call fails.
        """
        with catch_ctrl_c() as pressed, ThreadPoolExecutor(threads) as pool:
            for _ in range(threads):
                pool.submit(self._remove_batches, pressed)
        if self._failures:
            raise self._failures[0]
        if pressed.is_set():
            raise KeyboardInterrupt

    def _remove_batches(self, pressed: threading.Event) -> None:
        try:
            while not pressed.is_set() and not self._failures and self._remove_batch():
                pass
        except AWSError as error:
            self._failures.append(explain_aws_error(ACTION, error))
        except Exception as error:  # raised again by `remove_all`, in the main thread
            self._failures.append(error)

    def _remove_batch(self) -> bool:
        """Remove up to ten jobs. Return False if no job is waiting."""
        response = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH_SIZE,
            VisibilityTimeout=HIDDEN_SECONDS,
            WaitTimeSeconds=WAIT_SECONDS,
            MessageAttributeNames=[SUBMISSION_ATTRIBUTE, RETRY_RUN_ATTRIBUTE],
        )
        messages = response.get("Messages", [])
        if messages:
            self._delete_messages(messages)
        return bool(messages)

    def _delete_messages(self, messages: Sequence[MessageTypeDef]) -> None:
        senders = {str(number): _read_sender(message) for number, message in enumerate(messages)}
        remaining: list[Any] = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
        ]
        for attempt in range(DELETE_ATTEMPTS):
            if attempt:
                self._clock.sleep(min(0.2 * 2**attempt, 5))
            response = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=remaining)
            deleted = {entry["Id"] for entry in response.get("Successful", [])}
            self._count([senders[number] for number in deleted])
            remaining = [entry for entry in remaining if entry["Id"] not in deleted]
            if not remaining:
                return
        reason = next((entry.get("Message", entry["Code"]) for entry in response.get("Failed", [])), "no reason given")
        raise CloudError(f"SQS does not delete a job ({reason})", "run the command again", action=ACTION)

    def _count(self, deleted: Sequence[JobSender]) -> None:
        with self._lock:
            self.removed += len(deleted)
            self.senders.update(deleted)
            if self._clock.now() - self._reported_at >= REPORT_SECONDS:
                self._reported_at = self._clock.now()
                self._report(self.removed)


def describe_other_jobs(
    s3: S3Client, bucket: str, document: SubmissionDocument, senders: Mapping[JobSender, int]
) -> list[str]:
    """Return which of the removed jobs the submission that removed them does not send again, one text per source.

    `senders`: as in WaitingJobRemover. This reads the document of each submission that had sent such jobs.
    """
    jobs: Counter[str] = Counter()
    remedies: dict[str, str] = {}
    for sender, count in sorted(senders.items()):
        if document.retry_of and sender.retried_run == document.retry_of:
            continue  # an earlier `retry` of the same run
        if not sender.submission:
            source, remedy = "sent by a script, not by submitJob", "run it again"
        else:
            path = _find_job_file(s3, bucket, document.app, sender.submission)
            if path and document.path and is_same_path(path, document.path):
                continue
            remedy = "send it again" + (f", unless {shorten_start(document.path)} replaces it" if document.path else "")
            source = f"from {shorten_start(path)}" if path else "from another Job file"
        jobs[source] += count
        remedies[source] = remedy
    return [
        f"{count:,} of them {'was' if count == 1 else 'were'} {source}: {remedies[source]}"
        for source, count in jobs.items()
    ]


def _find_job_file(s3: S3Client, bucket: str, app: str, time: str) -> str:
    """Return the Job file of the submission that began at that time; "" if its document cannot be read."""
    try:
        body = s3.get_object(Bucket=bucket, Key=AppKeys(app).submission(time))["Body"].read()
        return parse_submission(body).job_file_path
    except (*AWSError, ValueError):
        return ""


def _read_sender(message: MessageTypeDef) -> JobSender:
    attributes = message.get("MessageAttributes", {})
    return JobSender(*(
        attributes[name].get("StringValue", "") if name in attributes else ""
        for name in (SUBMISSION_ATTRIBUTE, RETRY_RUN_ATTRIBUTE)
    ))  # fmt: skip
