"""Deletes the messages of finished jobs in batches of up to ten, because a call per message would slow short jobs down.

A message keeps its lease, and a failed deletion is retried, until SQS confirms the deletion. If the lease is lost
anyway, the message may be delivered again; the job's record then shows that the job is done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from distributed_something.worker.attempt.lease import Lease
from distributed_something.worker.batches import split_into_batches
from distributed_something.worker.job.failures import AWS_ERRORS

DELETE_BATCH_SIZE = 10  # SQS limit for one DeleteMessageBatch call
DELETE_WAIT_SECONDS = 0.5  # how long to wait for a batch to fill
DELETE_RETRY_SECONDS = 5.0  # pause before failed deletions are retried
MAX_FINAL_DELETES = 3  # rounds of deletion, without a pause, when the container stops
log = logging.getLogger("worker")


class MessageDeleter:
    """Deletes messages for all slots of a container.

    `run()` sends batches until `end()`. `release` is called with a message's lease once the message is deleted or
    cannot be deleted.
    """

    def __init__(self, sqs: Any, queue_url: str, release: Callable[[Lease], None]) -> None:
        self._sqs, self._url, self._release = sqs, queue_url, release
        self._leases: list[Lease] = []
        self._changed = threading.Condition()
        self._ended = False

    def delete_soon(self, lease: Lease) -> None:
        """Queue the lease's message for deletion and return at once. The deleter releases the lease."""
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
        """Make `run` delete the remaining messages and return."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def send_all(self) -> bool:
        """Try once to delete all queued messages, and return whether none of them must be retried."""
        with self._changed:
            leases, self._leases = self._leases, []
        remaining: list[Lease] = []
        for batch in split_into_batches(leases, DELETE_BATCH_SIZE):
            remaining += self._send_batch(batch)
        with self._changed:
            self._leases += remaining
        return not remaining

    def _send_batch(self, leases: list[Lease]) -> list[Lease]:
        """Send one batch of deletions, and return the leases whose deletions must be retried."""
        settled = self._try_delete_messages(leases)
        remaining = [lease for n, lease in enumerate(leases) if str(n) not in settled and not lease.is_lost]
        for lease in leases:
            if lease not in remaining:
                self._release(lease)
        return remaining

    def _try_delete_messages(self, leases: list[Lease]) -> set[str]:
        """Return the positions (as text) of the leases whose messages are deleted or cannot be deleted."""
        try:
            return self._send_delete_batch(leases)
        except AWS_ERRORS as error:
            log.warning(
                "%d messages of finished jobs could not be deleted; this will be retried: %s", len(leases), error
            )
        except Exception:  # otherwise this thread would end unnoticed and delete no more messages
            log.exception("messages of finished jobs could not be deleted; this will be retried")
        return set()

    def _send_delete_batch(self, leases: list[Lease]) -> set[str]:
        entries = [{"Id": str(n), "ReceiptHandle": lease.receipt} for n, lease in enumerate(leases)]
        response = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        failed = response.get("Failed", [])
        for entry in failed:
            log.warning("SQS did not delete a finished job's message: %s", entry.get("Message"))
        permanent_failures = [entry for entry in failed if entry.get("SenderFault")]
        return {entry["Id"] for entry in (*response.get("Successful", []), *permanent_failures)}

    def _wait_for_batch(self) -> bool:
        """Wait until a batch is full or its first message has waited long enough, and return whether to continue."""
        with self._changed:
            while not self._leases and not self._ended:
                self._changed.wait()
            self._changed.wait_for(lambda: self._ended or len(self._leases) >= DELETE_BATCH_SIZE, DELETE_WAIT_SECONDS)
            return not self._ended

    def _wait_before_retry(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, DELETE_RETRY_SECONDS)
