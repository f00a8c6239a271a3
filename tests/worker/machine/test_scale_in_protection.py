"""A container that has a job is protected from scale-in; an idle container is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from distributed_something.worker.machine.scale_in_protection import (
    PROTECTION_MINUTES,
    PROTECTION_RENEW_SECONDS,
    UNPROTECT_AFTER_SECONDS,
    ScaleInProtection,
    put_protection_state,
)

AGENT = {"ECS_AGENT_URI": "http://169.254.170.2/api/x"}
PAUSE = 40.0
# As the ECS agent sends it, with status 200, while more tasks are protected than the service's desired count.
BLOCKED = {"failure": {"Arn": "arn:aws:ecs:…", "Detail": None, "Reason": "DEPLOYMENT_BLOCKED"}}


class FakeAgent:
    """An ECS agent that records the requested states. It grants them unless `response` or `is_down` is set."""

    def __init__(self, env: dict[str, str] = AGENT) -> None:
        self.states: list[dict[str, Any]] = []
        self.addresses: set[str] = set()
        self.has_jobs, self.is_down = False, False
        self.response: Any = None
        self.protection = ScaleInProtection(lambda: self.has_jobs, env, self._put, lambda: PAUSE)

    def _put(self, address: str, body: bytes) -> Any:
        self.addresses.add(address)
        self.states.append(json.loads(body))
        if self.is_down:
            raise OSError("no route")
        if self.response is not None:
            return self.response
        return {"protection": {"ProtectionEnabled": self.states[-1]["ProtectionEnabled"], "TaskArn": "arn"}}

    def tick(self, has_jobs: bool, now: float) -> int:
        """Run one tick, and return the number of states requested so far."""
        self.has_jobs = has_jobs
        self.protection.tick(now)
        return len(self.states)

    def request_for_job(self, now: float) -> float:
        """Request protection for a job that was received; return how long to take no jobs."""
        self.has_jobs = True
        return self.protection.request_for_job(now)


def test_the_protection_of_a_busy_container_is_renewed_before_it_expires() -> None:
    agent = FakeAgent()
    times = (0, 1, PROTECTION_RENEW_SECONDS - 1, PROTECTION_RENEW_SECONDS)
    assert [agent.tick(True, now) for now in times] == [1, 1, 1, 2]
    assert agent.states == [{"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}] * 2
    assert agent.addresses == {"http://169.254.170.2/api/x/task-protection/v1/state"}


def test_the_protection_outlasts_the_longest_possible_job_even_if_no_renewal_succeeds() -> None:
    assert PROTECTION_MINUTES * 60 - PROTECTION_RENEW_SECONDS >= 12 * 3600


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


def test_a_job_begins_only_after_its_container_is_protected_which_one_request_does_for_many_jobs() -> None:
    agent = FakeAgent()
    assert [agent.request_for_job(now) for now in (0.0, 1.0, 2.0)] == [0.0, 0.0, 0.0]
    assert len(agent.states) == 1


@pytest.mark.parametrize(
    "response",
    [
        BLOCKED,
        {"error": {"Arn": "arn", "Code": "AccessDeniedException", "Message": "not authorized"}},
        {"protection": {"ProtectionEnabled": False, "TaskArn": "arn"}},
        {},
        [],
        "OK",
    ],
)
def test_only_a_response_that_says_protected_counts_as_protection(
    response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent = FakeAgent()
    agent.response = response
    assert agent.request_for_job(100.0) == PAUSE
    assert agent.request_for_job(110.0) == PAUSE - 10
    assert [agent.tick(True, 100 + now) for now in (1.0, 20.0, PAUSE - 1)] == [1, 1, 1]
    assert len(caplog.records) == 1
    agent.response = None
    assert agent.request_for_job(100.0 + PAUSE) == 0.0
    assert len(agent.states) == 2


def test_the_log_names_why_ecs_refuses_the_protection(caplog: pytest.LogCaptureFixture) -> None:
    agent = FakeAgent()
    agent.response = BLOCKED
    agent.request_for_job(0.0)
    assert "DEPLOYMENT_BLOCKED" in caplog.text
    agent.response = {"error": {"Code": "ThrottlingException", "Message": "Rate\nexceeded"}}
    agent.request_for_job(PAUSE)
    assert "ThrottlingException: Rate exceeded" in caplog.text


def test_a_refused_renewal_leaves_the_protection_as_it_is_and_is_retried_after_a_pause() -> None:
    agent = FakeAgent()
    agent.tick(True, 0.0)
    agent.response = BLOCKED
    first = PROTECTION_RENEW_SECONDS
    assert [agent.tick(True, first + now) for now in (0.0, 1.0, PAUSE - 1, PAUSE)] == [2, 2, 2, 3]
    assert agent.request_for_job(first + PAUSE + 1) == 0.0  # it is still protected
    expired = PROTECTION_MINUTES * 60
    assert agent.request_for_job(expired + PAUSE) == PAUSE


def test_a_refused_release_is_retried_after_a_pause() -> None:
    agent = FakeAgent()
    agent.tick(True, 0.0)
    agent.response = BLOCKED
    assert [agent.tick(False, now) for now in (10.0, 11.0, 10.0 + PAUSE - 1, 10.0 + PAUSE)] == [2, 2, 2, 3]


def test_jobs_run_without_protection_if_the_agent_does_not_respond(caplog: pytest.LogCaptureFixture) -> None:
    agent = FakeAgent()
    agent.is_down = True
    assert agent.request_for_job(0.0) == 0.0
    assert [agent.tick(True, now) for now in (1, PAUSE - 1, PAUSE)] == [1, 1, 2]
    assert len(caplog.records) == 1
    agent.is_down = False
    assert agent.tick(True, 2 * PAUSE) == 3
    assert agent.tick(True, 2 * PAUSE + 1) == 3


def test_an_agent_that_does_not_respond_is_asked_again_only_after_a_pause_although_jobs_begin() -> None:
    agent = FakeAgent()
    agent.is_down = True
    assert [agent.tick(True, float(now)) for now in range(int(3 * PAUSE))][-1] == 3
    assert agent.request_for_job(3 * PAUSE - 1) == 0.0
    assert len(agent.states) == 3
    agent.is_down = False
    assert agent.request_for_job(3 * PAUSE) == 0.0
    assert agent.protection.refusal is None


def test_the_refusal_is_data_until_ecs_grants_the_protection() -> None:
    agent = FakeAgent()
    for response, code in (
        (BLOCKED, "DEPLOYMENT_BLOCKED"),
        ({"error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "AccessDeniedException"),
        ({}, ""),
    ):
        agent.response = response
        agent.request_for_job(len(agent.states) * PAUSE)
        assert agent.protection.refusal is not None
        assert agent.protection.refusal.code == code
    agent.response = None
    agent.request_for_job(len(agent.states) * PAUSE)
    assert agent.protection.refusal is None


def test_outside_ecs_there_is_no_agent_and_jobs_need_no_protection() -> None:
    agent = FakeAgent({})
    assert not agent.protection.has_agent
    assert agent.request_for_job(0.0) == 0.0
    assert agent.states == []
    assert FakeAgent().protection.has_agent


@contextmanager
def serve_agent(status: int, body: bytes) -> Iterator[str]:
    """Run an HTTP server that answers each PUT with this status and body; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_agents_response_is_read_whatever_its_status_is(status: int) -> None:
    with serve_agent(status, json.dumps(BLOCKED).encode()) as address:
        assert put_protection_state(address, b"{}") == BLOCKED


def test_a_response_that_is_not_json_is_an_error() -> None:
    with serve_agent(200, b"<html>") as address, pytest.raises(ValueError, match="Expecting value"):
        put_protection_state(address, b"{}")
