"""Tests that a response of AWS with a truncated body or head is retried, and then an error, not an empty response."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import IncompleteReadError

from distributed_something.aws.clients import Clients
from distributed_something.worker.machine.worker_clients import Clients as WorkerClients
from distributed_something.worker.responses.response_length import MAX_ATTEMPTS, reject_truncated_responses

BODY = b'{"Attributes": {"ApproximateNumberOfMessages": "5"}}'


class TruncatingServer(http.server.ThreadingHTTPServer):
    """Server that sends the same body for each request, and only half of it for the first `truncated` requests.

    If `cuts_head` is set, these requests get only the status and half of a header instead.
    """

    truncated = 0
    cuts_head = False
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TruncatingServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests += 1
        is_truncated = self.server.requests <= self.server.truncated
        self.close_connection = True
        if is_truncated and self.server.cuts_head:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: appl")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(BODY[: len(BODY) // 2] if is_truncated else BODY)

    do_HEAD = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[TruncatingServer]:
    with TruncatingServer(("127.0.0.1", 0), Handler) as truncating_server:
        threading.Thread(target=truncating_server.serve_forever, daemon=True).start()
        yield truncating_server
        truncating_server.shutdown()


def build_client(server: TruncatingServer, service: str) -> Any:
    session = boto3.Session("test", "test", region_name="us-east-1")
    reject_truncated_responses(session)
    return session.client(service, endpoint_url=server.url)


def read_attributes(client: Any) -> Any:
    return client.get_queue_attributes(QueueUrl="https://sqs/1/q", AttributeNames=["All"]).get("Attributes")


def test_a_truncated_response_is_retried(server: TruncatingServer) -> None:
    server.truncated = MAX_ATTEMPTS - 1
    assert read_attributes(build_client(server, "sqs")) == {"ApproximateNumberOfMessages": "5"}
    assert server.requests == MAX_ATTEMPTS


def test_a_response_that_is_always_truncated_is_an_error(server: TruncatingServer) -> None:
    server.truncated = 1000
    with pytest.raises(IncompleteReadError):
        read_attributes(build_client(server, "sqs"))
    assert server.requests == MAX_ATTEMPTS


def get_object(client: Any) -> Any:
    return client.get_object(Bucket="b", Key="k")["Body"].read()


def head_object(client: Any) -> Any:
    return client.head_object(Bucket="b", Key="k")["ContentLength"]


@pytest.mark.parametrize(
    ("service", "call", "result"),
    [
        ("sqs", read_attributes, {"ApproximateNumberOfMessages": "5"}),
        ("s3", get_object, BODY),
        ("s3", head_object, len(BODY)),
    ],
)
def test_a_response_whose_head_is_cut_off_is_retried_and_then_an_error(
    server: TruncatingServer, service: str, call: Any, result: Any
) -> None:
    server.cuts_head, server.truncated = True, MAX_ATTEMPTS - 1
    assert call(build_client(server, service)) == result
    server.requests, server.truncated = 0, 1000
    with pytest.raises(IncompleteReadError):
        call(build_client(server, service))
    assert server.requests == MAX_ATTEMPTS


def test_a_response_without_a_body_is_complete(server: TruncatingServer) -> None:
    build_client(server, "s3").head_bucket(Bucket="bucket")
    assert server.requests == 1


@pytest.mark.parametrize("side", ["command", "worker"])
def test_the_clients_of_commands_and_workers_have_the_check(
    server: TruncatingServer, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in (keys | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    server.truncated = 1000
    if side == "command":
        client: Any = Clients(boto3.Session(region_name="us-east-1")).sqs
    else:
        client = WorkerClients(1, "us-east-1")("sqs")
    with pytest.raises(IncompleteReadError):
        read_attributes(client)
