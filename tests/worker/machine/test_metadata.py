"""Instance metadata, against a server that demands tokens as EC2's does; and the id that a machine has."""

from __future__ import annotations

import socket

import pytest

from distributed_something.worker.machine.metadata import (
    MAX_METADATA_BYTES,
    METADATA_ATTEMPTS,
    TOKEN_SECONDS,
    InstanceMetadata,
    find_instance_id,
    get_machine_id,
)
from distributed_something.worker.machine.spot_notice import SPOT_NOTICE_PATH
from tests.support.fakes import FakeTime
from tests.support.metadata_server import INSTANCE, MetadataServer

ID_PATH = "/latest/meta-data/instance-id"
TOKEN = "PUT /latest/api/token"


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime(0.0)


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
    assert metadata.is_on_ec2
    server.forget_tokens()
    assert metadata.get(ID_PATH) == INSTANCE
    assert server.asked == [TOKEN, f"GET {ID_PATH}", TOKEN, f"GET {ID_PATH}"]


def test_what_is_not_there_is_none_on_a_machine_that_is_on_ec2(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert metadata.get(SPOT_NOTICE_PATH) is None
    assert metadata.is_on_ec2
    assert server.asked.count(f"GET {SPOT_NOTICE_PATH}") == 1


@pytest.mark.parametrize("word", ["true", "True", "TRUE", " true "])
def test_nothing_is_asked_where_metadata_is_switched_off(server: MetadataServer, word: str) -> None:
    metadata = InstanceMetadata(server.env | {"AWS_EC2_METADATA_DISABLED": word})
    assert not metadata.is_on_ec2
    assert metadata.get(ID_PATH) is None
    assert server.asked == []


def test_a_machine_where_nobody_answers_is_not_on_ec2_and_is_asked_only_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        metadata = InstanceMetadata(
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        )
        assert not metadata.is_on_ec2
        nobody.listen()
        nobody.setblocking(False)
        assert metadata.get(ID_PATH) is None
        with pytest.raises(BlockingIOError):
            nobody.accept()


@pytest.mark.parametrize("on_ecs", [True, False])
def test_a_container_of_ecs_waits_for_metadata_that_are_late(server: MetadataServer, on_ecs: bool) -> None:
    server.late_tokens = 20
    of_ecs = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/1"} if on_ecs else {}
    assert InstanceMetadata(server.env | of_ecs).is_on_ec2 == on_ecs


@pytest.mark.parametrize(
    "address",
    ["nonsense", "http://", "http://[", "http://127.0.0.1:port", "ftp://127.0.0.1", "file:///etc", "http://a b"],
)
def test_an_address_that_is_none_is_not_ec2(address: str) -> None:
    assert not InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": address}).is_on_ec2


def test_a_network_that_answers_everything_with_a_page_is_not_ec2(server: MetadataServer) -> None:
    server.token = "<html>please log in</html>"
    assert not InstanceMetadata(server.env).is_on_ec2


@pytest.mark.parametrize("status", [302, 403, 404, 503])
def test_a_refused_token_is_not_ec2(server: MetadataServer, status: int) -> None:
    server.token_status = status
    assert not InstanceMetadata(server.env).is_on_ec2
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
    assert metadata.is_on_ec2
    clock.time, server.token_status = TOKEN_SECONDS, 503
    assert metadata.get(ID_PATH) is None
    assert metadata.is_on_ec2
    server.token_status = 200
    assert metadata.get(ID_PATH) == INSTANCE


def test_the_machine_has_the_id_that_it_is_told_else_that_of_ec2(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert get_machine_id(metadata, {"INSTANCE_ID": "mine"}) == "mine"
    assert server.asked == []
    assert get_machine_id(metadata, {"INSTANCE_ID": ""}) == INSTANCE


@pytest.mark.parametrize("text", [None, "", "<html>hello</html>", "i-", "i-0123456789abcdef0/../x", "i-XYZ45678"])
def test_a_machine_whose_id_is_nonsense_or_missing_has_its_host_name(server: MetadataServer, text: str | None) -> None:
    server.set("instance", text)
    assert find_instance_id(InstanceMetadata(server.env)) is None
    assert get_machine_id(InstanceMetadata(server.env), {}) == socket.gethostname()


def test_elsewhere_than_on_ec2_the_machine_has_its_host_name() -> None:
    assert get_machine_id(InstanceMetadata({"AWS_EC2_METADATA_DISABLED": "true"}), {}) == socket.gethostname()
