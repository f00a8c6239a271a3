"""How much time is left once the container is told to end, by SIGTERM or by a spot notice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

STOP_RESERVE_SECONDS = 10.0  # to end what still runs (5 s between SIGTERM and SIGKILL) and to return its jobs


class StopRequest:
    """Told once or several times; the earliest end counts. `now`: a clock that only goes forward, seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._end = inf
        self._announced = threading.Event()

    def announce_end(self, seconds: float) -> None:
        """The container is gone in so many seconds: no new jobs, and what runs may go on until little time is left."""
        self._end = min(self._end, self._now() + seconds)
        self._announced.set()

    @property
    def is_announced(self) -> bool:
        """Whether no new job may be begun."""
        return self._announced.is_set()

    @property
    def is_due(self) -> bool:
        """Whether even what runs must end now."""
        return self.seconds_left <= STOP_RESERVE_SECONDS

    @property
    def seconds_left(self) -> float:
        """Seconds until the container is gone."""
        return self._end - self._now()

    def wait(self, seconds: float) -> bool:
        """Waits at most so long; whether it was told to end."""
        return self._announced.wait(seconds)
