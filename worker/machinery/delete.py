"""Deletes messages of jobs that are through, up to ten in a call: short jobs would spend much of their time on it.

A message whose deletion is still to come is hidden by the rest of its lease. If it comes back after all, the job's
record says that it is done.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from .failures import AWS_ERRORS

BATCH = 10  # SQS: entries in one DeleteMessageBatch
WAIT_SECONDS = 0.5  # for more of them; a lease has at least six seconds left
log = logging.getLogger("worker")


class Deleter:
    """Shared by a container's slots. `run()` sends until `end()`."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs, self._url = sqs, queue_url
        self._receipts: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def delete(self, receipt: str) -> None:
        """Soon. Returns at once."""
        with self._changed:
            self._receipts.append(receipt)
            if len(self._receipts) in (1, BATCH):
                self._changed.notify()

    def run(self) -> None:
        while self._wait():
            self.send()
        self.send()

    def end(self) -> None:
        """What is left is sent at once, and `run` returns."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def send(self) -> None:
        """Sends all that there is. What SQS refuses comes back when its lease ends, and is skipped then."""
        with self._changed:
            receipts, self._receipts = self._receipts, []
        for first in range(0, len(receipts), BATCH):
            entries = [
                {"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(receipts[first : first + BATCH])
            ]
            try:
                failed = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries).get("Failed", [])
            except AWS_ERRORS as error:
                log.warning("%d messages of done jobs are not deleted, and will be skipped: %s", len(entries), error)
            else:
                for entry in failed:
                    log.warning("a message of a done job is not deleted, and will be skipped: %s", entry.get("Message"))

    def _wait(self) -> bool:
        """Whether to go on: some time after the first receipt, or as soon as a batch is full."""
        with self._changed:
            while not self._receipts and not self._ended:
                self._changed.wait()
            self._changed.wait_for(lambda: self._ended or len(self._receipts) >= BATCH, WAIT_SECONDS)
            return not self._ended
