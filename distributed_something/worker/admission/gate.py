"""The gate that limits how many jobs this container takes.

It admits no jobs while the container is unhealthy, its disk is full, or its machine is likely to be interrupted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from distributed_something.worker.admission.health import MIN_FREE_BYTES, ContainerHealth, has_disk_space

REBALANCE_PAUSE_SECONDS = 10 * 60.0  # after a rebalance recommendation; an interruption does not always follow
log = logging.getLogger("worker")


class AdmissionGate:
    """The gate of one container.

    `now` returns seconds since 1970. `has_space(path, bytes)` returns whether the disk has that many bytes free.
    """

    def __init__(
        self,
        health: ContainerHealth,
        work_dir: Path,
        now: Callable[[], float],
        has_space: Callable[[Path, int], bool] = has_disk_space,
    ) -> None:
        self._health, self._work_dir, self._now, self._has_space = health, work_dir, now, has_space
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._closed = False
        self._largest_job_bytes = 0

    def count_allowed_jobs(self, free_slots: int, prefetched: int) -> int:
        """Return how many jobs the container may take now.

        `prefetched` is the number of jobs to take before a slot is free for them. These are taken only if the disk has
        room for them.
        """
        now = self._now()
        if self._closed or now < self._paused_until:
            return 0
        if prefetched and not self._has_space(self._work_dir, MIN_FREE_BYTES + 2 * self._largest_job_bytes):
            prefetched = 0
        return self._health.count_allowed_jobs(free_slots + prefetched, now)

    def release_probe(self) -> None:
        """Allow another probe, because the last one received no job."""
        self._health.release_probe(self._now())

    def pause_for_rebalance(self) -> None:
        """Start no jobs for a while, because EC2 reports a higher risk of interruption. Running jobs continue."""
        self.pause(REBALANCE_PAUSE_SECONDS)
        log.warning("EC2 rebalance recommendation: starting no jobs for %.0f minutes", REBALANCE_PAUSE_SECONDS / 60)

    def pause(self, seconds: float) -> None:
        """Take no jobs for this long. Running jobs continue."""
        self._paused_until = max(self._paused_until, self._now() + seconds)

    def close_run(self) -> None:
        """Start no more jobs, because the run has reached MAX_COST."""
        if not self._closed:
            log.warning("the run has reached MAX_COST: starting no more jobs")
        self._closed = True

    @property
    def is_closed(self) -> bool:
        return self._closed

    def record_success(self, job_bytes: int) -> None:
        """Record that a job succeeded and needed `job_bytes` of disk space."""
        with self._lock:
            self._largest_job_bytes = max(self._largest_job_bytes, job_bytes)
        self._health.record_success(self._now())

    def forget_job(self, job_id: str) -> None:
        """Record that a failed job says nothing about this machine."""
        self._health.forget_job(job_id, self._now())

    def record_failure(self, job_id: str, reason: str, reason_class: str) -> None:
        self._health.record_failure(job_id, reason, reason_class, self._now())
