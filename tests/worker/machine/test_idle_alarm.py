"""The alarm that ends an idle machine of EC2, request by request."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from distributed_something.worker.machine.idle_alarm import build_alarm_request, ensure_idle_alarm
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.fakes import Exact
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


def on(aws: Exact, server: MetadataServer) -> None:
    ensure_idle_alarm(InstanceMetadata(server.env), lambda name: getattr(aws.clients, name), "App")


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
