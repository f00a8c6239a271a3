"""Keeps a container's slots in work: takes messages from the queue and has each ready when a slot is free.

One thread polls for all slots. A slot that has nothing to do gets a job; for a slot whose program is about to end, one
is fetched ahead, so that no processor waits for S3. Of short jobs several come in one call: those that are too many for
now are held, and not fetched.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from distributed_something.worker.admission.gate import AdmissionGate
from distributed_something.worker.attempt.attempt import ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE, Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, JobDurations
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.program.processors import use_one_processor

POLL_WAIT_SECONDS = 5  # SQS allows 20; an idle worker must end soon after it is told to
MAX_RECEIVED_MESSAGES = 10  # SQS: in one receive call
MAX_POLL_PAUSE_SECONDS = 60.0  # between polls while AWS refuses them
PREFETCH_CHECK_SECONDS = 0.5  # between two looks at whether a fetch ahead is due
log = logging.getLogger("worker")


@dataclass
class RunningProgram:
    """A slot's program: since when, and whether a job may still be fetched ahead of its end."""

    since: float
    ahead: bool = True


class JobIntake:
    """`gate` says how many jobs may be taken now: the container may be sick, or its disk full. `now`: a clock that only
    goes forward, seconds. `durations`: what the last jobs took."""

    def __init__(
        self, context: WorkerContext, handler: JobHandler, stop: StopRequest, gate: AdmissionGate,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._sqs, self._settings, self._handler, self._stop = context.sqs, context.settings, handler, stop
        self._gate, self._now, self.durations = gate, now, JobDurations()
        self._lock = threading.Lock()
        self._for_slots, self._for_polling = (threading.Condition(self._lock) for _ in range(2))  # who has to look
        self._idle: set[int] = set()
        self._running: dict[int, RunningProgram] = {}
        self._coming = 0
        self._ready: deque[tuple[Attempt, float]] = deque()
        self._held: deque[tuple[Attempt, float]] = deque()  # the polling thread's own

    def announce_idle_slot(self, slot: int) -> None:
        """The slot wants a job, which the next round takes into account."""
        with self._lock:
            self._idle.add(slot)
            self._for_polling.notify()

    def wait_for_attempt(self, slot: int) -> Attempt | None:
        """Waits for the slot's next job; None when the container is told to end."""
        self.announce_idle_slot(slot)
        with self._lock:
            while not self._ready and not self._stop.is_announced:
                self._for_slots.wait(PREFETCH_CHECK_SECONDS)
            self._idle.discard(slot)
            if self._stop.is_announced:
                return None
            attempt, _ = self._ready.popleft()
            self._running[slot] = RunningProgram(self._now())
            self._for_polling.notify()  # the job after this one may be due
            return attempt

    def record_program_end(self, slot: int) -> None:
        """The slot's program has ended."""
        with self._lock:
            ran = self._now() - self._running.pop(slot).since
        self.durations.add_program_time(ran)

    def run(self) -> None:
        """Polls until told to end, never ending because one poll was empty or one call failed."""
        pause = 1.0
        with ThreadPoolExecutor(2 * self._settings.docker_cores, "fetch", initializer=use_one_processor) as pool:
            while not self._stop.is_announced:
                try:
                    self.run_round(pool)
                    pause = 1.0
                except (*AWS_ERRORS, OSError) as error:
                    log.warning("AWS or this machine refuses (%s): trying again in %.0f s", error, pause)
                except Exception:  # the loop's edge: without it the container would be idle, unseen
                    log.exception("the worker's own code failed: trying again in %.0f s", pause)
                else:
                    continue
                self._gate.release_probe()
                self._stop.wait(pause)
                pause = min(pause * 2, MAX_POLL_PAUSE_SECONDS)
            # At once: the pool's end waits for fetches, of which one may hang.
            self._return_overdue_attempts(patience=-1.0)
        self._return_overdue_attempts(patience=-1.0)

    def run_round(self, pool: ThreadPoolExecutor) -> None:
        """One round: returns what nobody began, begins what a slot wants, and polls if that is not at hand."""
        self._return_overdue_attempts(MAX_READY_SECONDS)
        with self._lock:
            wanted, ahead = self._count_wanted_jobs()
            if not wanted and not ahead:
                self._for_polling.wait(PREFETCH_CHECK_SECONDS)
                return
        many = min(self.durations.get_jobs_per_second() * self._settings.docker_cores, MAX_RECEIVED_MESSAGES)
        places = self._gate.count_places(wanted, max(ahead, many - wanted))
        begin = min(places, wanted + ahead)
        if begin:
            self._start_jobs(pool, begin, hold=places - begin)
        else:
            self._stop.wait(PREFETCH_CHECK_SECONDS)

    def _count_wanted_jobs(self) -> tuple[int, int]:
        """How many jobs to begin for slots that have none, and how many ahead, when that is worth a call."""
        there = self._coming + len(self._ready)
        due = self.durations.get_prefetch_delay()
        now, running = self._now(), self._running.values()
        soon = sum(program.ahead and due is not None and now - program.since >= due for program in running)
        wanted = max(0, len(self._idle) - there)
        ahead = max(0, len(self._idle) + soon - there) - wanted
        few = 2 * ahead < len(running) and not self._held  # short jobs: half of the slots' next ones in one call
        return wanted, 0 if few and not wanted else ahead

    def _start_jobs(self, pool: ThreadPoolExecutor, count: int, hold: int) -> None:
        """First those that are held; if they are too few, one call brings the rest, and `hold` more."""
        for _ in range(min(count, len(self._held))):
            self._submit_fetch(pool, self._held.popleft()[0])
            count -= 1
        if count:
            self._poll_queue(pool, count, hold)

    def _poll_queue(self, pool: ThreadPoolExecutor, begin: int, hold: int) -> None:
        asked = self._now()
        answer = self._sqs.receive_message(
            QueueUrl=self._settings.queue_url,
            MaxNumberOfMessages=min(begin + hold, MAX_RECEIVED_MESSAGES),
            WaitTimeSeconds=min(POLL_WAIT_SECONDS, max(1, self._settings.visibility_seconds // 3)),
            VisibilityTimeout=self._settings.visibility_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"],
            MessageAttributeNames=[ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE],
        )
        messages = answer.get("Messages", [])
        if not messages:
            self._gate.release_probe()
        # A lease began when SQS answered, later than it was asked: counted from there, it is safe.
        for number, raw in enumerate(messages):
            attempt = self._handler.take_message(raw, asked)
            if number < begin:
                self._submit_fetch(pool, attempt)
            else:
                self._held.append((attempt, self._now()))

    def _submit_fetch(self, pool: ThreadPoolExecutor, attempt: Attempt) -> None:
        with self._lock:
            self._coming += 1
        pool.submit(self._prepare_attempt, attempt)

    def _prepare_attempt(self, attempt: Attempt) -> None:
        began, goes_on = self._now(), False
        try:
            goes_on = self._handler.begin_attempt(attempt)
        finally:
            with self._lock:
                self._coming -= 1
                if goes_on:
                    self._ready.append((attempt, self._now()))
                    self._for_slots.notify()
                else:
                    self._for_polling.notify()
        if goes_on:
            self.durations.add_fetch_time(self._now() - began)
        else:
            self._gate.release_probe()

    def _return_overdue_attempts(self, patience: float) -> None:
        for attempt in self._pop_overdue_attempts(patience):
            self._handler.give_back(attempt)

    def _pop_overdue_attempts(self, patience: float) -> list[Attempt]:
        """Jobs that are held, or lie fetched while their slot's program goes on; it gets no other before it ends."""
        held = [pair for pair in self._held if self._now() - pair[1] > patience]
        with self._lock:
            late = [pair for pair in self._ready if self._now() - pair[1] > patience]
            for pair in late:
                self._ready.remove(pair)
            if late:
                for program in self._running.values():
                    program.ahead = False
        for pair in held:
            self._held.remove(pair)
        return [attempt for attempt, _ in (*late, *held)]
