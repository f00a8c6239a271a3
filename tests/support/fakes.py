"""Fakes for AWS and time: clients that expect exact requests, a small SQS, and a clock that only `sleep` advances."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import md5
from io import BytesIO, StringIO
from types import SimpleNamespace
from typing import IO, Any

import boto3
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from botocore.validate import validate_parameters
from rich.console import Console as Screen

from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.config_settings import Settings
from distributed_something.core.monitor_file import build_monitor_file
from distributed_something.run.run_context import RunContext

__all__ = [
    "ANY",
    "MONITOR_FILE",
    "SETTINGS",
    "ExactClients",
    "FakeBucket",
    "FakeOutput",
    "FakeSqs",
    "FakeTime",
    "build_client_error",
    "build_context",
    "expect_exact_calls",
]  # fmt: skip

MISSING_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"
SERVICES = ("sqs", "ecs", "ec2", "s3", "logs", "cloudwatch", "sts", "iam", "ecr", "service_quotas", "events", "lambda_",
            "ssm", "kms", "sns")  # fmt: skip
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/AppQueue"
DEAD_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/AppDead"

QUEUE_ATTRIBUTES = [
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp", "RedrivePolicy",
]  # fmt: skip


def build_queue_counts(waiting: int = 0, running: int = 0) -> dict[str, str]:
    """Return the attributes with the counts of a queue. SQS always returns all that are requested."""
    return dict(zip(QUEUE_ATTRIBUTES, (str(waiting), str(running), "0"), strict=False))


SETTINGS = Settings(
    APP_NAME="App",
    DOCKERHUB_TAG="tests/app:1",
    AWS_BUCKET="app-bucket",
    ECS_CLUSTER="app-cluster",
    CLUSTER_MACHINES=3,
    TASKS_PER_MACHINE=2,
    MACHINE_TYPE=["m5.large"],
    MACHINE_PRICE=0.1,
    CPU_SHARES=1024,
    MEMORY=2000,
    SQS_QUEUE_NAME="AppQueue",
    SQS_DEAD_LETTER_QUEUE="AppDead",
    JOB_RETRIES=3,
    LOG_GROUP_NAME="AppLogs",
    OWNER="lab",
)
START = 1_795_430_700.0  # 2026-11-23 10:45:00 UTC, in seconds since the epoch
RUN = "20261123T104500Z"
MONITOR_FILE = build_monitor_file(SETTINGS, "sfr-0123abcd", START)
# A file as an older version wrote it, without these two values.
OLD_MONITOR_FILE = replace(MONITOR_FILE, MONITOR_MACHINES=0, MONITOR_DEAD_LETTER_QUEUE="")


class ExactClients:
    """Clients that accept only the calls that a test expects, with exact parameters and in order for each service.

    Parameters are validated here because `aws/clients.py` leaves that out for SQS.
    """

    def __init__(self, clients: Clients, stack: ExitStack) -> None:
        self.clients = clients
        self.calls: list[str] = []  # "service.Operation" of every call, in order across all services
        self._stubs: dict[str, Stubber] = {}
        for service in SERVICES:
            client = getattr(clients, service)
            self._stubs[service] = stack.enter_context(Stubber(client))
            event = f"before-parameter-build.{service.rstrip('_').replace('_', '-')}"
            recorder = self._build_recorder(service)
            client.meta.events.register(event, recorder)
            stack.callback(client.meta.events.unregister, event, recorder)

    def _build_recorder(self, service: str) -> Callable[..., None]:
        def record_call(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.calls.append(f"{service}.{model.name}")
            if service == "sqs":
                validate_parameters(params, model.input_shape)

        return record_call

    def expect_call(self, call: str, request: dict[str, Any] | None = None, **response: Any) -> None:
        """Expect a call, such as "sqs.get_queue_url", and set its response. By default, accept any parameters."""
        service, _, method = call.partition(".")
        self._stubs[service].add_response(method, response, request)

    def expect_error(
        self, call: str, code: str, message: str = "test error", request: dict[str, Any] | None = None
    ) -> None:
        """Expect a call, and make it fail with the error `code`."""
        service, _, method = call.partition(".")
        self._stubs[service].add_client_error(method, code, message, expected_params=request)

    def verify_all_calls(self) -> None:
        """Fail the test if an expected call was not made."""
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@cache
def _clients() -> Clients:
    return Clients(boto3.Session("test", "test", region_name="us-east-1"))


@contextmanager
def expect_exact_calls() -> Iterator[ExactClients]:
    """Yield clients that expect exact calls. At the end, fail the test if an expected call was not made."""
    with ExitStack() as stack:
        exact_clients = ExactClients(_clients(), stack)
        yield exact_clients
        exact_clients.verify_all_calls()


class FakeTime:
    """Clock, in seconds since the epoch, that advances only when `sleep` is called."""

    def __init__(self, start: float = START) -> None:
        self.time = start
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


class FakeOutput:
    """Output of a command that does not run in a terminal: its results and its progress."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.progress: list[str] = []
        self.screen = Screen(file=StringIO())

    def print_result(self, text: str) -> None:
        self.results.append(text)

    def print_progress(self, text: str) -> None:
        self.progress.append(text)

    @property
    def printed(self) -> str:
        """Everything on standard output."""
        return "".join(f"{text}\n" for text in self.results)


