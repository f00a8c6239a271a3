"""Removes the waiting jobs from a queue, for `submitJob --replace`.

Each job is received and then deleted, ten at a time from several threads. SQS's PurgeQueue would be a single call, but
it also deletes the messages of running jobs. Their workers would then lose their leases and discard their results.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import SENDER_THREADS
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.jobs.submission.send_batches import catch_ctrl_c

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH_SIZE = 10  # SQS's limit for receiving and deleting
HIDDEN_SECONDS = 60  # if this process is killed, the jobs it was about to delete wait again after this time
# A receive call that waits asks all of SQS's servers, so an empty response means that no job is waiting. A call that
# does not wait asks only some of them.
WAIT_SECONDS = 1
DELETE_ATTEMPTS = 8
REPORT_SECONDS = 5.0
ACTION = "removing waiting jobs"


class WaitingJobRemover:
    """Removes the waiting jobs from the queue at `url`; running jobs keep their messages.

    `removed`: the number of jobs removed so far. `report`: is called with this number every few seconds.
    """

    def __init__(self, sqs: SQSClient, url: str, clock: Clock, report: Callable[[int], None]) -> None:
        self._sqs, self._url, self._clock, self._report = sqs, url, clock, report
        self._lock = threading.Lock()
        self._failures: list[Exception] = []
        self._reported_at = clock.now()
        self.removed = 0

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
        )
        receipts = [message["ReceiptHandle"] for message in response.get("Messages", [])]
        if receipts:
            self._delete_messages(receipts)
        return bool(receipts)

    def _delete_messages(self, receipts: list[str]) -> None:
        remaining: list[Any] = [{"Id": str(number), "ReceiptHandle": text} for number, text in enumerate(receipts)]
        for attempt in range(DELETE_ATTEMPTS):
            if attempt:
                self._clock.sleep(min(0.2 * 2**attempt, 5))
            response = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=remaining)
            deleted = {entry["Id"] for entry in response.get("Successful", [])}
            self._count(len(deleted))
            remaining = [entry for entry in remaining if entry["Id"] not in deleted]
            if not remaining:
                return
        reason = next((entry.get("Message", entry["Code"]) for entry in response.get("Failed", [])), "no reason given")
        raise CloudError(f"SQS does not delete a job ({reason})", "run the command again", action=ACTION)

    def _count(self, deleted: int) -> None:
        with self._lock:
            self.removed += deleted
            if self._clock.now() - self._reported_at >= REPORT_SECONDS:
                self._reported_at = self._clock.now()
                self._report(self.removed)
