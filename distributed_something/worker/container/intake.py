"""The job intake: receives messages from the queue and has a job ready when a slot becomes free.

One thread polls the queue for all slots. It fetches a job for each free slot and prefetches one for each slot whose
program is about to end, so that no processor waits for S3. If jobs are short, one call receives several messages; the
intake keeps the messages that it does not need yet and fetches their inputs later.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from distributed_something.worker.admission.gate import AdmissionGate
from distributed_something.worker.attempt.attempt import MESSAGE_ATTRIBUTES, Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, JobDurations
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.failures import AWS_ERRORS

POLL_WAIT_SECONDS = 5  # SQS allows 20, but an idle worker must stop quickly
MAX_RECEIVED_MESSAGES = 10  # SQS limit for one ReceiveMessage call
MAX_POLL_PAUSE_SECONDS = 60.0  # between polls while they keep failing
PREFETCH_CHECK_SECONDS = 0.5  # how often to check whether it is time to prefetch a job
log = logging.getLogger("worker")


@dataclass
class RunningProgram:
    """The program that a slot is running: when it started, and whether a job may be prefetched before it ends.

    `started`: on the intake's monotonic clock. `since`: the same time in seconds since 1970.
    """

    started: float
    since: float
    may_prefetch: bool = True


class JobIntake:
    """The source of jobs for the slots of one container.

    `gate` limits how many jobs may be taken now; none may be taken while the container is paused. `now` is a monotonic
    clock in seconds. `request_protection` is called before new jobs begin; if it returns a number of seconds above 0,
    the jobs are returned to the queue, and none are taken for that time. `durations` contains how long the most recent
    jobs took.
    """

    def __init__(
        self, context: WorkerContext, handler: JobHandler, stop: StopRequest, gate: AdmissionGate,
        now: Callable[[], float], request_protection: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        self._sqs, self._settings, self._handler, self._stop = context.sqs, context.settings, handler, stop
        self._gate, self._now, self.durations = gate, now, JobDurations()
        self._clock = context.clock
        self._request_protection = request_protection
        self._lock = threading.Lock()
        self._attempt_ready, self._work_changed = (threading.Condition(self._lock) for _ in range(2))
        self._idle_slots: set[int] = set()
        self._running: dict[int, RunningProgram] = {}
        self._fetching_count = 0
        self._ready: deque[tuple[Attempt, float]] = deque()
        self._unfetched: deque[tuple[Attempt, float]] = deque()  # used only by the polling thread

    def announce_idle_slot(self, slot: int) -> None:
        """Register a slot that is waiting for a job; the next polling round takes it into account."""
        with self._lock:
            self._idle_slots.add(slot)
            self._work_changed.notify()

    def wait_for_attempt(self, slot: int) -> Attempt | None:
        """Wait for the slot's next job and return it; return None when the container must stop."""
        self.announce_idle_slot(slot)
        with self._lock:
            while not self._ready and not self._stop.is_announced:
                self._attempt_ready.wait(PREFETCH_CHECK_SECONDS)
            self._idle_slots.discard(slot)
            if self._stop.is_announced:
                return None
            attempt, _ = self._ready.popleft()
            self._running[slot] = RunningProgram(self._now(), self._clock.now())
            self._work_changed.notify()  # the next job may have to be fetched now
            return attempt

    def record_program_end(self, slot: int) -> None:
        """Record the duration of the slot's program, which has just ended."""
        with self._lock:
            seconds = self._now() - self._running.pop(slot).started
        self.durations.add_program_time(seconds)

    def list_program_starts(self) -> dict[int, float]:
        """Return when the programs that are running started, in seconds since 1970, by slot."""
        with self._lock:
            return {slot: program.since for slot, program in self._running.items()}

    def run(self) -> None:
        """Poll the queue until the container must stop. Failed calls are retried after a pause."""
        pause = 1.0
        pool = ThreadPoolExecutor(2 * self._settings.docker_cores, "fetch")
        while not self._stop.is_announced:
            try:
                self.run_round(pool)
                pause = 1.0
            except (*AWS_ERRORS, OSError) as error:
                log.warning("receiving jobs failed; retrying in %.0f s: %s", pause, error)
            except Exception:  # otherwise this thread would end unnoticed and the container would stay idle
                log.exception("the worker's own code failed; retrying in %.0f s", pause)
            else:
                continue
            self._gate.release_probe()
            self._stop.wait(pause)
            pause = min(pause * 2, MAX_POLL_PAUSE_SECONDS)
        pool.shutdown(wait=False, cancel_futures=True)  # a fetch may hang, so nothing waits for it
        self._handler.return_stalled_attempts()

    def run_round(self, pool: ThreadPoolExecutor) -> None:
        """Run one polling round: return overdue jobs, start fetches for the slots, and receive messages if needed."""
        self._return_overdue_attempts(MAX_READY_SECONDS)
        with self._lock:
            needed, early = self._count_needed_jobs()
            if not needed and not early:
                self._work_changed.wait(PREFETCH_CHECK_SECONDS)
                return
        per_second = min(self.durations.get_jobs_per_second() * self._settings.docker_cores, MAX_RECEIVED_MESSAGES)
        allowed = self._gate.count_allowed_jobs(needed, max(early, per_second - needed))
        count = min(allowed, needed + early)
        if count:
            self._start_fetches(pool, count, extra=allowed - count)
        else:
            self._stop.wait(PREFETCH_CHECK_SECONDS)

    def _count_needed_jobs(self) -> tuple[int, int]:
        """Return how many jobs to fetch for idle slots, and how many to prefetch (0 if too few to be worth a call)."""
        available = self._fetching_count + len(self._ready)
        delay = self.durations.get_prefetch_delay()
        now, running = self._now(), self._running.values()
        due = sum(program.may_prefetch and delay is not None and now - program.started >= delay for program in running)
        needed = max(0, len(self._idle_slots) - available)
        early = max(0, len(self._idle_slots) + due - available) - needed
        # Wait until half of the busy slots need a prefetched job: one call then receives the jobs for all of them.
        is_too_few = 2 * early < len(running) and not self._unfetched
        return needed, 0 if is_too_few and not needed else early

    def _start_fetches(self, pool: ThreadPoolExecutor, count: int, extra: int) -> None:
        """Fetch `count` jobs, starting with jobs already received. A poll receives up to `extra` more for later."""
        for _ in range(min(count, len(self._unfetched))):
            self._submit_fetch(pool, self._unfetched.popleft()[0])
            count -= 1
        if count:
            self._poll_queue(pool, count, extra)

    def _poll_queue(self, pool: ThreadPoolExecutor, count: int, extra: int) -> None:
        requested_at = self._now()
        response = self._sqs.receive_message(
            QueueUrl=self._settings.queue_url,
            MaxNumberOfMessages=min(count + extra, MAX_RECEIVED_MESSAGES),
            WaitTimeSeconds=min(POLL_WAIT_SECONDS, max(1, self._settings.visibility_seconds // 3)),
            VisibilityTimeout=self._settings.visibility_seconds,
            MessageSystemAttributeNames=[
                "ApproximateReceiveCount",
                "ApproximateFirstReceiveTimestamp",
                "SentTimestamp",
            ],
            MessageAttributeNames=list(MESSAGE_ATTRIBUTES),
        )
        messages = response.get("Messages", [])
        if not messages:
            self._gate.release_probe()
        # A lease begins when SQS responds; counting from the request starts earlier and is therefore safe.
        attempts = [self._handler.take_message(raw, requested_at) for raw in messages]
        if attempts and (pause := self._request_protection()):
            self._gate.pause(pause)
            for attempt in attempts:
                self._handler.return_attempt(attempt)
            self._gate.release_probe()
            return
        for number, attempt in enumerate(attempts):
            if number < count:
                self._submit_fetch(pool, attempt)
            else:
                self._unfetched.append((attempt, self._now()))

    def _submit_fetch(self, pool: ThreadPoolExecutor, attempt: Attempt) -> None:
        with self._lock:
            self._fetching_count += 1
        pool.submit(self._prepare_attempt, attempt)

    def _prepare_attempt(self, attempt: Attempt) -> None:
        started, has_program = self._now(), False
        try:
            has_program = self._handler.begin_attempt(attempt)
        finally:
            with self._lock:
                self._fetching_count -= 1
                if has_program:
                    self._ready.append((attempt, self._now()))
                    self._attempt_ready.notify()
                else:
                    self._work_changed.notify()
        if has_program:
            self.durations.add_fetch_time(self._now() - started)
        else:
            self._gate.release_probe()

    def _return_overdue_attempts(self, max_wait: float) -> None:
        for attempt in self._pop_overdue_attempts(max_wait):
            self._handler.return_attempt(attempt)

    def _pop_overdue_attempts(self, max_wait: float) -> list[Attempt]:
        """Remove and return the attempts that have waited longer than `max_wait` seconds for a slot.

        If any of them was already fetched, no more jobs are prefetched for the programs that are running now.
        """
        unfetched = [pair for pair in self._unfetched if self._now() - pair[1] > max_wait]
        with self._lock:
            ready = [pair for pair in self._ready if self._now() - pair[1] > max_wait]
            for pair in ready:
                self._ready.remove(pair)
            if ready:
                for program in self._running.values():
                    program.may_prefetch = False
        for pair in unfetched:
            self._unfetched.remove(pair)
        return [attempt for attempt, _ in (*ready, *unfetched)]
