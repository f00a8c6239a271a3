"""When to fetch the next job's inputs, so that they are there when a slot's program ends, and not long before.

A job that lies fetched is one that no idle worker elsewhere can take: at the end of a run that would cost more than
the overlap gains. So the fetch begins as late as what this container's last jobs took allows, and of messages no more
are held than are worked off in a second.
"""

from __future__ import annotations

import threading
from collections import deque
from statistics import median

REMEMBERED_JOBS = 20  # jobs
PREFETCH_MARGIN_SECONDS = 2.0
MIN_JOB_SECONDS = 0.001  # of a job, lest it be divided by nothing
MAX_READY_SECONDS = 60.0  # a job that was fetched and not begun by then goes back to the queue


class JobDurations:
    """What the last jobs of a container took, in seconds. Shared by its slots."""

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
        """Seconds after a program's start when the next job's fetch is due; None as long as nothing is known."""
        with self._lock:
            if not self._programs:
                return None
            fetch = max(self._fetches, default=0.0)
            return max(0.0, median(self._programs) - 1.5 * fetch - PREFETCH_MARGIN_SECONDS)

    def get_jobs_per_second(self) -> int:
        """How many jobs a slot works off in a second; 0 as long as nothing is known."""
        with self._lock:
            if not self._programs:
                return 0
            seconds = median(self._programs) + max(self._fetches, default=0.0)
            return int(1 / max(seconds, MIN_JOB_SECONDS))
