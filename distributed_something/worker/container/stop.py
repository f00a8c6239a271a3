"""The stop request: how much time remains after SIGTERM or a spot notice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

STOP_RESERVE_SECONDS = 10.0  # time to end running programs (5 s from SIGTERM to SIGKILL) and return their jobs
RETURN_RESERVE_SECONDS = 4.0  # time to return the jobs that have not ended by then, such as those that wait for S3


class StopRequest:
    """The time at which the container must stop. If several end times are announced, the earliest one counts.

    `now` is a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._end = inf
        self._announced = threading.Event()

    def announce_end(self, seconds: float) -> None:
        """Announce that the container will stop in `seconds`. From now on, no jobs are started.

        Running programs may continue until STOP_RESERVE_SECONDS before the end.
        """
        self._end = min(self._end, self._now() + seconds)
        self._announced.set()

    @property
    def is_announced(self) -> bool:
        """Whether the container must stop, so that no more jobs are started."""
        return self._announced.is_set()

    @property
    def is_due(self) -> bool:
        """Whether running programs must also end now."""
        return self.seconds_left <= STOP_RESERVE_SECONDS

    @property
    def is_overdue(self) -> bool:
        """Whether all jobs must return to the queue now, whatever they are waiting for."""
        return self.seconds_left <= RETURN_RESERVE_SECONDS

    @property
    def seconds_left(self) -> float:
        """Seconds until the container must stop."""
        return self._end - self._now()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`, and return whether the end has been announced."""
        return self._announced.wait(seconds)