def build_context(
    clients: Any, time: FakeTime | None = None, output: FakeOutput | None = None, settings: Settings = SETTINGS
) -> RunContext:
    """Return the context of a run's command, with a clock that advances only when the command sleeps."""
    return RunContext(clients, settings, output or FakeOutput(), (time or FakeTime()).clock)


def build_client_error(code: str, operation: str = "DescribeServices") -> ClientError:
    """Return an AWS error with this code."""
    return ClientError({"Error": {"Code": code, "Message": "test error"}}, operation)


class FakeSqs:
    """SQS client for submitJob. `refuse(body, attempt)` returns whether a batch reports a message as failed."""

    def __init__(
        self, refuse: Callable[[str, int], bool] = lambda body, attempt: False, max_message_bytes: int = 1024 * 1024
    ) -> None:
        self._refuse, self._max_message_bytes = refuse, max_message_bytes
        self._lock = threading.Lock()
        self.batches: list[list[str]] = []
        self.received: list[str] = []
        self.attempts: dict[str, int] = {}
        self.attributes: list[Any] = []  # of each message in `received`
        self.created = START - 60

    def get_queue_url(self, **_: str) -> dict[str, str]:
        return {"QueueUrl": QUEUE_URL}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        waiting = build_queue_counts(len(self.received))
        waiting["MaximumMessageSize"] = str(self._max_message_bytes)
        return {"Attributes": waiting | {"CreatedTimestamp": str(int(self.created))}}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        response: dict[str, Any] = {"Successful": [], "Failed": []}
        with self._lock:
            self.batches.append([entry["MessageBody"] for entry in Entries])
            for entry in Entries:
                body = entry["MessageBody"]
                attempt = self.attempts[body] = self.attempts.get(body, 0) + 1
                if self._refuse(body, attempt):
                    response["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "Message": "later, please"})
                else:
                    self.received.append(body)
                    self.attributes.append(entry.get("MessageAttributes", {}))
                    response["Successful"].append({"Id": entry["Id"]})
        return response

    def receive_message(self, **_: Any) -> dict[str, Any]:
        with self._lock:
            taken, self.received = self.received[:10], self.received[10:]
            attributes, self.attributes = self.attributes[:10], self.attributes[10:]
            messages = [
                {"ReceiptHandle": body, "MessageAttributes": texts}
                for body, texts in zip(taken, attributes, strict=True)
            ]
            return {"Messages": messages} if taken else {}

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}


def build_etag(body: bytes) -> str:
    """Return the ETag that S3 gives an object that was uploaded with one request."""
    return f'"{md5(body).hexdigest()}"'


class FakeBucket:
    """In-memory S3 bucket that supports only putting, getting, and listing objects."""

    meta = SimpleNamespace(region_name="us-east-1")

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified = START  # when all objects were written, in seconds since 1970

    def head_bucket(self, **_: str) -> dict[str, Any]:
        return {}

    def put_object(self, *, Key: str, Body: bytes | IO[bytes], IfNoneMatch: str = "", **_: Any) -> dict[str, Any]:
        if IfNoneMatch and Key in self.objects:
            raise build_client_error("PreconditionFailed", "PutObject")
        self.objects[Key] = body = Body if isinstance(Body, bytes) else Body.read()
        return {"ETag": build_etag(body)}

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **request: [self.list_objects_v2(**request)])

    def list_objects_v2(self, *, Prefix: str, StartAfter: str = "", **_: Any) -> dict[str, Any]:
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > StartAfter)
        return {"Contents": [self._describe_object(key) for key in keys]}

    def _describe_object(self, key: str) -> dict[str, Any]:
        body, modified = self.objects[key], datetime.fromtimestamp(self.modified, UTC)
        return {"Key": key, "Size": len(body), "ETag": build_etag(body), "LastModified": modified}

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, "GetObject")
        return {"Body": BytesIO(self.objects[Key]), "LastModified": datetime.fromtimestamp(self.modified, UTC)}
