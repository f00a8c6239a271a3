"""Whether this container may take jobs now: not while it is sick, its disk is full, or its machine is likely to go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from distributed_something.worker.admission.health import MIN_FREE_BYTES, ContainerHealth, has_disk_space

REBALANCE_PAUSE_SECONDS = 10 * 60.0  # after a rebalance recommendation, which may come to nothing
log = logging.getLogger("worker")


class AdmissionGate:
    """One container's. `now`: seconds since 1970. `room(path, bytes)`: whether the disk has so much left."""

    def __init__(
        self,
        health: ContainerHealth,
        work_dir: Path,
        now: Callable[[], float],
        room: Callable[[Path, int], bool] = has_disk_space,
    ) -> None:
        self._health, self._work_dir, self._now, self._room = health, work_dir, now, room
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._closed = False
        self._largest = 0

    def count_places(self, wanted: int, ahead: int) -> int:
        """How many jobs may be taken: `wanted` for free slots, `ahead` for those that run, if the disk holds them."""
        now = self._now()
        if self._closed or now < self._rests_until:
            return 0
        if ahead and not self._room(self._work_dir, MIN_FREE_BYTES + 2 * self._largest):
            ahead = 0
        return self._health.count_places(wanted + ahead, now)

    def release_probe(self) -> None:
        """What was let through brought no job."""
        self._health.release_probe(self._now())

    def pause_for_rebalance(self) -> None:
        """EC2 says that the machine is likelier to go: what runs goes on, nothing is begun for a while."""
        self._rests_until = self._now() + REBALANCE_PAUSE_SECONDS
        log.warning("rebalance recommendation: no jobs are begun for %.0f minutes", REBALANCE_PAUSE_SECONDS / 60)

    def close_run(self) -> None:
        """The run has cost what it may: no job is begun any more."""
        if not self._closed:
            log.warning("the run has cost what it may (MAX_COST): no job is begun any more")
        self._closed = True

    @property
    def is_closed(self) -> bool:
        return self._closed

    def record_success(self, job_bytes: int) -> None:
        """A job is done that needed so much disk."""
        with self._lock:
            self._largest = max(self._largest, job_bytes)
        self._health.record_success(self._now())

    def record_failure(self, job_id: str, reason: str, reason_class: str) -> None:
        self._health.record_failure(job_id, reason, reason_class, self._now())
