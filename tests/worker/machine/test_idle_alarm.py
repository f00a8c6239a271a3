"""What a worker does for its machine on EC2 (its id, its idle alarm, its usage), request by request."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from distributed_something.worker.machine.idle_alarm import (
    build_alarm_request,
    ensure_idle_alarm,
    find_instance_id,
    get_machine_id,
)
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.usage import UsageReporter
from tests.support.fakes import ANY, START, Exact, exact
from tests.support.metadata_server import INSTANCE, MetadataServer, metadata_server

ALARM = {
    "AlarmName": f"App_{INSTANCE}",
    "AlarmDescription": "Ends a machine of App that has been idle for 15 minutes.",
    "Namespace": "AWS/EC2",
    "MetricName": "CPUUtilization",
    "Dimensions": [{"Name": "InstanceId", "Value": INSTANCE}],
    "Statistic": "Maximum",
    "Period": 300,
    "EvaluationPeriods": 3,
    "Threshold": 1.0,
    "ComparisonOperator": "LessThanThreshold",
    "TreatMissingData": "notBreaching",
    "AlarmActions": ["arn:aws:automate:us-east-1:ec2:terminate"],
    "Tags": [{"Key": "app", "Value": "App"}],
}
STREAM = {"logGroupName": "AppLogs_perInstance", "logStreamName": INSTANCE}


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with metadata_server() as made:
        yield made


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    logger = logging.getLogger("worker")
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def on(aws: Exact, server: MetadataServer) -> None:
    ensure_idle_alarm(InstanceMetadata(server.env), lambda name: getattr(aws.clients, name), "App")


# The id


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


# The alarm


def test_every_container_of_a_machine_sets_the_same_alarm(
    aws: Exact, server: MetadataServer, warnings: list[str]
) -> None:
    for _ in range(2):
        aws.answer("cloudwatch.put_metric_alarm", ALARM)
    on(aws, server)
    on(aws, server)
    assert warnings == []


def test_elsewhere_than_on_ec2_nothing_is_called(server: MetadataServer) -> None:
    server.token_status = 404
    made: list[str] = []
    ensure_idle_alarm(InstanceMetadata(server.env), made.append, "App")
    assert made == []


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "AccessDenied",
            "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: cloudwatch:TagResource on resource: a",
            "its role lacks the right cloudwatch:TagResource",
        ),
        ("AccessDenied", "", "its role lacks the right cloudwatch:PutMetricAlarm and cloudwatch:TagResource"),
        (
            "Throttling",
            "slow\ndown",
            "An error occurred (Throttling) when calling the PutMetricAlarm operation: slow down",
        ),
    ],
)
def test_a_refusal_is_one_line_that_names_a_missing_right(
    aws: Exact, server: MetadataServer, warnings: list[str], code: str, message: str, said: str
) -> None:
    aws.refuse("cloudwatch.put_metric_alarm", code, message)
    on(aws, server)
    assert warnings == [f"this machine goes on without an idle alarm: {said}"]


def test_another_refusal_is_one_short_line(aws: Exact, server: MetadataServer, warnings: list[str]) -> None:
    aws.refuse("cloudwatch.put_metric_alarm", "InternalFailure", "slow\ndown " * 1000)
    on(aws, server)
    (line,) = warnings
    assert "\n" not in line
    assert len(line) < 400


def test_a_client_that_cannot_be_made_or_does_not_reach_aws_costs_a_line(
    server: MetadataServer, warnings: list[str]
) -> None:
    def client(name: str) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{name}")

    ensure_idle_alarm(InstanceMetadata(server.env), client, "App")
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-iso-east-1", "aws-iso")],
)
def test_the_alarm_ends_the_machine_in_its_own_partition(server: MetadataServer, region: str, partition: str) -> None:
    session = boto3.Session("test", "test", region_name=region)
    cloudwatch = session.client("cloudwatch")
    with Stubber(cloudwatch) as stub:
        action = f"arn:{partition}:automate:{region}:ec2:terminate"
        stub.add_response("put_metric_alarm", {}, ALARM | {"AlarmActions": [action]})
        ensure_idle_alarm(InstanceMetadata(server.env), {"cloudwatch": cloudwatch}.__getitem__, "App")
        stub.assert_no_pending_responses()


def test_the_requests_keep_to_the_limits_of_aws_for_the_longest_names() -> None:
    app, instance = "A" * 200, "i-" + "0" * 17
    alarm = build_alarm_request(app, instance, "us-gov-west-1", "aws-us-gov")
    assert len(alarm["AlarmName"]) <= 255
    assert len(alarm["AlarmDescription"]) <= 1024
    assert alarm["Period"] % 60 == 0
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 15 * 60


# Usage


def proc(folder: Path, *, idle: int = 100, busy: int = 100, free: int = 250) -> Path:
    folder.mkdir(exist_ok=True)
    folder.joinpath("stat").write_text(f"cpu  0 0 0 50 {idle} 0 0 {busy} 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1 2\n")
    folder.joinpath("meminfo").write_text(f"MemTotal:   1000 kB\nMemFree:   1 kB\nMemAvailable:  {free} kB\nHuge: 0\n")
    return folder


def usage(aws: Exact, tmp_path: Path, **ticks: int) -> UsageReporter:
    return UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path, proc(tmp_path / "proc", **ticks))


def sent(aws: Exact, reporter: UsageReporter, now: float = START) -> dict[str, Any]:
    """The line of one tick."""
    seen: list[dict[str, Any]] = []
    aws.clients.logs.meta.events.register_first(
        "before-parameter-build.logs.PutLogEvents", lambda params, **_: seen.append(params), unique_id="sent"
    )
    aws.answer("logs.put_log_events", STREAM | {"logEvents": ANY})
    reporter.tick(now)
    aws.clients.logs.meta.events.unregister("before-parameter-build.logs.PutLogEvents", unique_id="sent")
    [event] = seen[0]["logEvents"]
    assert event["timestamp"] == int(now * 1000)
    line = json.loads(event["message"])
    assert isinstance(line, dict)
    return line


def test_a_line_tells_disk_memory_and_cpu_and_who_tells_it(aws: Exact, tmp_path: Path) -> None:
    reporter = usage(aws, tmp_path)
    proc(tmp_path / "proc", idle=175, busy=125)
    line = sent(aws, reporter)
    assert (line["container"], line["machine"]) == ("box", INSTANCE)
    assert (line["memory_total_bytes"], line["memory_available_bytes"], line["memory_percent"]) == (1024000, 256000, 75)
    assert 0 < line["disk_free_bytes"] < line["disk_total_bytes"]
    assert 0 < line["disk_percent"] <= 100
    assert line["cpu_percent"] == 25


def test_cpu_is_counted_from_line_to_line(aws: Exact, tmp_path: Path) -> None:
    reporter = usage(aws, tmp_path)
    seen = []
    for idle, busy in ((100, 200), (200, 200), (150, 250)):  # the kernel's idle time may go back
        proc(tmp_path / "proc", idle=idle, busy=busy)
        seen.append(sent(aws, reporter).get("cpu_percent"))
    assert seen == [100, 0, None]


@pytest.mark.parametrize("text", [None, "", "cpu  one two", "cpu  1 2", "MemTotal: 5 kB"])
def test_what_the_system_does_not_tell_is_left_out(aws: Exact, tmp_path: Path, text: str | None) -> None:
    folder = proc(tmp_path / "proc")
    reporter = usage(aws, tmp_path)
    for name in ("stat", "meminfo"):
        folder.joinpath(name).unlink() if text is None else folder.joinpath(name).write_text(text)
    assert set(sent(aws, reporter)) == {
        "container", "machine", "disk_total_bytes", "disk_free_bytes", "disk_percent"
    }  # fmt: skip


def test_a_line_is_made_where_even_the_disk_is_gone(aws: Exact, tmp_path: Path) -> None:
    nowhere = tmp_path / "gone"
    assert sent(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", nowhere, nowhere)) == {
        "container": "box", "machine": INSTANCE,
    }  # fmt: skip


@pytest.mark.parametrize("faster", [False, True])
def test_a_stream_that_is_missing_is_made_once(
    aws: Exact, tmp_path: Path, warnings: list[str], *, faster: bool
) -> None:
    aws.refuse("logs.put_log_events", "ResourceNotFoundException")
    if faster:
        aws.refuse("logs.create_log_stream", "ResourceAlreadyExistsException", wanted=STREAM)
    else:
        aws.answer("logs.create_log_stream", STREAM)
    aws.answer("logs.put_log_events", STREAM | {"logEvents": ANY})
    usage(aws, tmp_path).tick(START)
    assert warnings == []


def test_a_refusal_is_said_once_and_the_next_line_is_tried(aws: Exact, tmp_path: Path, warnings: list[str]) -> None:
    reporter = usage(aws, tmp_path)
    aws.refuse("logs.put_log_events", "ResourceNotFoundException")
    aws.refuse("logs.create_log_stream", "ResourceNotFoundException", "no\ngroup", wanted=STREAM)
    reporter.tick(START)
    aws.refuse("logs.put_log_events", "ThrottlingException")
    reporter.tick(START + 60)
    assert len(warnings) == 1
    assert "no group" in warnings[0]
    assert sent(aws, reporter, START + 120)["container"] == "box"


def test_a_machine_of_any_name_has_a_stream(aws: Exact, tmp_path: Path) -> None:
    aws.answer(
        "logs.put_log_events", {"logGroupName": "AppLogs_perInstance", "logStreamName": "a-b-c", "logEvents": ANY}
    )
    UsageReporter(aws.clients.logs, "AppLogs", "a:b*c", "box", tmp_path).tick(START)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_this_linux_tells_everything(aws: Exact, tmp_path: Path) -> None:
    line = sent(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path))
    assert 0 < line["memory_available_bytes"] < line["memory_total_bytes"]
    assert 0 <= line.get("cpu_percent", 0) <= 100
