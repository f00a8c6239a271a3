"""A container: slots that run jobs, and one job fetched ahead of a program's end. As
`distributed_something/worker/container/intake.py` does it, with the real `JobDurations`; the published worker
fetches nothing ahead and extends no lease.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import simpy

from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, JobDurations
from tests.measure.simulation.assumptions import LEASE
from tests.measure.simulation.clock import after
from tests.measure.simulation.queue import Queue


@dataclass
class Work:
    """The jobs of a run and what became of them. `spent`: seconds of all programs, whether they came to something or
    not. `visibility`: of the published worker, in seconds; None: leases are extended."""

    lengths: array[float]
    visibility: float | None
    times_done: bytearray = field(init=False)
    spent: float = 0.0
    left: int = field(init=False)
    last: float = 0.0

    def __post_init__(self) -> None:
        self.times_done, self.left = bytearray(len(self.lengths)), len(self.lengths)

    def add(self, lengths: array[float]) -> None:
        self.lengths.extend(lengths)
        self.times_done.extend(bytes(len(lengths)))
        self.left += len(lengths)

    def done(self, job: int, at: float) -> None:
        if not self.times_done[job]:
            self.left -= 1
            self.last = at
        self.times_done[job] = min(255, self.times_done[job] + 1)


class Running:
    """A slot's job: since when its program runs, and whether one may still be fetched ahead of its end."""

    __slots__ = ("ahead", "due", "ended", "job", "receipt", "since")

    def __init__(self, job: int, receipt: int, since: float) -> None:
        self.job, self.receipt, self.since = job, receipt, since
        self.ahead, self.due, self.ended = True, False, False


@dataclass(eq=False)
class Fetched:
    """A job that was fetched ahead: when it is there."""

    job: int
    receipt: int
    at: float


class Worker:
    """`changed(worker)` is told when it gets its first job or has none any more."""

    def __init__(
        self, env: simpy.Environment, queue: Queue, work: Work, slots: int, fetch: float,
        changed: Callable[[Worker], None],
    ) -> None:  # fmt: skip
        self._env, self._queue, self._work, self._fetch, self._changed = env, queue, work, fetch, changed
        self._pace = JobDurations() if work.visibility is None else None
        self._idle, self._soon = slots, 0
        self._ready: list[Fetched] = []
        self.running: dict[Running, None] = {}
        self.polling = False
        self.started = self.stopping = False
        self.busy = False
        self.idle_since = env.now

    @property
    def wants(self) -> int:
        if self.stopping or not self.started:
            return 0
        return self._idle + self._soon - len(self._ready)

    def start(self) -> None:
        self.started = True
        self._poll()

    def take(self, job: int) -> None:
        """A message came."""
        receipt = self._queue.receives[job]
        if self._work.visibility is not None and self._work.times_done[job]:
            self._queue.delete(job, receipt)  # CHECK_IF_DONE
        elif self._idle:
            self._begin(job, receipt, self._fetch)
        else:
            fetched = Fetched(job, receipt, self._env.now + self._fetch)
            self._ready.append(fetched)
            after(self._env, self._fetch + MAX_READY_SECONDS, self._too_long_ready, fetched)
        self._note()

    def stop(self) -> None:
        """No job is begun any more; those that are fetched go back."""
        self.stopping = True
        ready, self._ready = self._ready, []
        for one in ready:
            self._queue.give_back(one.job, one.receipt)
        self._note()

    def cut(self, lease: float | None) -> None:
        """What runs comes to nothing. Its messages are back after `lease` seconds (None: by their fixed visibility)."""
        self.stop()
        for one in self.running:
            one.ended = True
            self._work.spent += max(0.0, self._env.now - one.since)
            if lease == 0.0:
                self._queue.give_back(one.job, one.receipt)
            elif lease is not None:
                after(self._env, lease, self._visible, one)
            elif self._work.visibility is not None:
                after(self._env, max(0.0, one.since + self._work.visibility - self._env.now), self._visible, one)
        self.running.clear()
        self._note()

    def _begin(self, job: int, receipt: int, fetch: float) -> None:
        length, one = self._work.lengths[job], Running(job, receipt, self._env.now + fetch)
        self._idle -= 1
        self.running[one] = None
        after(self._env, fetch + length, self._end, one)
        if self._pace is None:
            assert self._work.visibility is not None
            if fetch + length > self._work.visibility:
                after(self._env, self._work.visibility, self._visible, one)
            return
        due = self._pace.get_prefetch_delay()
        if due is not None and due < length:
            after(self._env, fetch + due, self._is_due, one)

    def _end(self, one: Running) -> None:
        if one.ended:
            return
        length = self._work.lengths[one.job]
        one.ended = True
        del self.running[one]
        self._work.spent += length
        self._work.done(one.job, self._env.now)
        self._queue.delete(one.job, one.receipt)
        self._idle += 1
        self._soon -= one.due
        if self._pace is not None:
            self._pace.add_program_time(length)
        if self._ready and not self.stopping:
            first = self._ready.pop(0)
            self._begin(first.job, first.receipt, max(0.0, first.at - self._env.now))
        self._poll()

    def _is_due(self, one: Running) -> None:
        if one.ahead and not one.ended:
            one.due = True
            self._soon += 1
            self._poll()

    def _too_long_ready(self, fetched: Fetched) -> None:
        if fetched not in self._ready:
            return
        self._ready.remove(fetched)
        for one in self.running:
            one.ahead = one.due = False
        self._soon = 0
        self._queue.give_back(fetched.job, fetched.receipt)

    def _visible(self, one: Running) -> None:
        self._queue.give_back(one.job, one.receipt)

    def _poll(self) -> None:
        while self.wants > 0:
            job = self._queue.receive()
            if job is None:
                self._queue.poll(self)
                break
            self.take(job)
        self._note()

    def _note(self) -> None:
        busy = bool(self.running or self._ready)
        if busy != self.busy:
            self.busy = busy
            self.idle_since = self._env.now
            self._changed(self)


def lease_left(share: float) -> float:
    """Seconds until the lease of a job ends whose worker died: it was extended a third of a lease ago at most."""
    return LEASE * (2 / 3 + share / 3)
