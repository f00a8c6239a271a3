"""SQS as the model has it: messages that are waiting, held or gone, and counts that tell how it was a while ago."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Protocol

import simpy

from distributed_something.observe.queue import QueueCounts
from tests.measure.simulation.clock import Process

WAITING, HELD, GONE = 0, 1, 2
SAMPLE_SECONDS = 1.0


class Poller(Protocol):
    """Who waits for messages: `wants` says how many it would take now, `polling` whether it stands in line."""

    polling: bool

    @property
    def wants(self) -> int: ...

    def take(self, job: int) -> None: ...


class Queue:
    """Jobs are numbers from zero. A returned one comes at a random place among those that wait."""

    def __init__(self, env: simpy.Environment, random: Random, lag: float, noise: float) -> None:
        self._env, self._random, self._lag, self._noise = env, random, lag, noise
        self._fresh: deque[int] = deque()
        self._returned: list[int] = []
        self._pollers: list[Poller] = []
        self._seen: deque[tuple[int, int]] = deque([(0, 0)], maxlen=int(lag / SAMPLE_SECONDS) + 1)
        self.state = bytearray()
        self.receives: list[int] = []  # of each job; the latest is the receipt that counts
        self.held = 0
        self.blind_until = 0.0  # a test's: the counts say zero before this
        env.process(self._sample())

    @property
    def waiting(self) -> int:
        return len(self._fresh) + len(self._returned)

    @property
    def empty(self) -> bool:
        return self.held + self.waiting == 0

    def submit(self, count: int) -> None:
        """So many new jobs."""
        for job in range(len(self.state), len(self.state) + count):
            self.state.append(WAITING)
            self.receives.append(0)
            self._hand_out(job, self._fresh)

    def settle(self) -> None:
        """The counts tell how it is now: nothing happened for longer than they lag."""
        self._seen.extend([(self.waiting, self.held)] * (self._seen.maxlen or 1))

    def receive(self) -> int | None:
        """A job for whoever asks; None if there is none."""
        if not self.waiting:
            return None
        if self._returned and (not self._fresh or self._random.random() * self.waiting < len(self._returned)):
            place = self._random.randrange(len(self._returned))
            self._returned[place], self._returned[-1] = self._returned[-1], self._returned[place]
            return self._hide(self._returned.pop())
        return self._hide(self._fresh.popleft())

    def poll(self, poller: Poller) -> None:
        """It is handed jobs as they come, for as long as it wants any."""
        if not poller.polling:
            poller.polling = True
            self._pollers.append(poller)

    def delete(self, job: int, receipt: int) -> bool:
        """Deletes it, unless it was received again; whether it did."""
        if self.state[job] != HELD or self.receives[job] != receipt:
            return False
        self.state[job] = GONE
        self.held -= 1
        return True

    def give_back(self, job: int, receipt: int) -> None:
        """It is visible again: given back, or its lease has ended."""
        if self.state[job] == HELD and self.receives[job] == receipt:
            self.state[job] = WAITING
            self.held -= 1
            self._hand_out(job, self._returned)

    def counts(self) -> QueueCounts:
        """What SQS says: each count as of a moment of its own."""
        if self._env.now < self.blind_until:
            return QueueCounts(0, 0)
        return QueueCounts(*(self._told(kind) for kind in (0, 1)))

    def _told(self, kind: int) -> int:
        ago = self._random.randrange(len(self._seen))
        return max(0, round(self._seen[-1 - ago][kind] * self._random.gauss(1.0, self._noise)))

    def _hide(self, job: int) -> int:
        self.state[job] = HELD
        self.receives[job] += 1
        self.held += 1
        return job

    def _hand_out(self, job: int, otherwise: deque[int] | list[int]) -> None:
        while self._pollers:
            place = self._random.randrange(len(self._pollers))
            poller = self._pollers[place]
            if poller.wants > 0:
                poller.take(self._hide(job))
                return
            self._pollers[place] = self._pollers[-1]
            self._pollers.pop()
            poller.polling = False
        otherwise.append(job)

    def _sample(self) -> Process:
        while True:
            self._seen.append((self.waiting, self.held))
            yield self._env.timeout(SAMPLE_SECONDS)
