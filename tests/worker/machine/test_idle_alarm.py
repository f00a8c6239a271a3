"""The alarm that terminates an idle EC2 machine, and the exact requests that create it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from distributed_something.worker.machine.idle_alarm import build_alarm_request, choose_idle_percent, ensure_idle_alarm
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.fakes import ExactClients
from tests.support.metadata_server import INSTANCE, MetadataServer

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


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def never_wait(seconds: float) -> bool:
    raise AssertionError(f"waited for {seconds} s")


def set_alarm(
    aws: ExactClients, server: MetadataServer, wait: Callable[[float], bool] = never_wait, share: float = 0.5
) -> None:
    create_client = partial(getattr, aws.clients)
    ensure_idle_alarm(create_client, InstanceMetadata(server.env), "App", wait, lambda: share)


def test_every_container_on_a_machine_creates_the_same_alarm(
    aws: ExactClients, server: MetadataServer, warnings: list[str]
) -> None:
    for _ in range(2):
        aws.expect_call("cloudwatch.put_metric_alarm", ALARM)
    set_alarm(aws, server)
    set_alarm(aws, server)
    assert warnings == []


def test_no_call_is_made_outside_ec2(server: MetadataServer) -> None:
    server.token_status = 404
    services: list[str] = []
    ensure_idle_alarm(services.append, InstanceMetadata(server.env), "App", never_wait)
    assert services == []


@pytest.mark.parametrize(
    ("code", "message", "problem"),
    [
        (
            "AccessDenied",
            "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: cloudwatch:TagResource on resource: a",
            "the machine's role lacks the permission cloudwatch:TagResource: An error occurred (AccessDenied) when"
            " calling the PutMetricAlarm operation: User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform:"
            " cloudwatch:TagResource on resource: a",
        ),
        (
            "AccessDenied",
            "",
            "the machine's role lacks the permission cloudwatch:PutMetricAlarm and cloudwatch:TagResource: An error"
            " occurred (AccessDenied) when calling the PutMetricAlarm operation:",
        ),
    ],
)
def test_a_denied_call_is_not_retried_and_the_missing_permission_is_logged_in_one_line(
    aws: ExactClients, server: MetadataServer, warnings: list[str], code: str, message: str, problem: str
) -> None:
    aws.expect_error("cloudwatch.put_metric_alarm", code, message)
    set_alarm(aws, server)
    assert warnings == [f"this machine has no idle alarm: {problem}"]


def test_a_long_error_is_shortened_to_one_line(aws: ExactClients, server: MetadataServer, warnings: list[str]) -> None:
    aws.expect_error("cloudwatch.put_metric_alarm", "AccessDenied", "slow\ndown " * 1000)
    set_alarm(aws, server)
    (line,) = warnings
    assert "\n" not in line
    assert len(line) < 450


def test_a_throttled_call_is_retried_until_it_succeeds(
    aws: ExactClients, server: MetadataServer, warnings: list[str]
) -> None:
    for _ in range(3):
        aws.expect_error("cloudwatch.put_metric_alarm", "Throttling", "Rate exceeded")
    aws.expect_call("cloudwatch.put_metric_alarm", ALARM)
    waits: list[float] = []
    set_alarm(aws, server, lambda seconds: bool(waits.append(seconds)), share=1.0)
    assert waits == [2.0, 4.0, 8.0]
    assert warnings == []


@pytest.mark.parametrize("share", [0.0, 0.37, 1.0])
def test_after_an_hour_of_retries_with_random_pauses_one_warning_is_logged(
    server: MetadataServer, warnings: list[str], share: float
) -> None:
    def create_client(name: str) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{name}")

    waits: list[float] = []
    ensure_idle_alarm(
        create_client, InstanceMetadata(server.env), "App", lambda s: bool(waits.append(s)), lambda: share
    )
    assert 3600 <= sum(waits) <= 3600 + 300
    assert max(waits) == 150 * (1 + share)
    assert len(warnings) == 1


def test_the_retries_end_with_the_container(server: MetadataServer, warnings: list[str]) -> None:
    def create_client(name: str) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{name}")

    waits: list[float] = []
    ensure_idle_alarm(create_client, InstanceMetadata(server.env), "App", lambda s: waits.append(s) is None)
    assert len(waits) == 1
    assert warnings == []


@pytest.mark.parametrize(("cpus", "percent"), [(None, 1), (2, 1), (50, 1), (64, 0.78125), (128, 0.390625), (192, 0.26)])
def test_one_busy_thread_is_never_idle_however_many_cpus_the_machine_has(cpus: int | None, percent: float) -> None:
    assert choose_idle_percent(cpus) == pytest.approx(percent, abs=0.001)
    assert choose_idle_percent(cpus) < 100 / (cpus or 1)


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-iso-east-1", "aws-iso")],
)
def test_the_alarm_action_names_the_machines_region_and_partition(
    server: MetadataServer, region: str, partition: str
) -> None:
    session = boto3.Session("test", "test", region_name=region)
    cloudwatch = session.client("cloudwatch")
    with Stubber(cloudwatch) as stub:
        action = f"arn:{partition}:automate:{region}:ec2:terminate"
        stub.add_response("put_metric_alarm", {}, ALARM | {"AlarmActions": [action]})
        ensure_idle_alarm({"cloudwatch": cloudwatch}.__getitem__, InstanceMetadata(server.env), "App", never_wait)
        stub.assert_no_pending_responses()


def test_the_longest_names_stay_within_the_aws_limits() -> None:
    app, instance = "A" * 200, "i-" + "0" * 17
    alarm = build_alarm_request(app, instance, "us-gov-west-1", "aws-us-gov", 2)
    assert len(alarm["AlarmName"]) <= 255
    assert len(alarm["AlarmDescription"]) <= 1024
    assert alarm["Period"] % 60 == 0
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 15 * 60
