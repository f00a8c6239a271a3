"""Leases: while a worker has a job, its message stays hidden from other workers.

One thread extends all leases of a container, in batched calls, a third of a lease ahead. A lease that SQS refuses to
extend, or that could not be extended before it ended, is lost: its job must stop and publish nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from distributed_something.worker.attempt.batches import split_into_batches
from distributed_something.worker.job.failures import AWS_ERRORS

LEASE_BATCH_SIZE = 10  # SQS: entries in one ChangeMessageVisibilityBatch
# SQS hides a message for at most 12 hours from its first receive, and refuses to extend beyond that; less a minute for
# clocks that differ. Source: «Amazon SQS visibility timeout», SQS's developer guide.
MAX_LEASE_SECONDS = 12 * 3600 - 60
log = logging.getLogger("worker")


class Lease:
    """One message that this worker holds until `expires`, at most until `ends` (on the clock `now`, seconds)."""

    def __init__(self, receipt: str, expires: float, ends: float, now: Callable[[], float]) -> None:
        self.receipt, self.expires, self._ends, self._now = receipt, expires, ends, now
        self.refused = False

    @property
    def seconds_left(self) -> float:
        """For how many seconds it can still be extended, in all."""
        return self._ends - self._now()

    @property
    def is_lost(self) -> bool:
        """Asked of the clock itself: a process that was frozen knows it before any thread of it could tell."""
        return self.refused or self._now() >= self.expires


class LeaseKeeper:
    """Extends the leases of one queue. `tick()` is one round; `run()` does rounds until told to end."""

    def __init__(self, sqs: Any, queue_url: str, seconds: int, now: Callable[[], float]) -> None:
        self._sqs, self._url, self._seconds, self._now = sqs, queue_url, seconds, now
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._extending = threading.Lock()  # so that nothing is extended after its release
        self._ended = threading.Event()

    def add_lease(self, receipt: str, received: float, age: float = 0.0) -> Lease:
        """Begins to extend. `received`: when the receive call was made, which is never later than SQS's own start;
        `age`: how many seconds before that the message was received for the first time."""
        lease = Lease(receipt, received + self._seconds, received + MAX_LEASE_SECONDS - age, self._now)
        with self._lock:
            self._held[receipt] = lease
        return lease

    def release_lease(self, lease: Lease) -> None:
        """Extends no more. Waits for a round at work, which would hide again a message that is given back."""
        with self._lock:
            held = self._held.pop(lease.receipt, None)
        if held is not None:
            with self._extending:
                pass

    @property
    def held_leases(self) -> list[Lease]:
        """Those that are extended: one for each job that runs, is fetched, or is uploaded here, the oldest first."""
        with self._lock:
            return list(self._held.values())

    def run(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            self.tick()

    def end(self) -> None:
        self._ended.set()

    def tick(self) -> None:
        """Extends every lease once; notes those that SQS refuses."""
        with self._extending:
            for batch in split_into_batches(self.held_leases, LEASE_BATCH_SIZE):
                self._extend_leases(batch)

    def _extend_leases(self, leases: list[Lease]) -> None:
        """What fails is tried again in the next round; the leases' own end decides."""
        try:
            self._extend_batch(leases)
        except AWS_ERRORS as error:
            log.warning("%d leases are not extended yet: %s", len(leases), error)
        except Exception:  # the loop's edge: without it no lease would be extended any more, unseen
            log.exception("leases could not be extended: trying again")

    def _extend_batch(self, leases: list[Lease]) -> None:
        asked = self._now()
        seconds = {str(n): max(0, min(self._seconds, int(lease.seconds_left))) for n, lease in enumerate(leases)}
        # 0 would give it back; one that is lost is perhaps another worker's by now.
        asked_for = {str(n): lease for n, lease in enumerate(leases) if seconds[str(n)] and not lease.is_lost}
        entries = [
            {"Id": number, "ReceiptHandle": lease.receipt, "VisibilityTimeout": seconds[number]}
            for number, lease in asked_for.items()
        ]
        if not entries:
            return
        answer = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        for entry in answer.get("Successful", []):
            lease = asked_for[entry["Id"]]
            if not lease.is_lost:  # once lost, another worker may have had it in between
                lease.expires = asked + seconds[entry["Id"]]
        for entry in answer.get("Failed", []):
            if entry.get("SenderFault"):
                asked_for[entry["Id"]].refused = True
