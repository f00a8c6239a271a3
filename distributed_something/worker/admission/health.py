"""Whether this container may take jobs: a sick machine, or one without disk, must not eat the queue.

Several different jobs that fail in a row are more likely the machine's fault than theirs. The container then pauses,
longer than the idle alarm waits, so that a fleet replaces the machine. If it is still there after that, one job is let
through to find out; if that fails too, nobody replaces this machine, and a longer wait would only cost time. Nor does
it pause while another machine does: where several fail alike, it is the jobs.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.machine.times import build_utc_timestamp

MIN_FAILED_JOBS = 5  # different jobs, none succeeding in between
SICK_PAUSE_SECONDS = 20 * 60.0  # the idle alarm ends a machine after 15 minutes
DISK_CHECK_SECONDS = 60.0  # between two looks at a full disk
MIN_FREE_BYTES = 512 * 1024 * 1024
MIN_FREE_FILES = 1000  # a disk of many small files can have bytes left and no room for another file
MAX_REPORTED_JOBS = 10  # that are named: the last
MAX_REASON_CHARACTERS = 1000  # characters
# These say nothing of the machine.
UNRELATED_REASON_CLASSES = frozenset({"missing input", "bad message", "crash", "interrupted", "lost lease"})
log = logging.getLogger("worker")


@dataclass(frozen=True)
class Pause:
    """Why no jobs are taken. Times in seconds since 1970; `until` None: as long as the disk is full."""

    since: float
    until: float | None
    reason: str
    jobs: tuple[str, ...] = ()  # the last that failed, the latest last


def has_disk_space(path: Path, least_bytes: int = MIN_FREE_BYTES) -> bool:
    """Whether the disk that `path` is on can hold a job; a path that cannot be asked cannot."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    if found.f_flag & os.ST_RDONLY:  # as Linux makes a disk that has errors
        return False
    counts_files = found.f_files > 0  # btrfs, for one, does not
    return found.f_bavail * found.f_frsize >= least_bytes and (not counts_files or found.f_favail >= MIN_FREE_FILES)


class ContainerHealth:
    """One container's, shared by its slots' threads. `now`: seconds since 1970, as every method is told it."""

    def __init__(
        self, has_room: Callable[[], bool] = lambda: True, others_pause: Callable[[], bool] = lambda: False
    ) -> None:
        self._has_room, self._others_pause = has_room, others_pause
        self._gave_up = False  # to pause, up to the next success
        self._lock = threading.Lock()
        self._failed: dict[str, None] = {}  # ids of the jobs since the last success, the latest last
        self._sick: Pause | None = None
        self._probe_at = 0.0
        self._full: Pause | None = None
        self._look_at = 0.0

    @property
    def current_pause(self) -> Pause | None:
        """The pause that is on; None while jobs are taken. A sick machine's lasts beyond `until`, up to a job's end."""
        with self._lock:
            return self._sick or self._full

    def count_places(self, wanted: int, now: float) -> int:
        """How many jobs may be taken: all, none, or after a pause one, which then is let through."""
        with self._lock:
            if wanted < 1 or self._is_disk_full(now):
                return 0
            if self._sick is None:
                return wanted
            if now < self._probe_at:
                return 0
            self._probe_at = now + SICK_PAUSE_SECONDS  # were its end never told, another would go then
            return 1

    def release_probe(self, now: float) -> None:
        """The job that was let through says nothing of the machine, or never came: another may go."""
        with self._lock:
            if self._is_probe_due(now):
                self._probe_at = now

    def record_success(self, now: float) -> None:
        """A job's program did well here: the machine is not sick."""
        with self._lock:
            self._failed.clear()
            self._gave_up = False
            if self._sick is not None:
                log.info("a job succeeded after %.0f minutes of pause: jobs are taken", (now - self._sick.since) / 60)
            self._sick = None

    def record_failure(self, job_id: str, reason: str, reason_class: str, now: float) -> None:
        """A job failed here; `reason_class`: as its record names it."""
        if reason_class in UNRELATED_REASON_CLASSES:
            self.release_probe(now)
            return
        alike = self._can_pause_for(job_id) and self._others_pause()  # not under the lock: S3 may take its time
        with self._lock:
            self._failed.pop(job_id, None)
            self._failed[job_id] = None
            if len(self._failed) > MAX_REPORTED_JOBS:
                del self._failed[next(iter(self._failed))]
            if self._is_probe_due(now):
                log.warning("jobs still fail and nobody replaced this machine: they are taken again")
                self._sick, self._gave_up = None, True
            elif self._sick is None and len(self._failed) >= MIN_FAILED_JOBS and not alike and not self._gave_up:
                self._start_pause(reason, now)

    def _can_pause_for(self, job_id: str) -> bool:
        with self._lock:
            return self._sick is None and not self._gave_up and len({*self._failed, job_id}) >= MIN_FAILED_JOBS

    def _is_probe_due(self, now: float) -> bool:
        return self._sick is not None and self._sick.until is not None and now >= self._sick.until

    def _start_pause(self, last: str, now: float) -> None:
        reason = f"{len(self._failed)} different jobs failed in a row, at last: {last}"[:MAX_REASON_CHARACTERS]
        self._probe_at = now + SICK_PAUSE_SECONDS
        self._sick = Pause(now, self._probe_at, reason, tuple(self._failed)[-MAX_REPORTED_JOBS:])
        log.error("no jobs are taken for %.0f minutes: %s", SICK_PAUSE_SECONDS / 60, reason)

    def _is_disk_full(self, now: float) -> bool:
        if self._full is not None and now < self._look_at:
            return True
        full = not self._has_room()
        if full and self._full is None:
            log.error("no jobs are taken as long as the disk is full, or cannot be written")
            self._full = Pause(now, None, "the disk is full, or cannot be written")
        elif not full and self._full is not None:
            log.info("the disk has room again: jobs are taken")
            self._full = None
        self._look_at = now + DISK_CHECK_SECONDS
        return full


class HealthReporter:
    """Tells `write` (document → S3) of each pause that begins and of its end. `tick()` is one look."""

    def __init__(
        self, health: ContainerHealth, write: Callable[[dict[str, Any]], None], machine: str, container: str
    ) -> None:
        self._health, self._write = health, write
        self._document = partial(build_health_document, machine, container)
        self._told: Pause | None = None

    def tick(self, now: float) -> None:
        """Writes if something changed. What `write` raises comes through, and the next tick tries again."""
        pause = self._health.current_pause
        if pause != self._told:
            self._write(self._document(pause, now))
            self._told = pause


def build_health_document(machine: str, container: str, pause: Pause | None, now: float) -> dict[str, Any]:
    """What is known of this container: paused, with until when and why, or working since now. Times in UTC."""
    told: dict[str, Any] = {"machine": machine, "container": container}
    if pause is None:
        return told | {"state": "working", "since": build_utc_timestamp(now), "until": None, "reason": None, "jobs": []}
    until = None if pause.until is None else build_utc_timestamp(pause.until)
    why = {"reason": pause.reason, "jobs": list(pause.jobs)}
    return told | {"state": "paused", "since": build_utc_timestamp(pause.since), "until": until} | why


def build_health_key(keys: RunKeys, machine: str, container: str) -> str:
    """Where the document lies in the app's bucket: beside the jobs' records."""
    name = re.sub(r"[^\w.-]", "-", f"{machine}-{container}", flags=re.ASCII)
    return f"{keys.machines}{name}.json"
