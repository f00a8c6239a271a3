"""Which permissions AWS checks for a request, compared with examples from its documentation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rights.requests import find_action, list_permissions

ACCOUNT = "111122223333"
TAGS = {"AppQueue": {"app": "App"}, "log-group:App": {"app": "App"}, "launch-template/lt-1": {"app": "App"}}


def list_texts(service: str, operation: str, **parameters: Any) -> list[str]:
    """Return the permissions for a request as text, with `:111122223333:` and the region shortened to `:`."""
    found = list_permissions(ACCOUNT, service, operation, parameters, TAGS)
    return [str(each).replace(f":us-east-1:{ACCOUNT}:", ":").replace(f"::{ACCOUNT}:", ":") for each in found]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (("sqs", "SendMessageBatch", {"QueueUrl": "https://sqs/1/AppQueue"}),
         ["sqs:SendMessage on arn:aws:sqs:AppQueue with aws:ResourceTag/app=App"]),
        (("sqs", "CreateQueue", {"QueueName": "Other", "tags": {"app": "x"}}),
         ["sqs:CreateQueue on arn:aws:sqs:Other with aws:RequestTag/app=x, aws:TagKeys=app"]),
        (("s3", "HeadBucket", {"Bucket": "b"}), ["s3:ListBucket on arn:aws:s3:::b"]),
        (("s3", "UploadPart", {"Bucket": "b", "Key": "a/b"}), ["s3:PutObject on arn:aws:s3:::b/a/b"]),
        (("ec2", "DescribeSubnets", {}), ["ec2:DescribeSubnets on *"]),
        (("ec2", "DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"}),
         ["ec2:DeleteLaunchTemplate on arn:aws:ec2:launch-template/lt-1 with aws:ResourceTag/app=App, "
          "ec2:ResourceTag/app=App"]),
        (("ecs", "DescribeServices", {"cluster": "c", "services": ["a", "b"]}),
         ["ecs:DescribeServices on arn:aws:ecs:service/c/a", "ecs:DescribeServices on arn:aws:ecs:service/c/b"]),
        (("ecs", "ListTasks", {"cluster": "c", "serviceName": "a"}), ["ecs:ListTasks on *"]),
        (("ecs", "DescribeTasks", {"cluster": "c", "tasks": [f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/c/1"]}),
         ["ecs:DescribeTasks on arn:aws:ecs:task/c/1"]),
        (("logs", "PutLogEvents", {"logGroupName": "App", "logStreamName": "a/b"}),
         ["logs:PutLogEvents on arn:aws:logs:log-group:App:log-stream:a/b with aws:ResourceTag/app=App"]),
        (("cloudwatch", "DescribeAlarms", {"AlarmNamePrefix": "App"}),
         ["cloudwatch:DescribeAlarms on arn:aws:cloudwatch:alarm:*"]),
        (("iam", "CreateServiceLinkedRole", {"AWSServiceName": "ecs.amazonaws.com"}),
         ["iam:CreateServiceLinkedRole on arn:aws:iam:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS "
          "with iam:AWSServiceName=ecs.amazonaws.com"]),
        (("sts", "GetCallerIdentity", {}), []),
    ],
)  # fmt: skip
def test_the_permissions_of_a_request(request_: tuple[str, str, dict[str, Any]], expected: list[str]) -> None:
    service, operation, parameters = request_

    assert list_texts(service, operation, **parameters) == expected


def test_starting_a_machine_needs_a_permission_for_everything_that_it_uses_and_creates() -> None:
    parameters = {
        "ImageId": "ami-1", "KeyName": "key", "InstanceMarketOptions": {"MarketType": "spot"},
        "NetworkInterfaces": [{"SubnetId": "subnet-1", "Groups": ["sg-1"]}],
    }  # fmt: skip
    found = list_permissions(ACCOUNT, "ec2", "RunInstances", parameters, {})

    assert sorted(each.resource.split(":")[-1] for each in found) == [
        "image/ami-1", "instance/i-new", "key-pair/key", "network-interface/eni-new", "security-group/sg-1",
        "spot-instances-request/sir-new", "subnet/subnet-1", "volume/vol-new",
    ]  # fmt: skip


def test_an_operation_without_an_action_of_its_name_must_be_added_to_the_table() -> None:
    assert find_action("s3", "HeadObject") == "s3:GetObject"
    with pytest.raises(LookupError, match="s3:NoSuchCall"):
        find_action("s3", "NoSuchCall")


def test_a_request_that_does_not_name_its_resource_is_an_error() -> None:
    with pytest.raises(LookupError, match="queue of sqs:DeleteQueue"):
        list_permissions(ACCOUNT, "sqs", "DeleteQueue", {}, {})
