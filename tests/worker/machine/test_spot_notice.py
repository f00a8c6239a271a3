"""Spot notices and rebalance recommendations: each is told once, and never later than EC2 gives."""

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
from tests.support.metadata_server import MetadataServer, utc

TOKEN = "PUT /latest/api/token"


class Heard:
    """A watcher and what it told."""

    def __init__(self, server: MetadataServer) -> None:
        self.notices: list[float] = []
        self.rebalances = 0
        self.time = FakeTime()
        self.watcher = SpotWatcher(InstanceMetadata(server.env), self.notices.append, self.rebalance, self.time.now)

    def rebalance(self) -> None:
        self.rebalances += 1

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.watcher.tick()
            self.time.time += 5


def test_without_a_notice_nothing_is_told(server: MetadataServer) -> None:
    heard = Heard(server)
    heard.look(3)
    assert (heard.notices, heard.rebalances) == ([], 0)


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_a_notice_is_told_once_with_its_time(server: MetadataServer, action: str) -> None:
    heard = Heard(server)
    server.spot_notice(START + 90, action)
    heard.look(3)
    assert (heard.notices, heard.rebalances) == ([START + 90], 0)


def test_a_second_notice_is_told_too_and_the_first_not_again(server: MetadataServer) -> None:
    heard = Heard(server)
    for when in (START + 90, START + 60, START + 90):
        server.spot_notice(when)
        heard.look(2)
    assert heard.notices == [START + 90, START + 60]


def test_a_notice_of_a_time_that_ec2_does_not_give_counts_as_two_minutes(server: MetadataServer) -> None:
    heard = Heard(server)
    server.spot_notice(START + 3600)
    heard.look(2)
    assert heard.notices == [START + SPOT_NOTICE_SECONDS]


def test_a_rebalance_recommendation_is_told_once(server: MetadataServer) -> None:
    heard = Heard(server)
    server.rebalance(START)
    heard.look(3)
    assert (heard.notices, heard.rebalances) == ([], 1)
    server.rebalance(START + 600)
    heard.look(3)
    assert heard.rebalances == 2


def test_a_time_without_a_zone_is_utc_wherever_the_worker_runs(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(server)
    server.set("spot", json.dumps({"action": "stop", "time": utc(START + 90).removesuffix("Z")}))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        heard.look()
    time.tzset()
    assert heard.notices == [START + 90]


BROKEN = ["", "{", "[]", "5", "null", "{}", '{"time": 5}', '{"time": null}', '{"time": "soon"}', '{"action": "stop"}',
          '{"time": "2026-13-41T00:00:00Z"}', "[" * 9000, '"time"']  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_notice_counts_as_two_minutes_from_now(server: MetadataServer, text: str) -> None:
    heard = Heard(server)
    server.set("spot", text)
    server.set("rebalance", text)
    heard.look(3)
    assert (heard.notices, heard.rebalances) == ([START + SPOT_NOTICE_SECONDS], 1)


def test_broken_notices_that_differ_do_not_put_the_end_off(server: MetadataServer) -> None:
    heard = Heard(server)
    for text in BROKEN:
        server.set("spot", text)
        heard.look()
    assert heard.notices == [START + SPOT_NOTICE_SECONDS]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.text(max_size=40) | st.builds('{{"time": "{}"}}'.format, st.datetimes() | st.datetimes(timezones=st.timezones()))
)
def test_any_notice_is_told_once_and_never_later_than_ec2_gives(server: MetadataServer, text: str) -> None:
    heard = Heard(server)
    server.set("spot", text)
    heard.look(2)
    assert len(heard.notices) == 1
    assert heard.notices[0] <= START + SPOT_NOTICE_SECONDS


def test_a_passing_failure_of_the_metadata_is_outlived(server: MetadataServer) -> None:
    heard = Heard(server)
    heard.look()
    server.spot_notice(START + 90)
    server.answers = [(503, b"")] * 2 * METADATA_ATTEMPTS
    heard.look()
    assert heard.notices == []
    heard.look()
    assert heard.notices == [START + 90]


def test_a_notice_that_could_not_be_handled_is_told_again(server: MetadataServer) -> None:
    told: list[float] = []
    ended = _Ended(rounds=3)

    def hear(when: float) -> None:
        told.append(when)
        if len(told) < 2:
            raise RuntimeError("not yet")

    server.spot_notice(START + 90)
    SpotWatcher(InstanceMetadata(server.env), hear, lambda: None, FakeTime().now).run(ended)
    assert told == [START + 90] * 2
    assert ended.waits == [SPOT_CHECK_SECONDS] * 3


def test_the_watcher_ends_when_it_is_told_to(server: MetadataServer) -> None:
    heard, ended = Heard(server), threading.Event()
    ended.set()
    heard.watcher.run(ended)
    assert f"GET {REBALANCE_PATH}" not in server.asked


def test_elsewhere_than_on_ec2_the_watcher_ends_by_itself(server: MetadataServer) -> None:
    server.token_status = 404
    heard, ended = Heard(server), _Ended(rounds=1)
    heard.watcher.run(ended)
    assert ended.waits == []
    assert server.asked == [TOKEN] * METADATA_ATTEMPTS


class _Ended(threading.Event):
    """Set after so many waits, none of which takes time."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) >= self._rounds:
            self.set()
        return self.is_set()
