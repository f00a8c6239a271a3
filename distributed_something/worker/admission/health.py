"""Tracks the health of this container, which determines whether it may take jobs.

If several different jobs fail in a row, the machine is the likely cause. The container then pauses for longer than the
idle alarm waits, so that the fleet replaces the machine. If the machine has not been replaced when the pause ends, the
container takes a single job as a probe. If the probe fails too, the container takes jobs again, because a longer pause
would only cost time. If another machine fails in the same way, the jobs are the likely cause: the container then does
not pause, or ends its pause. It also ends its pause if `submitJob --replace` has replaced the jobs in the queue.

If few jobs are left, these fail here again and again. The container then also pauses, but only if something besides
these jobs points to the machine: another machine has done one of them, or no job has ever succeeded here, although
another machine does jobs. Otherwise, they may just as well be the last jobs of a run because they fail everywhere. Jobs
that also failed on another machine, and those that `retry` sent again, say nothing about this machine and do not count.

A container with a full disk takes no jobs either, because it would fail every job in the queue.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from distributed_something.worker.admission.elsewhere import EndsElsewhere
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.job.worker_settings import DEFAULT_SICK_PAUSE_SECONDS
from distributed_something.worker.machine.scale_in_protection import ProtectionRefusal
from distributed_something.worker.machine.times import build_utc_timestamp

MIN_FAILED_JOBS = 5  # different jobs, without a success in between
# The same with fewer different jobs. One job alone is more likely the cause than the machine.
MIN_REPEATED_FAILURES, MIN_REPEATED_JOBS = 5, 2
DISK_CHECK_SECONDS = 2.0  # between two checks of a full disk; the job that filled it has usually been removed by then
MIN_FREE_BYTES = 512 * 1024 * 1024
MIN_FREE_FILES = 1000  # a disk with many small files can run out of inodes before it runs out of bytes
MAX_REPORTED_JOBS = 10  # a health document lists only the most recent failed jobs
MAX_REASON_CHARACTERS = 1000
MAX_EARLIER_PAUSES, MAX_EARLIER_REASON_CHARACTERS = 10, 300  # in a health document, for the report of the run
REPORT_SECONDS = 10 * 60.0  # between two documents about a pause without an end
# Failures of these classes are not evidence against the machine.
UNRELATED_REASON_CLASSES = frozenset(
    {
        "missing input",
        "bad message",
        "bad config",
        "bad data",
        "crash",
        "interrupted",
        "lost lease",
        "shared file",
        "disk",
    }
)
# A job that reaches its own limit does so on every machine. A machine can be the cause only if many jobs do.
JOB_LIMIT_CLASSES = frozenset({"time-out", "out of memory"})
log = logging.getLogger("worker")


@dataclass(frozen=True)
class Pause:
    """A pause during which the container takes no jobs.

    Times are in seconds since 1970. `until` is None for a full disk and for refused protection, because the end of such
    a pause is not known. `protection`: ECS's code if it refuses to protect the container from scale-in.
    """

    since: float
    until: float | None
    reason: str
    jobs: tuple[str, ...] = ()  # ids of the most recent failed jobs, oldest first
    protection: str | None = None


def has_disk_space(path: Path, min_bytes: int = MIN_FREE_BYTES) -> bool:
    """Return whether the disk that holds `path` has room for a job; False if the disk cannot be queried."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    if disk.f_flag & os.ST_RDONLY:  # Linux remounts a disk with errors as read-only
        return False
    counts_files = disk.f_files > 0  # some file systems, such as btrfs, have no limit on files
    return disk.f_bavail * disk.f_frsize >= min_bytes and (not counts_files or disk.f_favail >= MIN_FREE_FILES)


