"""Tests that an answer from something other than AWS is an error, and never an empty response."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import AWSError, find_remedy
from distributed_something.worker.machine.worker_clients import Clients as WorkerClients
from distributed_something.worker.responses.foreign_response import ForeignResponseError

PAGE = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Please log in to the network</body></html>"
XHTML = b'<?xml version="1.0"?>\n<!-- portal -->\n<html xmlns="http://www.w3.org/1999/xhtml"><body>log in</body></html>'
CALLS: dict[str, Callable[[Clients], Any]] = {
    "GetQueueUrl": lambda clients: clients.sqs.get_queue_url(QueueName="q"),
    "GetQueueAttributes": lambda clients: clients.sqs.get_queue_attributes(QueueUrl="http://q", AttributeNames=["All"]),
    "SendMessageBatch": lambda clients: clients.sqs.send_message_batch(
        QueueUrl="http://q", Entries=[{"Id": "1", "MessageBody": "{}"}]
    ),
    "DeleteQueue": lambda clients: clients.sqs.delete_queue(QueueUrl="http://q"),
    "ListTasks": lambda clients: clients.ecs.list_tasks(cluster="c"),
    "DescribeServices": lambda clients: clients.ecs.describe_services(cluster="c", services=["s"]),
    "DescribeInstances": lambda clients: clients.ec2.describe_instances(),
    "DescribeSpotFleetInstances": lambda clients: clients.ec2.describe_spot_fleet_instances(SpotFleetRequestId="sfr-1"),
    "GetRole": lambda clients: clients.iam.get_role(RoleName="r"),
    "GetCallerIdentity": lambda clients: clients.sts.get_caller_identity(),
    "ListObjectsV2": lambda clients: clients.s3.list_objects_v2(Bucket="b"),
    "GetObject": lambda clients: clients.s3.get_object(Bucket="b", Key="k"),
    "HeadObject": lambda clients: clients.s3.head_object(Bucket="b", Key="k"),
    "HeadBucket": lambda clients: clients.s3.head_bucket(Bucket="b"),
    "PutObject": lambda clients: clients.s3.put_object(Bucket="b", Key="k", Body=b"x"),
    "PutRule": lambda clients: clients.events.put_rule(Name="r", ScheduleExpression="rate(1 minute)"),
    "GetFunction": lambda clients: clients.lambda_.get_function(FunctionName="f"),
}
JSON_CALLS = ("GetQueueUrl", "GetQueueAttributes", "ListTasks", "DescribeServices", "SendMessageBatch")


class AnsweringServer(http.server.ThreadingHTTPServer):
    """Server that gives the same answer to each request."""

    status = 200
    body = PAGE

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page_headers = {"Content-Type": "text/html"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AnsweringServer

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        for name, value in self.server.page_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def running_server() -> Iterator[AnsweringServer]:
    with AnsweringServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.fixture
def server(running_server: AnsweringServer) -> AnsweringServer:
    running_server.status, running_server.body = 200, PAGE
    running_server.page_headers = {"Content-Type": "text/html"}
    return running_server


@pytest.fixture(scope="module")
def shared_clients(running_server: AnsweringServer) -> Iterator[Clients]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", running_server.url)
        yield Clients(boto3.Session("AKIA", "secret", region_name="us-east-1"))


@pytest.fixture
def clients(shared_clients: Clients, server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> Clients:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)  # read when a client is first used
    return shared_clients


@pytest.mark.parametrize("status", [200, 403, 404])
@pytest.mark.parametrize("body", [PAGE, XHTML])
@pytest.mark.parametrize("call", CALLS)
def test_an_html_page_is_an_error_with_the_advice_for_a_login_page(
    clients: Clients, server: AnsweringServer, call: str, body: bytes, status: int
) -> None:
    server.body, server.status = body, status
    with pytest.raises(ForeignResponseError, match=call) as caught:
        CALLS[call](clients)
    assert isinstance(caught.value, AWSError)
    assert find_remedy(caught.value).startswith("something other than AWS answered")


@pytest.mark.parametrize("body", [b"{}", b'{"error": "login required"}'])
@pytest.mark.parametrize("call", JSON_CALLS)
def test_a_response_without_what_aws_always_returns_is_an_error(
    clients: Clients, server: AnsweringServer, call: str, body: bytes
) -> None:
    server.body, server.page_headers = body, {"Content-Type": "application/json"}
    with pytest.raises(ForeignResponseError, match=f"{call} has no "):
        CALLS[call](clients)


@pytest.mark.parametrize("call", JSON_CALLS)
def test_a_text_is_an_error(clients: Clients, server: AnsweringServer, call: str) -> None:
    server.body, server.page_headers = b"Access to the internet is blocked", {"Content-Type": "text/plain"}
    with pytest.raises(AWSError) as caught:
        CALLS[call](clients)
    assert find_remedy(caught.value).startswith("something other than AWS answered")


@pytest.mark.parametrize("call", ["GetQueueUrl", "DescribeInstances", "HeadBucket"])
@pytest.mark.parametrize("status", [302, 303])
@pytest.mark.parametrize("location", ["https://login.example/", ""])
def test_a_redirect_is_an_error_after_one_try(
    clients: Clients, server: AnsweringServer, call: str, status: int, location: str
) -> None:
    server.body, server.status = b"", status
    server.page_headers = {"Location": location} if location else {}
    with pytest.raises(ForeignResponseError):
        CALLS[call](clients)


def test_an_object_that_is_an_html_page_is_returned(clients: Clients, server: AnsweringServer) -> None:
    server.page_headers = {"Content-Type": "text/html", "ETag": '"1"', "x-amz-request-id": "1"}
    assert clients.s3.get_object(Bucket="b", Key="k")["Body"].read() == PAGE
    assert clients.s3.head_object(Bucket="b", Key="k")["ETag"] == '"1"'


def test_a_page_with_status_503_may_come_from_aws_and_is_retried(server: AnsweringServer) -> None:
    server.status = 503
    session = boto3.Session("AKIA", "secret", region_name="us-east-1")
    Clients(session)
    sqs = session.client("sqs", endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(ClientError):
        sqs.get_queue_url(QueueName="q")


def test_the_worker_rejects_foreign_responses_too(server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ForeignResponseError):
        WorkerClients(1, "us-east-1")("sqs").receive_message(QueueUrl=f"{server.url}/q")
