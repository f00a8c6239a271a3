"""The alarm that terminates an idle EC2 machine, and the exact requests that create it."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from distributed_something.worker.machine.idle_alarm import build_alarm_request, ensure_idle_alarm
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


def set_alarm(aws: ExactClients, server: MetadataServer) -> None:
    ensure_idle_alarm(lambda name: getattr(aws.clients, name), InstanceMetadata(server.env), "App")


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
    ensure_idle_alarm(services.append, InstanceMetadata(server.env), "App")
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
        (
            "Throttling",
            "slow\ndown",
            "An error occurred (Throttling) when calling the PutMetricAlarm operation: slow down",
        ),
    ],
)
def test_a_rejected_call_is_logged_in_one_line_that_names_any_missing_permission(
    aws: ExactClients, server: MetadataServer, warnings: list[str], code: str, message: str, problem: str
) -> None:
    aws.expect_error("cloudwatch.put_metric_alarm", code, message)
    set_alarm(aws, server)
    assert warnings == [f"this machine has no idle alarm: {problem}"]


def test_a_long_error_is_shortened_to_one_line(aws: ExactClients, server: MetadataServer, warnings: list[str]) -> None:
    aws.expect_error("cloudwatch.put_metric_alarm", "InternalFailure", "slow\ndown " * 1000)
    set_alarm(aws, server)
    (line,) = warnings
    assert "\n" not in line
    assert len(line) < 400


def test_a_client_that_cannot_reach_aws_causes_only_one_warning(server: MetadataServer, warnings: list[str]) -> None:
    def create_client(name: str) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{name}")

    ensure_idle_alarm(create_client, InstanceMetadata(server.env), "App")
    assert len(warnings) == 1


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
        ensure_idle_alarm({"cloudwatch": cloudwatch}.__getitem__, InstanceMetadata(server.env), "App")
        stub.assert_no_pending_responses()


def test_the_longest_names_stay_within_the_aws_limits() -> None:
    app, instance = "A" * 200, "i-" + "0" * 17
    alarm = build_alarm_request(app, instance, "us-gov-west-1", "aws-us-gov")
    assert len(alarm["AlarmName"]) <= 255
    assert len(alarm["AlarmDescription"]) <= 1024
    assert alarm["Period"] % 60 == 0
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 15 * 60
