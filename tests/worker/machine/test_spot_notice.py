"""Spot notices and rebalance recommendations: each is reported once, with an end time at most two minutes away."""

from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributed_something.worker.machine.metadata import METADATA_ATTEMPTS, InstanceMetadata
from distributed_something.worker.machine.spot_notice import (
    REBALANCE_PATH,
    SPOT_CHECK_SECONDS,
    SPOT_NOTICE_SECONDS,
    SpotWatcher,
)
from tests.support.fakes import START, FakeTime
from tests.support.metadata_server import MetadataServer, format_utc

TOKEN = "PUT /latest/api/token"


class WatcherHarness:
    """A watcher and the notices that it reported."""

    def __init__(self, server: MetadataServer) -> None:
        self.notices: list[float] = []
        self.rebalances = 0
        self.time = FakeTime()
        self.watcher = SpotWatcher(
            InstanceMetadata(server.env), self.notices.append, self.count_rebalance, self.time.now
        )

    def count_rebalance(self) -> None:
        self.rebalances += 1

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.watcher.tick()
            self.time.time += 5


def test_nothing_is_reported_without_a_notice(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    harness.tick(3)
    assert (harness.notices, harness.rebalances) == ([], 0)


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_a_notice_is_reported_once_with_its_time(server: MetadataServer, action: str) -> None:
    harness = WatcherHarness(server)
    server.set_spot_notice(START + 90, action)
    harness.tick(3)
    assert (harness.notices, harness.rebalances) == ([START + 90], 0)


def test_a_second_notice_is_reported_but_the_first_one_is_not_repeated(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    for when in (START + 90, START + 60, START + 90):
        server.set_spot_notice(when)
        harness.tick(2)
    assert harness.notices == [START + 90, START + 60]


def test_a_notice_with_a_later_time_counts_as_two_minutes_from_now(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    server.set_spot_notice(START + 3600)
    harness.tick(2)
    assert harness.notices == [START + SPOT_NOTICE_SECONDS]


def test_a_rebalance_recommendation_is_reported_once(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    server.set_rebalance_recommendation(START)
    harness.tick(3)
    assert (harness.notices, harness.rebalances) == ([], 1)
    server.set_rebalance_recommendation(START + 600)
    harness.tick(3)
    assert harness.rebalances == 2


def test_a_time_without_a_zone_is_read_as_utc_wherever_the_worker_runs(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = WatcherHarness(server)
    server.set_text("spot", json.dumps({"action": "stop", "time": format_utc(START + 90).removesuffix("Z")}))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        harness.tick()
    time.tzset()
    assert harness.notices == [START + 90]


BROKEN = ["", "{", "[]", "5", "null", "{}", '{"time": 5}', '{"time": null}', '{"time": "soon"}', '{"action": "stop"}',
          '{"time": "2026-13-41T00:00:00Z"}', "[" * 9000, '"time"']  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_notice_counts_as_two_minutes_from_now(server: MetadataServer, text: str) -> None:
    harness = WatcherHarness(server)
    server.set_text("spot", text)
    server.set_text("rebalance", text)
    harness.tick(3)
    assert (harness.notices, harness.rebalances) == ([START + SPOT_NOTICE_SECONDS], 1)


def test_different_broken_notices_do_not_postpone_the_end(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    for text in BROKEN:
        server.set_text("spot", text)
        harness.tick()
    assert harness.notices == [START + SPOT_NOTICE_SECONDS]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.text(max_size=40) | st.builds('{{"time": "{}"}}'.format, st.datetimes() | st.datetimes(timezones=st.timezones()))
)
def test_any_notice_is_reported_once_with_an_end_time_at_most_two_minutes_away(
    server: MetadataServer, text: str
) -> None:
    harness = WatcherHarness(server)
    server.set_text("spot", text)
    harness.tick(2)
    assert len(harness.notices) == 1
    assert harness.notices[0] <= START + SPOT_NOTICE_SECONDS


def test_a_notice_is_reported_after_the_metadata_service_fails_temporarily(server: MetadataServer) -> None:
    harness = WatcherHarness(server)
    harness.tick()
    server.set_spot_notice(START + 90)
    server.responses = [(503, b"")] * 2 * METADATA_ATTEMPTS
    harness.tick()
    assert harness.notices == []
    harness.tick()
    assert harness.notices == [START + 90]


def test_a_notice_that_could_not_be_handled_is_reported_again(server: MetadataServer) -> None:
    calls: list[float] = []
    ended = _CountedEvent(rounds=3)

    def fail_first(when: float) -> None:
        calls.append(when)
        if len(calls) < 2:
            raise RuntimeError("not yet")

    server.set_spot_notice(START + 90)
    SpotWatcher(InstanceMetadata(server.env), fail_first, lambda: None, FakeTime().now).run(ended)
    assert calls == [START + 90] * 2
    assert ended.waits == [SPOT_CHECK_SECONDS] * 3


def test_the_watcher_ends_when_its_event_is_set(server: MetadataServer) -> None:
    harness, ended = WatcherHarness(server), threading.Event()
    ended.set()
    harness.watcher.run(ended)
    assert f"GET {REBALANCE_PATH}" not in server.requests


def test_the_watcher_ends_at_once_outside_ec2(server: MetadataServer) -> None:
    server.token_status = 404
    harness, ended = WatcherHarness(server), _CountedEvent(rounds=1)
    harness.watcher.run(ended)
    assert ended.waits == []
    assert server.requests == [TOKEN] * METADATA_ATTEMPTS


class _CountedEvent(threading.Event):
    """An event that is set after `rounds` waits and never blocks."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) >= self._rounds:
            self.set()
        return self.is_set()