class ContainerHealth:
    """The health of one container, shared by the threads of its slots.

    In every method, `now` is in seconds since 1970. `has_room` returns whether the disk has room for a job.
    `is_other_failing` returns whether jobs also fail in a row on another machine in the run, and `is_other_working`
    whether another machine does jobs. `are_jobs_replaced(since)` returns whether the jobs that waited at `since` were
    replaced. `find_ends_elsewhere` returns how jobs did on other machines.
    """

    def __init__(
        self, has_room: Callable[[], bool] = lambda: True, is_other_failing: Callable[[], bool] = lambda: False,
        pause_seconds: float = DEFAULT_SICK_PAUSE_SECONDS, is_other_working: Callable[[], bool] = lambda: False,
        are_jobs_replaced: Callable[[float], bool] = lambda since: False,
        find_ends_elsewhere: Callable[[Iterable[str]], EndsElsewhere] = lambda jobs: EndsElsewhere(),
    ) -> None:  # fmt: skip
        self._has_room, self._is_other_failing, self._pause_seconds = has_room, is_other_failing, pause_seconds
        self._is_other_working, self._are_jobs_replaced = is_other_working, are_jobs_replaced
        self._find_ends_elsewhere, self._has_succeeded = find_ends_elsewhere, False
        self._has_given_up = False  # True: no more pauses until the next success
        self._lock = threading.Lock()
        # How often each job failed since the last success, by id, without those that reached their own limits. The job
        # that failed last is last.
        self._failed_jobs: dict[str, int] = {}
        self._sick_pause: Pause | None = None
        self._next_probe_at = 0.0
        self._full_disk_pause: Pause | None = None
        self._protection_pause: Pause | None = None
        self._next_disk_check_at = 0.0

    @property
    def current_pause(self) -> Pause | None:
        """The current pause, or None while the container takes jobs.

        An unhealthy container stays paused past `until`, until its probe has ended.
        """
        with self._lock:
            return self._sick_pause or self._full_disk_pause or self._protection_pause

    def record_protection(self, refusal: ProtectionRefusal | None, now: float) -> None:
        """Record whether ECS refuses to protect this container, which returns jobs until it is protected."""
        with self._lock:
            if refusal is None:
                self._protection_pause = None
            elif self._protection_pause is None or self._protection_pause.protection != refusal.code:
                reason = f"ECS refuses to protect the container from scale-in: {refusal.reason}"
                self._protection_pause = Pause(now, None, reason, protection=refusal.code)

    @property
    def are_jobs_at_fault(self) -> bool:
        """Whether jobs keep failing, but the machine is not the likely cause."""
        with self._lock:
            return self._has_given_up

    def end_needless_pause(self) -> None:
        """End the pause if its jobs were replaced, or if jobs fail on another machine too.

        Several machines can start to pause at the same time.
        """
        with self._lock:
            pause = self._sick_pause
        if pause is None:
            return
        # Called outside the lock, because both may have to wait for S3.
        if self._are_jobs_replaced(pause.since):
            log.warning("the jobs that failed were replaced: taking jobs again")
            with self._lock:
                self._failed_jobs.clear()
                self._sick_pause = None
        elif self._is_other_failing():
            log.warning("jobs fail on another machine too, so the jobs are the likely cause: taking jobs again")
            with self._lock:
                self._sick_pause, self._has_given_up = None, True

    def count_allowed_jobs(self, requested: int, now: float) -> int:
        """Return how many of the `requested` jobs may be taken: all, none, or one probe at the end of a pause."""
        with self._lock:
            if requested < 1 or self._is_disk_full(now):
                return 0
            if self._sick_pause is None:
                return requested
            if now < self._next_probe_at:
                return 0
            self._next_probe_at = now + self._pause_seconds  # allows another probe if this one never reports a result
            return 1

    def release_probe(self, now: float) -> None:
        """Allow another probe, because the last one received no job or failed for an unrelated reason."""
        with self._lock:
            if self._is_probe_due(now):
                self._next_probe_at = now

    def record_success(self, now: float) -> None:
        """End the pause and forget earlier failures, because a job succeeded on this machine."""
        with self._lock:
            self._failed_jobs.clear()
            self._has_given_up, self._has_succeeded = False, True
            if self._sick_pause is not None:
                log.info("a job succeeded after a pause of %.0f s: taking jobs again", now - self._sick_pause.since)
            self._sick_pause = None

    def record_failure(self, job_id: str, reason: str, reason_class: str, now: float) -> None:
        """Count a failed job, and pause if too many jobs have failed. `reason_class` is the one in the job's record."""
        if reason_class in UNRELATED_REASON_CLASSES:
            self.release_probe(now)
            return
        with self._lock:
            count = self._failed_jobs.pop(job_id, 0)
            self._failed_jobs[job_id] = count + (reason_class not in JOB_LIMIT_CLASSES)
            if len(self._failed_jobs) > MAX_REPORTED_JOBS:
                del self._failed_jobs[next(iter(self._failed_jobs))]
            if self._is_probe_due(now):
                log.warning("jobs still fail after the pause, and this machine was not replaced: taking jobs again")
                self._sick_pause, self._has_given_up = None, True
            has_different_jobs, can_pause = self._has_different_jobs(), self._can_pause()
        # Called outside the lock, because both may have to wait for S3.
        if not can_pause or self._is_other_failing() or not (has_different_jobs or self._is_machine_suspect()):
            return
        with self._lock:
            if self._can_pause():
                self._start_pause(reason, now)

    def forget_job(self, job_id: str, now: float) -> None:
        """Do not count a job's failures, because it also fails elsewhere. If it was the probe, allow another one."""
        with self._lock:
            self._failed_jobs.pop(job_id, None)
        self.release_probe(now)

    def _is_machine_suspect(self) -> bool:
        """Return whether the few jobs that fail here are not the likely cause themselves."""
        with self._lock:
            jobs, has_succeeded = tuple(self._failed_jobs), self._has_succeeded
        elsewhere = self._find_ends_elsewhere(jobs)
        with self._lock:
            for job in elsewhere.failed:
                self._failed_jobs.pop(job, None)
        return bool(elsewhere.done) or (not has_succeeded and self._is_other_working())

    def _can_pause(self) -> bool:
        """Return whether enough jobs have failed since the last success, and no pause has begun or was useless."""
        counts = [count for count in self._failed_jobs.values() if count]
        is_repeated = len(counts) >= MIN_REPEATED_JOBS and sum(counts) >= MIN_REPEATED_FAILURES
        has_failed_enough = self._has_different_jobs() or is_repeated
        return self._sick_pause is None and not self._has_given_up and has_failed_enough

    def _has_different_jobs(self) -> bool:
        return len(self._failed_jobs) >= MIN_FAILED_JOBS

    def _is_probe_due(self, now: float) -> bool:
        return self._sick_pause is not None and self._sick_pause.until is not None and now >= self._sick_pause.until

    def _start_pause(self, last_reason: str, now: float) -> None:
        count = len(self._failed_jobs)
        text = f"{count} different jobs failed in a row"
        if not self._has_different_jobs():
            text = f"{count} jobs failed {sum(self._failed_jobs.values())} times in a row, only on this machine"
        reason = f"{text}; the last failure: {last_reason}"[:MAX_REASON_CHARACTERS]
        self._next_probe_at = now + self._pause_seconds
        job_ids = tuple(self._failed_jobs)[-MAX_REPORTED_JOBS:]
        self._sick_pause = Pause(now, self._next_probe_at, reason, job_ids)
        log.error("taking no jobs for %.0f s: %s", self._pause_seconds, reason)

    def _is_disk_full(self, now: float) -> bool:
        if self._full_disk_pause is not None and now < self._next_disk_check_at:
            return True
        is_full = not self._has_room()
        if is_full and self._full_disk_pause is None:
            log.error("taking no jobs while the disk is full or cannot be written to")
            self._full_disk_pause = Pause(now, None, "the disk is full or cannot be written to")
        elif not is_full and self._full_disk_pause is not None:
            log.info("the disk has room again: taking jobs")
            self._full_disk_pause = None
        self._next_disk_check_at = now + DISK_CHECK_SECONDS
        return is_full


