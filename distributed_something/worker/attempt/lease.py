"""Leases: while a worker processes a job, the job's message stays hidden from other workers.

One thread extends all of a container's leases in batches, each time a third of their duration has passed. A lease is
lost if SQS rejects an extension or if the lease expires first; the job must then stop and publish nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from distributed_something.worker.batches import split_into_batches
from distributed_something.worker.job.failures import AWS_ERRORS

LEASE_BATCH_SIZE = 10  # SQS limit for one ChangeMessageVisibilityBatch call
# SQS hides a message for at most 12 hours after its first receive and rejects longer extensions. One minute is
# subtracted because clocks differ. Source: "Amazon SQS visibility timeout" in the SQS developer guide.
MAX_LEASE_SECONDS = 12 * 3600 - 60
log = logging.getLogger("worker")


class Lease:
    """A message's visibility timeout, which lasts until `expires` and can be extended until `ends` at most.

    Times are in seconds on the clock `now`.
    """

    def __init__(self, receipt: str, expires: float, ends: float, now: Callable[[], float]) -> None:
        self.receipt, self.expires, self._ends, self._now = receipt, expires, ends, now
        self.is_rejected = self.is_given_up = False

    @property
    def seconds_left(self) -> float:
        """Seconds until the lease can no longer be extended."""
        return self._ends - self._now()

    @property
    def is_lost(self) -> bool:
        """Whether SQS rejected an extension, the lease has expired, or the container has given it up.

        The clock is read each time. When a frozen process resumes, the result is therefore correct at once, before any
        thread could update a flag.
        """
        return self.is_rejected or self.is_given_up or self._now() >= self.expires

    def give_up(self) -> None:
        """Make everything that still works on the job stop, because its message is about to return to the queue."""
        self.is_given_up = True


class LeaseKeeper:
    """Extends the leases on one queue's messages.

    `tick()` extends each lease once; `run()` repeats this until `end()`.
    """

    def __init__(self, sqs: Any, queue_url: str, seconds: int, now: Callable[[], float]) -> None:
        self._sqs, self._url, self._seconds, self._now = sqs, queue_url, seconds, now
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._extending = threading.Lock()  # ensures that no lease is extended after its release
        self._ended = threading.Event()

    def add_lease(self, receipt: str, received: float, age: float = 0.0) -> Lease:
        """Create the lease of a message, start extending it, and return it.

        `received`: when the receive call was made, which is never later than the start of the lease in SQS. `age`:
        seconds between the message's first receive and `received`.
        """
        lease = Lease(receipt, received + self._seconds, received + MAX_LEASE_SECONDS - age, self._now)
        with self._lock:
            self._leases[receipt] = lease
        return lease

    def release_lease(self, lease: Lease) -> None:
        """Stop extending the lease.

        If a round of extensions is running, wait for it. Otherwise, the round could hide the message again after the
        message returns to the queue.
        """
        with self._lock:
            released = self._leases.pop(lease.receipt, None)
        if released is not None:
            with self._extending:
                pass

    @property
    def leases(self) -> list[Lease]:
        """All leases that are being extended, oldest first, including leases for fetched jobs and ongoing uploads."""
        with self._lock:
            return list(self._leases.values())

    def run(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            self.tick()

    def end(self) -> None:
        self._ended.set()

    def tick(self) -> None:
        """Extend every lease once, and mark each lease whose extension SQS rejects."""
        with self._extending:
            for batch in split_into_batches(self.leases, LEASE_BATCH_SIZE):
                self._extend_leases(batch)

    def _extend_leases(self, leases: list[Lease]) -> None:
        """Extend the leases in one call. If the call fails, the next round retries it for all leases not yet lost."""
        try:
            self._extend_batch(leases)
        except AWS_ERRORS as error:
            log.warning("%d leases could not be extended; this will be retried: %s", len(leases), error)
        except Exception:  # otherwise this thread would end unnoticed and extend no more leases
            log.exception("leases could not be extended; this will be retried")

    def _extend_batch(self, leases: list[Lease]) -> None:
        requested_at = self._now()
        seconds = {str(n): max(0, min(self._seconds, int(lease.seconds_left))) for n, lease in enumerate(leases)}
        # A timeout of 0 would return the message to the queue, and a lost lease may belong to another worker by now.
        extendable = {str(n): lease for n, lease in enumerate(leases) if seconds[str(n)] and not lease.is_lost}
        entries = [
            {"Id": number, "ReceiptHandle": lease.receipt, "VisibilityTimeout": seconds[number]}
            for number, lease in extendable.items()
        ]
        if not entries:
            return
        response = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        for entry in response.get("Successful", []):
            lease = extendable[entry["Id"]]
            if not lease.is_lost:  # a lease lost during the call may already belong to another worker
                lease.expires = requested_at + seconds[entry["Id"]]
        for entry in response.get("Failed", []):
            if entry.get("SenderFault"):
                extendable[entry["Id"]].is_rejected = True
