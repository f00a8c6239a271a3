"""Transfers many objects at once through awscrt.

The job's own thread starts the requests and waits for them, so `check` runs before each request and many times a second
while requests are under way. A request that is canceled has ended before `run` returns, so nothing is written to a
job's folder, and nothing is sent from it, after the job was given up.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from distributed_something.worker.transfer.crt.transfer_items import Transfer, TransferEvents, TransferLimits

# How often `check` is called while requests are under way. A worker that was suspended past its lease cancels its
# uploads this long after it continues.
CHECK_SECONDS = 0.02
# awscrt ends a request without any bytes after about 30 s. This ends one whose bytes arrive too slowly; boto3 reads
# such a response as it arrives.
STALL_SECONDS = 60.0
WAIT_SECONDS = 5.0  # for the transfers of other jobs; then boto3 transfers the objects
CANCEL_SECONDS = 5.0  # a canceled request normally ends at once
MAX_FAILURES = 3  # of one batch; then boto3 transfers the other objects, because S3 or the network has a problem
TLS_FAILURE = "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE"  # awscrt's name of the error
log = logging.getLogger("worker")
_T = TypeVar("_T", bound=Transfer)


@dataclass
class _ActiveTransfer(Generic[_T]):
    """A transfer under way, its request, and when bytes were last transferred."""

    transfer: _T
    last_progress: float
    request: Any = None


class TransferBatch(Generic[_T]):
    """The transfers of one job that are done together.

    `start` sends a transfer's request, or returns None if only boto3 can send it. It may raise an exception.
    """

    def __init__(
        self, transfers: Iterable[_T], start: Callable[[_T, TransferEvents], Any], limits: TransferLimits,
        check: Callable[[], None], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._start, self._limits, self._check, self._now = start, limits, check, now
        self._waiting, self._failed = deque(transfers), list[_T]()
        self._active: dict[int, _ActiveTransfer[_T]] = {}
        self._done: SimpleQueue[tuple[int, Exception | None]] = SimpleQueue()
        self._started, self._last_active = 0, now()
        # Whether awscrt and the server could not agree on TLS. awscrt takes up to 20 s to find that out.
        self.has_tls_failure = False

    def run(self) -> list[_T]:
        """Transfer the objects and return those that could not be transferred."""
        try:
            while True:
                self._start_transfers()
                if not self._active and not self._waiting:
                    return self._failed
                self._await_end(CHECK_SECONDS)
                self._check()
                self._cancel_hopeless()
        finally:
            self._cancel_all()

    def _start_transfers(self) -> None:
        """Start as many transfers as the limits permit. Leave the rest to boto3 after failures or a long wait."""
        while self._waiting and not self._must_give_up:
            self._check()
            if not self._limits.try_start(self._waiting[0]):
                break
            self._start_transfer(self._waiting.popleft())
        if self._active:
            self._last_active = self._now()
        if self._must_give_up or self._now() - self._last_active >= WAIT_SECONDS:
            self._failed += self._waiting
            self._waiting.clear()

    @property
    def _must_give_up(self) -> bool:
        return self.has_tls_failure or len(self._failed) >= MAX_FAILURES

    def _start_transfer(self, transfer: _T) -> None:
        self._started = number = self._started + 1
        active = self._active[number] = _ActiveTransfer(transfer, self._now())

        def record_progress(size: int) -> None:
            active.last_progress = self._now()

        events = TransferEvents(record_progress, lambda error: self._done.put((number, error)))
        try:
            active.request = self._start(transfer, events)
        except Exception as error:  # any problem is boto3's to repeat and to explain
            self._record_end(number, error)
        else:
            if active.request is None:
                self._record_end(number, ValueError("only boto3 can send this request"))

    def _await_end(self, seconds: float) -> None:
        """Wait until a transfer has ended, for `seconds` at most, and record all that have ended."""
        try:
            self._record_end(*self._done.get(timeout=seconds))
            while True:
                self._record_end(*self._done.get_nowait())
        except Empty:
            return

    def _record_end(self, number: int, error: Exception | None) -> None:
        transfer = self._active.pop(number).transfer
        self._limits.end(transfer)
        if error is not None:
            self.has_tls_failure |= getattr(error, "name", "") == TLS_FAILURE
            log.info("%s: %s; trying again", transfer.address, error)
            self._failed.append(transfer)

    def _cancel_hopeless(self) -> None:
        """Cancel the transfers whose bytes do not arrive, and all after a TLS failure. They then end with an error."""
        for active in self._active.values():
            if self.has_tls_failure or self._now() - active.last_progress >= STALL_SECONDS:
                active.request.cancel()

    def _cancel_all(self) -> None:
        """Cancel the transfers under way and wait until they have ended, because they use the job's folder."""
        for active in self._active.values():
            active.request.cancel()
        end = time.monotonic() + CANCEL_SECONDS
        while self._active and time.monotonic() < end:
            self._await_end(CHECK_SECONDS)
        for active in self._active.values():
            log.warning("the transfer of %s does not end", active.transfer.address)
            self._limits.end(active.transfer)
