"""Stand-ins for AWS and time: exact requests with botocore's Stubber, a small SQS, a clock that sleep alone moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from io import BytesIO, StringIO
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from rich.console import Console as Screen

from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.config_settings import Settings
from distributed_something.core.monitor_file import build_monitor_file
from distributed_something.run.run_context import RunContext

__all__ = [
    "ANY", "MONITOR_FILE", "SETTINGS", "Exact", "FakeBucket", "FakeOutput", "FakeSqs", "FakeTime", "build_context",
    "exact", "refused",
]  # fmt: skip

MISSING_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"
SERVICES = ("sqs", "ecs", "ec2", "s3", "logs", "cloudwatch", "sts", "iam", "ecr", "service_quotas", "events", "lambda_",
            "ssm")  # fmt: skip
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/AppQueue"
DEAD_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/AppDead"

QUEUE_ATTRIBUTES = [
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp", "RedrivePolicy",
]  # fmt: skip

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
START = 1_795_430_700.0  # 2026-11-23 10:45:00 UTC, seconds since 1970
RUN = "20261123T104500Z"
MONITOR_FILE = build_monitor_file(SETTINGS, "sfr-0123abcd", START)
OLD_MONITOR_FILE = replace(MONITOR_FILE, MONITOR_MACHINES=0, MONITOR_DEAD_LETTER_QUEUE="")  # says nothing of slots


class Exact:
    """`clients` that answer only the calls that a test lists, in that order a service, with just those parameters."""

    def __init__(self, clients: Clients, stack: ExitStack) -> None:
        self.clients = clients
        self.calls: list[str] = []  # "service.Operation" of every call, in order over all services
        self._stubs: dict[str, Stubber] = {}
        for service in SERVICES:
            client = getattr(clients, service)
            self._stubs[service] = stack.enter_context(Stubber(client))
            name, note = f"before-parameter-build.{service.rstrip('_').replace('_', '-')}", self._note(service)
            client.meta.events.register(name, note)
            stack.callback(client.meta.events.unregister, name, note)

    def _note(self, service: str) -> Callable[..., None]:
        return lambda model, **_: self.calls.append(f"{service}.{model.name}")

    def answer(self, call: str, wanted: dict[str, Any] | None = None, **response: Any) -> None:
        """`call` («sqs.get_queue_url») with the parameters `wanted` (None: any) gets this response."""
        service, _, method = call.partition(".")
        self._stubs[service].add_response(method, response, wanted)

    def refuse(self, call: str, code: str, message: str = "as told", wanted: dict[str, Any] | None = None) -> None:
        """`call` gets the error `code`."""
        service, _, method = call.partition(".")
        self._stubs[service].add_client_error(method, code, message, expected_params=wanted)

    def all_made(self) -> None:
        """Fails the test where a listed call was not made."""
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@cache
def _clients() -> Clients:
    return Clients(boto3.Session("test", "test", region_name="us-east-1"))


@contextmanager
def exact() -> Iterator[Exact]:
    """An `Exact` for one test; at its end all listed calls must have been made."""
    with ExitStack() as stack:
        made = Exact(_clients(), stack)
        yield made
        made.all_made()


class FakeTime:
    """A clock (seconds since 1970) that only sleeping moves."""

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
    """Where a command prints, on no terminal: what it was asked for, and what it is doing."""

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
        """Standard output, all of it."""
        return "".join(f"{text}\n" for text in self.results)


def build_context(
    clients: Any, time: FakeTime | None = None, output: FakeOutput | None = None, settings: Settings = SETTINGS
) -> RunContext:
    """What a command of a run is given, with a clock that only sleeping moves."""
    return RunContext(clients, settings, output or FakeOutput(), (time or FakeTime()).clock)


def refused(code: str, operation: str = "DescribeServices") -> ClientError:
    """An error of AWS's."""
    return ClientError({"Error": {"Code": code, "Message": "as told"}}, operation)


class FakeSqs:
    """What submitJob asks of an SQS client. `refuse(body, attempt)` says which messages a batch reports as failed."""

    def __init__(self, refuse: Callable[[str, int], bool] = lambda body, attempt: False) -> None:
        self._refuse = refuse
        self._lock = threading.Lock()
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.received: list[str] = []
        self.asked: dict[str, int] = {}
        self.tags: dict[str, str] = {}

    def get_queue_url(self, **_: str) -> dict[str, str]:
        return {"QueueUrl": QUEUE_URL}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        with self._lock:
            self.threads.add(threading.get_ident())
            self.batches.append([entry["MessageBody"] for entry in Entries])
            for entry in Entries:
                body = entry["MessageBody"]
                attempt = self.asked[body] = self.asked.get(body, 0) + 1
                if self._refuse(body, attempt):
                    answer["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "Message": "later, please"})
                else:
                    self.received.append(body)
                    answer["Successful"].append({"Id": entry["Id"]})
        return answer

    def list_queue_tags(self, **_: str) -> dict[str, Any]:
        return {"Tags": self.tags} if self.tags else {}

    def tag_queue(self, *, QueueUrl: str, Tags: dict[str, str]) -> None:
        self.tags.update(Tags)


class FakeBucket:
    """A bucket of S3 in memory, as far as objects are put and read."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        self.objects[Key] = Body
        return {}

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, "GetObject")
        return {"Body": BytesIO(self.objects[Key])}
