"""Instance metadata and spot notices, against a server that demands tokens as EC2's does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributed_something.worker.machine.metadata import (
    MAX_METADATA_BYTES,
    METADATA_ATTEMPTS,
    TOKEN_SECONDS,
    InstanceMetadata,
)
from distributed_something.worker.machine.spot_notice import (
    REBALANCE_PATH,
    SPOT_CHECK_SECONDS,
    SPOT_NOTICE_PATH,
    SPOT_NOTICE_SECONDS,
    SpotWatcher,
)
from tests.support.fakes import START, FakeTime
from tests.support.metadata_server import INSTANCE, MetadataServer, metadata_server, utc

ID_PATH = "/latest/meta-data/instance-id"
TOKEN = "PUT /latest/api/token"


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with metadata_server() as made:
        yield made


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime(0.0)


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


# Metadata


def test_a_token_is_asked_for_first_and_used_again(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert [metadata.get(ID_PATH), metadata.get(ID_PATH)] == [INSTANCE, INSTANCE]
    assert server.asked == [TOKEN, f"GET {ID_PATH}", f"GET {ID_PATH}"]
    assert server.lives == [str(TOKEN_SECONDS)]


def test_a_token_is_renewed_before_it_ends(server: MetadataServer, clock: FakeTime) -> None:
    metadata = InstanceMetadata(server.env, clock.now)
    for clock.time in (0.0, TOKEN_SECONDS - 301, TOKEN_SECONDS - 299):
        assert metadata.get(ID_PATH) == INSTANCE
    assert server.asked.count(TOKEN) == 2


def test_a_token_that_is_not_known_any_more_is_replaced(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert metadata.here
    server.forget_tokens()
    assert metadata.get(ID_PATH) == INSTANCE
    assert server.asked == [TOKEN, f"GET {ID_PATH}", TOKEN, f"GET {ID_PATH}"]


def test_what_is_not_there_is_none_on_a_machine_that_is_on_ec2(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert metadata.get(SPOT_NOTICE_PATH) is None
    assert metadata.here
    assert server.asked.count(f"GET {SPOT_NOTICE_PATH}") == 1


@pytest.mark.parametrize("word", ["true", "True", "TRUE", " true "])
def test_nothing_is_asked_where_metadata_is_switched_off(server: MetadataServer, word: str) -> None:
    metadata = InstanceMetadata(server.env | {"AWS_EC2_METADATA_DISABLED": word})
    assert not metadata.here
    assert metadata.get(ID_PATH) is None
    assert server.asked == []


def test_a_machine_where_nobody_answers_is_not_on_ec2_and_is_asked_only_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        metadata = InstanceMetadata(
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        )
        assert not metadata.here
        nobody.listen()
        nobody.setblocking(False)
        assert metadata.get(ID_PATH) is None
        with pytest.raises(BlockingIOError):
            nobody.accept()


@pytest.mark.parametrize("on_ecs", [True, False])
def test_a_container_of_ecs_waits_for_metadata_that_are_late(monkeypatch: pytest.MonkeyPatch, on_ecs: bool) -> None:
    metadata = InstanceMetadata({"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/1"} if on_ecs else {})
    answers = iter([(0, "")] * 20 + [(200, "token==")])
    monkeypatch.setattr(metadata, "_ask", lambda *_: next(answers))
    assert metadata.here == on_ecs


@pytest.mark.parametrize(
    "address",
    ["nonsense", "http://", "http://[", "http://127.0.0.1:port", "ftp://127.0.0.1", "file:///etc", "http://a b"],
)
def test_an_address_that_is_none_is_not_ec2(address: str) -> None:
    assert not InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": address}).here


def test_a_network_that_answers_everything_with_a_page_is_not_ec2(server: MetadataServer) -> None:
    server.token = "<html>please log in</html>"
    assert not InstanceMetadata(server.env).here


@pytest.mark.parametrize("status", [302, 403, 404, 503])
def test_a_refused_token_is_not_ec2(server: MetadataServer, status: int) -> None:
    server.token_status = status
    assert not InstanceMetadata(server.env).here
    assert server.asked == [TOKEN] * METADATA_ATTEMPTS


def test_neither_proxies_nor_redirects_are_followed(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    metadata = InstanceMetadata(server.env)
    assert metadata.get(ID_PATH) == INSTANCE
    server.answers = [(302, b"")] * METADATA_ATTEMPTS
    assert metadata.get(ID_PATH) is None
    assert "GET /elsewhere" not in server.asked


@pytest.mark.parametrize(
    "answer", [(500, b"no"), (200, b"\xff\xfe"), (200, b"x" * (MAX_METADATA_BYTES + 1)), (429, b"")]
)
def test_a_failure_or_nonsense_is_asked_again_and_a_good_answer_taken(
    server: MetadataServer, answer: tuple[int, bytes]
) -> None:
    server.answers = [answer]
    assert InstanceMetadata(server.env).get(ID_PATH) == INSTANCE


def test_a_machine_on_ec2_stays_on_ec2_while_its_metadata_fail(server: MetadataServer, clock: FakeTime) -> None:
    metadata = InstanceMetadata(server.env, clock.now)
    assert metadata.here
    clock.time, server.token_status = TOKEN_SECONDS, 503
    assert metadata.get(ID_PATH) is None
    assert metadata.here
    server.token_status = 200
    assert metadata.get(ID_PATH) == INSTANCE


# Spot notices


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
