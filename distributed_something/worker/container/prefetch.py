"""Timing of prefetches: the next job's inputs should arrive when a slot's program ends, but not much earlier.

Idle workers elsewhere cannot take a job that was already fetched here; at the end of a run, that would cost more time
than prefetching saves. Each fetch therefore starts as late as the durations of this container's most recent jobs allow,
and the container receives no more messages than it can process in one second.
"""

from __future__ import annotations

import threading
from collections import deque
from statistics import median

REMEMBERED_JOBS = 20
PREFETCH_MARGIN_SECONDS = 2.0
MIN_JOB_SECONDS = 0.001  # avoids a division by zero
MAX_READY_SECONDS = 60.0  # a fetched job that has not been started after this time is returned to the queue


class JobDurations:
    """Durations of a container's most recent jobs, in seconds, shared by its slots."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetches: deque[float] = deque(maxlen=REMEMBERED_JOBS)
        self._programs: deque[float] = deque(maxlen=REMEMBERED_JOBS)

    def add_fetch_time(self, seconds: float) -> None:
        with self._lock:
            self._fetches.append(seconds)

    def add_program_time(self, seconds: float) -> None:
        with self._lock:
            self._programs.append(seconds)

    def get_prefetch_delay(self) -> float | None:
        """Return how many seconds after a program's start to fetch the next job; None until the first program ends."""
        with self._lock:
            if not self._programs:
                return None
            fetch = max(self._fetches, default=0.0)
            return max(0.0, median(self._programs) - 1.5 * fetch - PREFETCH_MARGIN_SECONDS)

    def get_jobs_per_second(self) -> int:
        """Return how many jobs a slot completes per second; 0 until the first program has ended."""
        with self._lock:
            if not self._programs:
                return 0
            seconds = median(self._programs) + max(self._fetches, default=0.0)
            return int(1 / max(seconds, MIN_JOB_SECONDS))
