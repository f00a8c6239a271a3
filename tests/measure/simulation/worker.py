"""A model of a container: slots that run jobs, and jobs that are prefetched before a slot is free.

It follows `distributed_something/worker/container/intake.py` and uses the real `JobDurations`. The published worker
does not prefetch jobs or extend leases.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import simpy

from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, JobDurations
from tests.measure.simulation.assumptions import LEASE
from tests.measure.simulation.clock import call_after
from tests.measure.simulation.queue import Queue


@dataclass
class JobProgress:
    """A run's jobs, and how many times each was done.

    `program_seconds`: running time of all programs, including those that were interrupted.
    `visibility_seconds`: how long the published worker hides a message; None if leases are extended.
    """

    lengths: array[float]
    visibility_seconds: float | None
    times_done: bytearray = field(init=False)
    program_seconds: float = 0.0
    remaining_jobs: int = field(init=False)
    last_done_at: float = 0.0

    def __post_init__(self) -> None:
        self.times_done, self.remaining_jobs = bytearray(len(self.lengths)), len(self.lengths)

    def add_jobs(self, lengths: array[float]) -> None:
        self.lengths.extend(lengths)
        self.times_done.extend(bytes(len(lengths)))
        self.remaining_jobs += len(lengths)

    def count_done(self, job: int, now: float) -> None:
        if not self.times_done[job]:
            self.remaining_jobs -= 1
            self.last_done_at = now
        self.times_done[job] = min(255, self.times_done[job] + 1)


class RunningJob:
    """A job in a slot. The worker may prefetch one more job before this job's program ends.

    `allows_prefetch`: whether a job may still be prefetched. `has_prefetch`: whether the worker has started to request
    it.
    """

    __slots__ = ("allows_prefetch", "has_prefetch", "is_ended", "job", "receipt", "started_at")

    def __init__(self, job: int, receipt: int, started_at: float) -> None:
        self.job, self.receipt, self.started_at = job, receipt, started_at
        self.allows_prefetch, self.has_prefetch, self.is_ended = True, False, False


@dataclass(eq=False)
class PrefetchedJob:
    """A job that waits for a free slot. Its inputs are downloaded by the time `ready_at`."""

    job: int
    receipt: int
    ready_at: float


class Worker:
    """A container. It calls `on_change(worker)` when it becomes busy, and when it no longer has any jobs.

    `request_protection(worker)`: called for each job that was received. If it returns a number of seconds above 0, the
    worker returns the job and takes none for this long. `is_closed`: whether it takes no more jobs because of MAX_COST.
    `is_outdated`: whether it belongs to an earlier deployment of the service.
    """

    def __init__(
        self, env: simpy.Environment, queue: Queue, progress: JobProgress, slots: int, fetch_seconds: float,
        on_change: Callable[[Worker], None], request_protection: Callable[[Worker], float],
    ) -> None:  # fmt: skip
        self._env, self._queue, self._progress = env, queue, progress
        self._fetch_seconds, self._on_change, self._request_protection = fetch_seconds, on_change, request_protection
        self._durations = JobDurations() if progress.visibility_seconds is None else None
        self._idle_slots, self._prefetch_slots = slots, 0
        self._prefetched: list[PrefetchedJob] = []
        self.running: dict[RunningJob, None] = {}
        self.is_polling = False
        self.is_started = self.is_stopping = self.is_paused = self.is_closed = self.is_outdated = False
        self.is_busy = False
        self.idle_since = env.now

    @property
    def free_capacity(self) -> int:
        if self.is_stopping or self.is_paused or self.is_closed or not self.is_started:
            return 0
        return self._idle_slots + self._prefetch_slots - len(self._prefetched)

    def start_polling(self) -> None:
        self.is_started = True
        self._poll_queue()

    def accept_job(self, job: int) -> None:
        """Start a job that the worker received, or keep it until a slot is free."""
        receipt = self._queue.receive_counts[job]
        if pause := self._request_protection(self):
            self.is_paused = True
            call_after(self._env, pause, self._end_pause, None)
            self._queue.return_job(job, receipt)
            return
        if self._progress.visibility_seconds is not None and self._progress.times_done[job]:
            self._queue.delete_job(job, receipt)  # as CHECK_IF_DONE does
        elif self._idle_slots:
            self._start_job(job, receipt, self._fetch_seconds)
        else:
            prefetched = PrefetchedJob(job, receipt, self._env.now + self._fetch_seconds)
            self._prefetched.append(prefetched)
            call_after(self._env, self._fetch_seconds + MAX_READY_SECONDS, self._return_prefetched_job, prefetched)
        self._update_busy()

    def _end_pause(self, _: None) -> None:
        self.is_paused = False
        self._poll_queue()

    def stop_intake(self) -> None:
        """Start no more jobs, and return the prefetched jobs to the queue."""
        self.is_stopping = True
        prefetched, self._prefetched = self._prefetched, []
        for waiting in prefetched:
            self._queue.return_job(waiting.job, waiting.receipt)
        self._update_busy()

    def kill_programs(self, lease_seconds: float | None = 0.0) -> None:
        """Kill all running programs and start no more jobs.

        The killed jobs reappear in the queue after `lease_seconds`. If that is None, they reappear when the published
        worker's visibility timeout ends.
        """
        self.stop_intake()
        visibility = self._progress.visibility_seconds
        for running in self.running:
            running.is_ended = True
            self._progress.program_seconds += max(0.0, self._env.now - running.started_at)
            if lease_seconds == 0.0:
                self._return_job(running)
            elif lease_seconds is not None:
                call_after(self._env, lease_seconds, self._return_job, running)
            elif visibility is not None:
                hidden_seconds = max(0.0, running.started_at + visibility - self._env.now)
                call_after(self._env, hidden_seconds, self._return_job, running)
        self.running.clear()
        self._update_busy()

    def _start_job(self, job: int, receipt: int, fetch_seconds: float) -> None:
        length, running = self._progress.lengths[job], RunningJob(job, receipt, self._env.now + fetch_seconds)
        self._idle_slots -= 1
        self.running[running] = None
        call_after(self._env, fetch_seconds + length, self._finish_job, running)
        if self._durations is None:
            visibility = self._progress.visibility_seconds
            assert visibility is not None
            if fetch_seconds + length > visibility:
                call_after(self._env, visibility, self._return_job, running)
            return
        delay = self._durations.get_prefetch_delay()
        if delay is not None and delay < length:
            call_after(self._env, fetch_seconds + delay, self._request_prefetch, running)

    def _finish_job(self, running: RunningJob) -> None:
        if running.is_ended:
            return
        length = self._progress.lengths[running.job]
        running.is_ended = True
        del self.running[running]
        self._progress.program_seconds += length
        self._progress.count_done(running.job, self._env.now)
        self._queue.delete_job(running.job, running.receipt)
        self._idle_slots += 1
        self._prefetch_slots -= running.has_prefetch
        if self._durations is not None:
            self._durations.add_program_time(length)
        if self._prefetched and not self.is_stopping:
            first = self._prefetched.pop(0)
            self._start_job(first.job, first.receipt, max(0.0, first.ready_at - self._env.now))
        self._poll_queue()

    def _request_prefetch(self, running: RunningJob) -> None:
        if running.allows_prefetch and not running.is_ended:
            running.has_prefetch = True
            self._prefetch_slots += 1
            self._poll_queue()

    def _return_prefetched_job(self, prefetched: PrefetchedJob) -> None:
        """Return a job that has waited too long for a slot.

        Do not prefetch any more jobs while the current jobs run.
        """
        if prefetched not in self._prefetched:
            return
        self._prefetched.remove(prefetched)
        for running in self.running:
            running.allows_prefetch = running.has_prefetch = False
        self._prefetch_slots = 0
        self._queue.return_job(prefetched.job, prefetched.receipt)

    def _return_job(self, running: RunningJob) -> None:
        self._queue.return_job(running.job, running.receipt)

    def _poll_queue(self) -> None:
        while self.free_capacity > 0:
            job = self._queue.receive_job()
            if job is None:
                self._queue.add_poller(self)
                break
            self.accept_job(job)
        self._update_busy()

    def _update_busy(self) -> None:
        is_busy = bool(self.running or self._prefetched)
        if is_busy != self.is_busy:
            self.is_busy = is_busy
            self.idle_since = self._env.now
            self._on_change(self)


def compute_remaining_lease(share: float) -> float:
    """Return the seconds until the lease of a dead worker's job expires, for a `share` from 0 to 1.

    The worker extends a lease after each third of it, so at least two thirds remain.
    """
    return LEASE * (2 / 3 + share / 3)
