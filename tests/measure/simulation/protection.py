"""A model of ECS's scale-in protection, and of how the worker requests, renews, and releases it.

ECS refuses to protect a task if more tasks would then be protected than the service's desired count. The times are
those of `distributed_something/worker/machine/scale_in_protection.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import simpy

from distributed_something.worker.machine.scale_in_protection import (
    PROTECTION_RENEW_SECONDS,
    RETRY_SECONDS,
    UNPROTECT_AFTER_SECONDS,
)
from tests.measure.simulation.clock import call_after
from tests.measure.simulation.worker import Worker


class Protection:
    """The protected containers of a service.

    `seconds`: how long a protection lasts. `get_desired` returns the service's desired count. `refused`: how many
    requests ECS has refused so far. `refused_renewals`: how many of them were for a protected container.
    """

    def __init__(self, env: simpy.Environment, random: Random, seconds: float, get_desired: Callable[[], int]) -> None:
        self._env, self._random, self._seconds, self._get_desired = env, random, seconds, get_desired
        self._expiry: dict[Worker, float] = {}
        self._retry_at: dict[Worker, float] = {}
        self.refused = self.refused_renewals = 0

    def __contains__(self, worker: Worker) -> bool:
        return worker in self._expiry

    def __len__(self) -> int:
        return len(self._expiry)

    def request(self, worker: Worker) -> float:
        """Protect a container that has received a job. Return how long it must take no jobs; 0 if it is protected."""
        now, retry_at = self._env.now, self._retry_at.get(worker, 0.0)
        if worker in self._expiry:
            return 0.0
        if now >= retry_at and self._grant(worker):
            call_after(self._env, PROTECTION_RENEW_SECONDS, self._renew, worker)
            return 0.0
        return self._retry_at[worker] - now

    def release_when_idle(self, worker: Worker) -> None:
        """End the protection of a container that has become idle, unless it gets a job within ten seconds."""
        call_after(self._env, UNPROTECT_AFTER_SECONDS, self._release, (worker, worker.idle_since))

    def forget(self, worker: Worker) -> None:
        """Forget a container that has ended."""
        self._expiry.pop(worker, None)
        self._retry_at.pop(worker, None)

    def _grant(self, worker: Worker) -> bool:
        others = len(self._expiry) - (worker in self._expiry)
        if others + 1 > self._get_desired():
            self.refused += 1
            self.refused_renewals += worker in self._expiry
            self._retry_at[worker] = self._env.now + self._random.uniform(*RETRY_SECONDS)
            return False
        self._expiry[worker] = self._env.now + self._seconds
        call_after(self._env, self._seconds, self._expire, worker)
        return True

    def _renew(self, worker: Worker) -> None:
        if worker not in self._expiry or not worker.is_busy:
            return
        is_renewed = self._grant(worker)
        pause = PROTECTION_RENEW_SECONDS if is_renewed else self._retry_at[worker] - self._env.now
        call_after(self._env, pause, self._renew, worker)

    def _expire(self, worker: Worker) -> None:
        if self._env.now >= self._expiry.get(worker, float("inf")):
            del self._expiry[worker]

    def _release(self, idle: tuple[Worker, float]) -> None:
        worker, since = idle
        if not worker.is_busy and worker.idle_since == since:
            self._expiry.pop(worker, None)
