"""How much time is left once the container is told to end, by SIGTERM or by a spot notice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

STOP_RESERVE_SECONDS = (
    10.0  # to end the programs that still run (5 s between SIGTERM and SIGKILL) and to return their jobs
)


class StopRequest:
    """Told once or several times; the earliest end counts. `now`: a clock that only goes forward, seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._end = inf
        self._asked = threading.Event()

    def tell(self, seconds: float) -> None:
        """The container is gone in so many seconds: no new jobs, and what runs may go on until little time is left."""
        self._end = min(self._end, self._now() + seconds)
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether no new job may be begun."""
        return self._asked.is_set()

    @property
    def over(self) -> bool:
        """Whether even what runs must end now."""
        return self.left <= STOP_RESERVE_SECONDS

    @property
    def left(self) -> float:
        """Seconds until the container is gone."""
        return self._end - self._now()

    def wait(self, seconds: float) -> bool:
        """Waits at most so long; whether it was told to end."""
        return self._asked.wait(seconds)
