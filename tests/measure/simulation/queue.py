"""A model of SQS: messages are waiting, leased, or deleted, and the counts are outdated and imprecise."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Protocol

import simpy

from distributed_something.observe.queue import QueueCounts
from tests.measure.simulation.clock import Process

WAITING, LEASED, DELETED = 0, 1, 2
SAMPLE_SECONDS = 1.0


class Poller(Protocol):
    """A receiver of messages. `is_polling`: whether the queue's list of pollers contains this receiver."""

    is_polling: bool

    @property
    def free_capacity(self) -> int:
        """The number of messages that the receiver would accept now."""

    def accept_job(self, job: int) -> None: ...


class Queue:
    """The job queue. Jobs are numbered from zero. A returned job gets a random position among the waiting jobs."""

    def __init__(self, env: simpy.Environment, random: Random, lag: float, noise: float) -> None:
        self._env, self._random, self._noise = env, random, noise
        self._new_jobs: deque[int] = deque()
        self._returned_jobs: list[int] = []
        self._pollers: list[Poller] = []
        # The numbers of waiting and leased jobs, one pair per second, going back as far as the counts can lag.
        self._samples: deque[tuple[int, int]] = deque([(0, 0)], maxlen=int(lag / SAMPLE_SECONDS) + 1)
        self.states = bytearray()  # of each job
        self.receive_counts: list[int] = []  # of each job; the current count is the receipt that is valid
        self.leased = 0
        self.zero_counts_until = 0.0  # set by tests: until this time, the counts are 0, whatever the queue contains
        env.process(self._sample_counts())

    @property
    def waiting(self) -> int:
        """The number of visible jobs."""
        return len(self._new_jobs) + len(self._returned_jobs)

    def submit_jobs(self, count: int) -> None:
        """Add `count` new jobs."""
        for job in range(len(self.states), len(self.states) + count):
            self.states.append(WAITING)
            self.receive_counts.append(0)
            self._offer_job(job, self._new_jobs)

    def settle_counts(self) -> None:
        """Make the counts current, as if the queue had not changed for longer than the lag."""
        self._samples.extend([(self.waiting, self.leased)] * (self._samples.maxlen or 1))

    def receive_job(self) -> int | None:
        """Lease a job and return its number, or None if no job is waiting."""
        if not self.waiting:
            return None
        returned = self._returned_jobs
        if returned and (not self._new_jobs or self._random.random() * self.waiting < len(returned)):
            index = self._random.randrange(len(returned))
            returned[index], returned[-1] = returned[-1], returned[index]
            return self._lease_job(returned.pop())
        return self._lease_job(self._new_jobs.popleft())

    def add_poller(self, poller: Poller) -> None:
        """Pass new jobs to `poller` until it accepts no more."""
        if not poller.is_polling:
            poller.is_polling = True
            self._pollers.append(poller)

    def delete_job(self, job: int, receipt: int) -> None:
        """Delete a job, unless it has been received again in the meantime."""
        if self._is_valid(job, receipt):
            self.states[job] = DELETED
            self.leased -= 1

    def return_job(self, job: int, receipt: int) -> None:
        """Make a job visible, because its worker returned it or its lease expired."""
        if self._is_valid(job, receipt):
            self.states[job] = WAITING
            self.leased -= 1
            self._offer_job(job, self._returned_jobs)

    def read_counts(self) -> QueueCounts:
        """Return the counts that SQS would report. Each of the two numbers is from a random time within the lag."""
        if self._env.now < self.zero_counts_until:
            return QueueCounts(0, 0)
        return QueueCounts(*(self._read_count(column) for column in (0, 1)))

    def _read_count(self, column: int) -> int:
        age = self._random.randrange(len(self._samples))
        return max(0, round(self._samples[-1 - age][column] * self._random.gauss(1.0, self._noise)))

    def _is_valid(self, job: int, receipt: int) -> bool:
        return self.states[job] == LEASED and self.receive_counts[job] == receipt

    def _lease_job(self, job: int) -> int:
        self.states[job] = LEASED
        self.receive_counts[job] += 1
        self.leased += 1
        return job

    def _offer_job(self, job: int, waiting_jobs: deque[int] | list[int]) -> None:
        """Pass a job to a random poller. If no poller accepts it, add it to `waiting_jobs`."""
        while self._pollers:
            index = self._random.randrange(len(self._pollers))
            poller = self._pollers[index]
            if poller.free_capacity > 0:
                poller.accept_job(self._lease_job(job))
                return
            self._pollers[index] = self._pollers[-1]
            self._pollers.pop()
            poller.is_polling = False
        waiting_jobs.append(job)

    def _sample_counts(self) -> Process:
        while True:
            self._samples.append((self.waiting, self.leased))
            yield self._env.timeout(SAMPLE_SECONDS)
