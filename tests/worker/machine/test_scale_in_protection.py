"""A container that has a job is protected from scale-in; an idle container is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distributed_something.worker.machine.scale_in_protection import (
    PROTECTION_MINUTES,
    PROTECTION_RENEW_SECONDS,
    UNPROTECT_AFTER_SECONDS,
    ScaleInProtection,
)

AGENT = {"ECS_AGENT_URI": "http://169.254.170.2/api/x"}


class FakeAgent:
    """An ECS agent that records the requested states and fails while `is_down` is set."""

    def __init__(self, env: dict[str, str] = AGENT) -> None:
        self.states: list[dict[str, Any]] = []
        self.addresses: set[str] = set()
        self.has_jobs, self.is_down = False, False
        self.protection = ScaleInProtection(lambda: self.has_jobs, env, self._put)

    def _put(self, address: str, body: bytes) -> None:
        if self.is_down:
            raise OSError("no route")
        self.addresses.add(address)
        self.states.append(json.loads(body))

    def tick(self, has_jobs: bool, now: float) -> int:
        """Run one tick, and return the number of states requested so far."""
        self.has_jobs = has_jobs
        self.protection.tick(now)
        return len(self.states)


def test_the_protection_of_a_busy_container_is_renewed_before_it_expires() -> None:
    agent = FakeAgent()
    assert [agent.tick(True, now) for now in (0, 1, PROTECTION_RENEW_SECONDS - 1, PROTECTION_RENEW_SECONDS)] == [
        1,
        1,
        1,
        2,
    ]
    assert agent.states == [{"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}] * 2
    assert agent.addresses == {"http://169.254.170.2/api/x/task-protection/v1/state"}
    assert PROTECTION_RENEW_SECONDS < PROTECTION_MINUTES * 60


def test_a_container_stays_protected_during_a_short_break_between_jobs() -> None:
    agent = FakeAgent()
    steps = [
        (True, 0.0),
        (False, 1.0),
        (False, UNPROTECT_AFTER_SECONDS - 1),
        (True, UNPROTECT_AFTER_SECONDS),
        (False, UNPROTECT_AFTER_SECONDS + 1),
    ]
    assert [agent.tick(*step) for step in steps] == [1] * 5


def test_an_idle_container_ends_its_protection_once() -> None:
    agent = FakeAgent()
    agent.tick(True, 0.0)
    assert [agent.tick(False, now) for now in (UNPROTECT_AFTER_SECONDS, UNPROTECT_AFTER_SECONDS + 1)] == [2, 2]
    assert agent.states[-1] == {"ProtectionEnabled": False}


def test_a_container_that_never_had_a_job_makes_no_requests() -> None:
    assert FakeAgent().tick(False, 1e6) == 0


def test_a_failed_request_to_the_agent_is_retried_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    agent = FakeAgent()
    agent.is_down = True
    assert [agent.tick(True, now) for now in (0, 1, 2)] == [0, 0, 0]
    assert len(caplog.records) == 1
    agent.is_down = False
    assert agent.tick(True, 3) == 1


def test_outside_ecs_there_is_no_agent() -> None:
    assert not FakeAgent({}).protection.has_agent
    assert FakeAgent().protection.has_agent
