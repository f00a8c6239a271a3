"""Tests for the clients and credentials of S3 servers other than AWS's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.addresses import BadAddress, check_endpoint
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.worker_settings import BadEnvironment
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.endpoints.clients import EndpointClients
from distributed_something.worker.transfer.endpoints.credentials import EndpointCredentials, read_endpoint_credentials

FILE = """
[store.example.org:9000]
aws_access_key_id = ada
aws_secret_access_key = pa%ss
region = garage

[Other.example.org]
aws_access_key_id = eve
aws_secret_access_key = word
"""
ENV_KEYS = {"ENDPOINT_ACCESS_KEY_ID": "env", "ENDPOINT_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def requests() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a server that accepts everything, and the headers (and the path) of each request."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(200)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/s3", seen
        server.shutdown()


def build_clients(env: dict[str, str], *, allow_unsafe: bool = True) -> EndpointClients:
    return EndpointClients(Clients(1, "eu-west-1").create_endpoint_client, allow_unsafe=allow_unsafe, env=env)


def test_a_server_gets_its_own_credentials_and_never_those_of_the_role(
    requests: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "role")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "role-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "role-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    endpoint, seen = requests
    build_clients(ENV_KEYS).get_client(endpoint).put_object(Bucket="plates", Key="a/b", Body=b"x")
    build_clients({}).get_client(endpoint).put_object(Bucket="plates", Key="a/b", Body=b"x")
    signed, unsigned = seen
    assert signed["path"] == "/s3/plates/a/b"
    assert "Credential=env/" in signed["authorization"]
    assert "/us-east-1/s3/" in signed["authorization"]
    assert "x-amz-security-token" not in signed
    assert "authorization" not in unsigned
    assert not any("role" in value for headers in seen for value in headers.values())


def test_the_file_has_a_section_for_each_server_and_the_variables_are_for_the_others(tmp_path: Path) -> None:
    (tmp_path / "keys.ini").write_text(FILE)
    env = ENV_KEYS | {"ENDPOINT_CREDENTIALS_FILE": str(tmp_path / "keys.ini")}
    built: dict[str, EndpointCredentials] = {}
    clients = EndpointClients(built.__setitem__, allow_unsafe=True, env=env)
    for host in ("store.example.org:9000", "other.example.org", "store.example.org"):
        clients.get_client(f"https://{host}/")
    assert built == {
        "https://store.example.org:9000/": EndpointCredentials("ada", "pa%ss", "garage"),
        "https://other.example.org/": EndpointCredentials("eve", "word", "us-east-1"),
        "https://store.example.org/": EndpointCredentials("env", "secret", "us-east-1"),
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"[a]\naws_access_key_id = x\n", "[a] has no aws_secret_access_key"),
        (b"[a]\n", "[a] has no aws_access_key_id and no aws_secret_access_key"),
        (b"aws_secret_access_key = s3cret\n", "not in the format of an AWS credentials file"),
        (b"[a]\nxs3cret\n", "not in the format of an AWS credentials file"),
        (b"\xff", "not a text file in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_container_without_showing_a_secret(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "keys.ini"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadEnvironment) as raised:
        read_endpoint_credentials({"ENDPOINT_CREDENTIALS_FILE": str(path)})
    assert problem in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_half_of_the_credentials_in_the_environment_is_refused() -> None:
    with pytest.raises(BadEnvironment, match="ENDPOINT_SECRET_ACCESS_KEY is not set"):
        read_endpoint_credentials({"ENDPOINT_ACCESS_KEY_ID": "x"})


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("http://store.example.org", "is not encrypted"),
        ("https://127.0.0.1:9000", "is an address of the machine itself"),
        ("https://localhost", "is an address of the machine itself"),
        ("https://[::ffff:169.254.169.254]/", "is where AWS offers this machine's credentials"),
        ("https://2130706433", "is an address of the machine itself"),
        ("https://metadata.example.org", "metadata.example.org is 169.254.169.254, where AWS offers"),
    ],
)
def test_addresses_that_inputs_may_not_have_are_refused_unless_the_config_allows_them(
    endpoint: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry])
    with pytest.raises(Failed) as raised:
        build_clients({}, allow_unsafe=False).get_client(endpoint)
    assert problem in str(raised.value)
    assert raised.value.reason_class == "bad message"  # retrying cannot help
    build_clients({}, allow_unsafe=True).get_client(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "store.example.org", "s3://store", "ftp://store", "https://", "https://{host}", "https://a b", "https://a\n.b",
        "https://store?x=1", "https://store/#x", "https://store:port", "https://[::1", "https://store/{job}",
    ],
)  # fmt: skip
def test_what_is_not_an_address_is_refused(endpoint: str) -> None:
    with pytest.raises(BadAddress, match="is not the address of an S3 server"):
        check_endpoint(endpoint, allow_unsafe=True)


def test_an_address_with_credentials_is_refused_without_showing_them() -> None:
    with pytest.raises(BadAddress) as raised:
        check_endpoint("https://ada:s3cret@store.example.org", allow_unsafe=True)
    assert "credentials belong in the image" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_the_remedy_for_a_server_where_credentials_are_offered_is_about_a_server_and_not_an_input() -> None:
    with pytest.raises(BadAddress) as caught:
        check_endpoint("https://169.254.169.254", allow_unsafe=False)
    assert caught.value.remedy == "write one such as 'https://s3.example.org:9000'"
