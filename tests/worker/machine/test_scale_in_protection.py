"""A container that has a job is protected from scale-in; an idle one is not."""

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


class Agent:
    """Remembers what it was told; refuses while `down`."""

    def __init__(self, env: dict[str, str] = AGENT) -> None:
        self.told: list[dict[str, Any]] = []
        self.addresses: set[str] = set()
        self.busy, self.down = False, False
        self.protection = ScaleInProtection(lambda: self.busy, env, self._put)

    def _put(self, address: str, body: bytes) -> None:
        if self.down:
            raise OSError("no route")
        self.addresses.add(address)
        self.told.append(json.loads(body))

    def look(self, busy: bool, at: float) -> int:
        """How often it was told something, after a look at this time."""
        self.busy = busy
        self.protection.tick(at)
        return len(self.told)


def test_a_busy_container_is_protected_once_and_renewed_before_that_ends() -> None:
    agent = Agent()
    assert [agent.look(True, at) for at in (0, 1, PROTECTION_RENEW_SECONDS - 1, PROTECTION_RENEW_SECONDS)] == [
        1,
        1,
        1,
        2,
    ]
    assert agent.told == [{"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}] * 2
    assert agent.addresses == {"http://169.254.170.2/api/x/task-protection/v1/state"}
    assert PROTECTION_RENEW_SECONDS < PROTECTION_MINUTES * 60


def test_a_container_that_rests_for_a_moment_between_two_jobs_stays_protected() -> None:
    agent = Agent()
    looks = [
        (True, 0.0),
        (False, 1.0),
        (False, UNPROTECT_AFTER_SECONDS - 1),
        (True, UNPROTECT_AFTER_SECONDS),
        (False, UNPROTECT_AFTER_SECONDS + 1),
    ]
    assert [agent.look(*look) for look in looks] == [1] * 5


def test_an_idle_container_gives_its_protection_up_and_says_no_more() -> None:
    agent = Agent()
    agent.look(True, 0.0)
    assert [agent.look(False, at) for at in (UNPROTECT_AFTER_SECONDS, UNPROTECT_AFTER_SECONDS + 1)] == [2, 2]
    assert agent.told[-1] == {"ProtectionEnabled": False}


def test_a_container_that_never_had_a_job_asks_for_nothing() -> None:
    assert Agent().look(False, 1e6) == 0


def test_an_agent_that_refuses_is_asked_again_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent()
    agent.down = True
    assert [agent.look(True, at) for at in (0, 1, 2)] == [0, 0, 0]
    assert len(caplog.records) == 1
    agent.down = False
    assert agent.look(True, 3) == 1


def test_without_an_agent_there_is_nothing_to_ask() -> None:
    assert not Agent({}).protection.has_agent
    assert Agent().protection.has_agent