class HealthReporter:
    """Reports pauses. `write` stores a document in S3 when a pause begins and when it ends."""

    def __init__(
        self, health: ContainerHealth, write: Callable[[dict[str, Any]], None], machine: str, container: str
    ) -> None:
        self._health, self._write = health, write
        self._build_document = partial(build_health_document, machine, container)
        self._reported: tuple[Pause | None, bool] = (None, False)
        self._earlier: list[Pause] = []  # that have ended
        self._written_at = 0.0

    def tick(self, now: float) -> None:
        """Write a document if the pause has changed, or else check whether other machines show that it can end.

        A pause without an end is written again and again, because readers take an old document for one of a container
        that has ended. Errors from `write` are not caught; the next tick then writes the document.
        """
        state = (self._health.current_pause, self._health.are_jobs_at_fault)
        is_outdated = state[0] is not None and state[0].until is None and now - self._written_at >= REPORT_SECONDS
        if state == self._reported and not is_outdated:
            self._health.end_needless_pause()
            return
        earlier, last = list(self._earlier), self._reported[0]
        if last is not None and (state[0] is None or state[0].since != last.since):
            earlier = [*earlier, replace(last, until=now)][-MAX_EARLIER_PAUSES:]
        document = self._build_document(state[0], now, are_jobs_at_fault=state[1])
        self._write(document | {"earlier_pauses": [_describe_earlier_pause(pause) for pause in earlier]})
        self._reported, self._earlier, self._written_at = state, earlier, now


def _describe_earlier_pause(pause: Pause) -> dict[str, Any]:
    until = None if pause.until is None else build_utc_timestamp(pause.until)
    reason = pause.reason[:MAX_EARLIER_REASON_CHARACTERS]
    return {"since": build_utc_timestamp(pause.since), "until": until, "reason": reason}


def build_health_document(
    machine: str, container: str, pause: Pause | None, now: float, *, are_jobs_at_fault: bool = False
) -> dict[str, Any]:
    """Return this container's health document: paused, with the reason and end of the pause, or working since `now`.

    `jobs_at_fault`: whether jobs keep failing here, but the container takes jobs again. `protection`, only if ECS
    refuses to protect the container from scale-in: ECS's code, or "" if it has none. Times are in UTC.
    """
    names: dict[str, Any] = {"machine": machine, "container": container, "jobs_at_fault": are_jobs_at_fault}
    if pause is None:
        since = build_utc_timestamp(now)
        return names | {"state": "working", "since": since, "until": None, "reason": None, "jobs": []}
    since = build_utc_timestamp(pause.since)
    until = None if pause.until is None else build_utc_timestamp(pause.until)
    reason: dict[str, Any] = {"reason": pause.reason, "jobs": list(pause.jobs)}
    reason |= {} if pause.protection is None else {"protection": pause.protection}
    return names | {"state": "paused", "since": since, "until": until} | reason


def build_health_key(keys: RunKeys, machine: str, container: str) -> str:
    """Return the key of the container's health document in the app's bucket, next to the job records."""
    name = re.sub(r"[^\w.-]", "-", f"{machine}-{container}", flags=re.ASCII)
    return f"{keys.machines}{name}.json"
