"""Deletes messages of jobs that are through, up to ten in a call: short jobs would spend much of their time on it.

A message keeps its lease until SQS says that it is deleted, and is tried until then. Should the lease be lost all the
same, the message may come back: the job's record says that it is done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from distributed_something.worker.attempt.batches import split_into_batches
from distributed_something.worker.attempt.lease import Lease
from distributed_something.worker.job.failures import AWS_ERRORS

DELETE_BATCH_SIZE = 10  # SQS: entries in one DeleteMessageBatch
DELETE_WAIT_SECONDS = 0.5  # for more of them
DELETE_RETRY_SECONDS = 5.0  # before what SQS did not delete is tried again
MAX_FINAL_DELETES = 3  # at the container's end, without rest
log = logging.getLogger("worker")


class MessageDeleter:
    """Shared by a container's slots. `run()` sends until `end()`; `release` is told the lease of what is through."""

    def __init__(self, sqs: Any, queue_url: str, release: Callable[[Lease], None]) -> None:
        self._sqs, self._url, self._release = sqs, queue_url, release
        self._leases: list[Lease] = []
        self._changed = threading.Condition()
        self._ended = False

    def delete_soon(self, lease: Lease) -> None:
        """Soon: returns at once. To release the lease is left to this object."""
        with self._changed:
            self._leases.append(lease)
            if len(self._leases) in (1, DELETE_BATCH_SIZE):
                self._changed.notify()

    def run(self) -> None:
        while self._wait_for_batch():
            if not self.send_all():
                self._wait_before_retry()
        for _ in range(MAX_FINAL_DELETES):
            if self.send_all():
                break

    def end(self) -> None:
        """What is left is sent at once, and `run` returns."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def send_all(self) -> bool:
        """Sends all that there is, once; whether nothing of it must be sent again."""
        with self._changed:
            leases, self._leases = self._leases, []
        left: list[Lease] = []
        for batch in split_into_batches(leases, DELETE_BATCH_SIZE):
            left += self._send_batch(batch)
        with self._changed:
            self._leases += left
        return not left

    def _send_batch(self, leases: list[Lease]) -> list[Lease]:
        """Those that are to be sent again."""
        settled = self._try_delete_messages(leases)
        left = [lease for n, lease in enumerate(leases) if str(n) not in settled and not lease.is_lost]
        for lease in leases:
            if lease not in left:
                self._release(lease)
        return left

    def _try_delete_messages(self, leases: list[Lease]) -> set[str]:
        """Which of them, by their numbers, are deleted or will never be."""
        try:
            return self._send_delete_batch(leases)
        except AWS_ERRORS as error:
            log.warning("%d messages of done jobs are not deleted yet: %s", len(leases), error)
        except Exception:  # the loop's edge: without it no message would be deleted any more, unseen
            log.exception("messages of done jobs could not be deleted: trying again")
        return set()

    def _send_delete_batch(self, leases: list[Lease]) -> set[str]:
        entries = [{"Id": str(n), "ReceiptHandle": lease.receipt} for n, lease in enumerate(leases)]
        answer = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        failed = answer.get("Failed", [])
        for entry in failed:
            log.warning("a message of a done job is not deleted: %s", entry.get("Message"))
        for_good = [entry for entry in failed if entry.get("SenderFault")]
        return {entry["Id"] for entry in (*answer.get("Successful", []), *for_good)}

    def _wait_for_batch(self) -> bool:
        """Whether to go on: some time after the first lease, or as soon as a batch is full."""
        with self._changed:
            while not self._leases and not self._ended:
                self._changed.wait()
            self._changed.wait_for(lambda: self._ended or len(self._leases) >= DELETE_BATCH_SIZE, DELETE_WAIT_SECONDS)
            return not self._ended

    def _wait_before_retry(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, DELETE_RETRY_SECONDS)
