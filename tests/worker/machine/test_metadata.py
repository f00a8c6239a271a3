"""Instance metadata from a server that, like EC2, requires tokens, and the machine's ID."""

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


def test_a_token_is_requested_first_and_reused(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert [metadata.get(ID_PATH), metadata.get(ID_PATH)] == [INSTANCE, INSTANCE]
    assert server.requests == [TOKEN, f"GET {ID_PATH}", f"GET {ID_PATH}"]
    assert server.token_ttls == [str(TOKEN_SECONDS)]


def test_a_token_is_renewed_before_it_expires(server: MetadataServer, clock: FakeTime) -> None:
    metadata = InstanceMetadata(server.env, clock.now)
    for clock.time in (0.0, TOKEN_SECONDS - 301, TOKEN_SECONDS - 299):
        assert metadata.get(ID_PATH) == INSTANCE
    assert server.requests.count(TOKEN) == 2


def test_a_token_that_is_no_longer_valid_is_replaced(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert metadata.is_on_ec2
    server.forget_tokens()
    assert metadata.get(ID_PATH) == INSTANCE
    assert server.requests == [TOKEN, f"GET {ID_PATH}", TOKEN, f"GET {ID_PATH}"]


def test_a_missing_path_is_returned_as_none_on_an_ec2_machine(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert metadata.get(SPOT_NOTICE_PATH) is None
    assert metadata.is_on_ec2
    assert server.requests.count(f"GET {SPOT_NOTICE_PATH}") == 1


@pytest.mark.parametrize("value", ["true", "True", "TRUE", " true "])
def test_no_request_is_made_if_metadata_is_disabled(server: MetadataServer, value: str) -> None:
    metadata = InstanceMetadata(server.env | {"AWS_EC2_METADATA_DISABLED": value})
    assert not metadata.is_on_ec2
    assert metadata.get(ID_PATH) is None
    assert server.requests == []


def test_a_machine_without_a_metadata_service_does_not_count_as_ec2_and_is_checked_only_once() -> None:
    with socket.socket() as silent_socket:
        silent_socket.bind(("127.0.0.1", 0))
        metadata = InstanceMetadata(
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{silent_socket.getsockname()[1]}"}
        )
        assert not metadata.is_on_ec2
        silent_socket.listen()
        silent_socket.setblocking(False)
        assert metadata.get(ID_PATH) is None
        with pytest.raises(BlockingIOError):
            silent_socket.accept()


@pytest.mark.parametrize("on_ecs", [True, False])
def test_an_ecs_container_waits_for_slow_metadata(server: MetadataServer, on_ecs: bool) -> None:
    server.failing_token_requests = 20
    ecs_env = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/1"} if on_ecs else {}
    assert InstanceMetadata(server.env | ecs_env).is_on_ec2 == on_ecs


@pytest.mark.parametrize(
    "address",
    ["nonsense", "http://", "http://[", "http://127.0.0.1:port", "ftp://127.0.0.1", "file:///etc", "http://a b"],
)
def test_a_machine_with_an_invalid_metadata_address_does_not_count_as_ec2(address: str) -> None:
    assert not InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": address}).is_on_ec2


def test_a_network_that_returns_a_login_page_does_not_count_as_ec2(server: MetadataServer) -> None:
    server.token = "<html>please log in</html>"
    assert not InstanceMetadata(server.env).is_on_ec2


@pytest.mark.parametrize("status", [302, 403, 404, 503])
def test_a_machine_that_gets_no_token_does_not_count_as_ec2(server: MetadataServer, status: int) -> None:
    server.token_status = status
    assert not InstanceMetadata(server.env).is_on_ec2
    assert server.requests == [TOKEN] * METADATA_ATTEMPTS


def test_neither_proxies_nor_redirects_are_followed(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    metadata = InstanceMetadata(server.env)
    assert metadata.get(ID_PATH) == INSTANCE
    server.responses = [(302, b"")] * METADATA_ATTEMPTS
    assert metadata.get(ID_PATH) is None
    assert "GET /elsewhere" not in server.requests


@pytest.mark.parametrize(
    "response", [(500, b"no"), (200, b"\xff\xfe"), (200, b"x" * (MAX_METADATA_BYTES + 1)), (429, b"")]
)
def test_a_request_is_retried_after_a_failure_or_an_invalid_response(
    server: MetadataServer, response: tuple[int, bytes]
) -> None:
    server.responses = [response]
    assert InstanceMetadata(server.env).get(ID_PATH) == INSTANCE


def test_an_ec2_machine_still_counts_as_ec2_while_its_metadata_service_fails(
    server: MetadataServer, clock: FakeTime
) -> None:
    metadata = InstanceMetadata(server.env, clock.now)
    assert metadata.is_on_ec2
    clock.time, server.token_status = TOKEN_SECONDS, 503
    assert metadata.get(ID_PATH) is None
    assert metadata.is_on_ec2
    server.token_status = 200
    assert metadata.get(ID_PATH) == INSTANCE


def test_the_machine_id_is_the_environment_variable_or_else_the_ec2_instance_id(server: MetadataServer) -> None:
    metadata = InstanceMetadata(server.env)
    assert get_machine_id(metadata, {"INSTANCE_ID": "my-id"}) == "my-id"
    assert server.requests == []
    assert get_machine_id(metadata, {"INSTANCE_ID": ""}) == INSTANCE


@pytest.mark.parametrize("text", [None, "", "<html>hello</html>", "i-", "i-0123456789abcdef0/../x", "i-XYZ45678"])
def test_a_machine_with_an_invalid_or_missing_id_uses_its_host_name(server: MetadataServer, text: str | None) -> None:
    server.set_text("instance", text)
    assert find_instance_id(InstanceMetadata(server.env)) is None
    assert get_machine_id(InstanceMetadata(server.env), {}) == socket.gethostname()


def test_outside_ec2_the_machine_id_is_the_host_name() -> None:
    assert get_machine_id(InstanceMetadata({"AWS_EC2_METADATA_DISABLED": "true"}), {}) == socket.gethostname()
