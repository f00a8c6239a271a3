"""`run.py check`: what each line says about right and wrong accounts, and what is asked of AWS for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from distributed_something.account.policies import build_log_export_statements
from distributed_something.account.policy_documents import merge_statements
from distributed_something.account.setup_aws import Buckets, build_roles
from distributed_something.aws.clients import Clients
from distributed_something.aws.instance_types import (
    MachineType,
    compute_container_fit,
    compute_usable_capacity,
    find_quota_class,
)
from distributed_something.aws.spot_prices import SpotMarket
from distributed_something.core.config_settings import Settings
from distributed_something.core.image_name import ContainerImageReference, parse_image_reference
from distributed_something.core.names import AwsAccount
from distributed_something.core.text import format_usd
from distributed_something.diagnose.check.account import is_log_export_allowed, judge_instance_profile
from distributed_something.diagnose.check.check import CHECKS, iter_findings, run_preflight_checks
from distributed_something.diagnose.check.cost import (
    MAX_TYPES_SHOWN,
    check_cost,
    check_ecs_limits,
    check_spot_quota,
    judge_bid,
    judge_cost,
    judge_spot_quotas,
)
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_findings_json,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
    choose_exit_code,
    format_findings,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts
from distributed_something.diagnose.check.machine_images import check_disks, judge_disks
from distributed_something.diagnose.check.machine_types import (
    check_machine_types,
    judge_machine_capacity,
    judge_type_offerings,
)
from distributed_something.diagnose.check.network import check_launch_template, check_subnets, judge_security_groups
from distributed_something.diagnose.check.queue_and_image import (
    find_ecr_architectures,
    judge_container_image,
    judge_dead_letter_queue,
    judge_job_queue,
)
from distributed_something.fleet.launch_specs import (
    LaunchSpecification,
    build_launch_specifications,
    build_launch_specs,
    list_requested_types,
)
from distributed_something.fleet.network import find_default_route_target
from distributed_something.observe.queue import QueueCounts
from tests.support.account import Account, account
from tests.support.fakes import DEAD_URL, MISSING_QUEUE, QUEUE_URL, SETTINGS
from tests.support.offline import CONFIG, config_text, type_command, write_project

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
ACCOUNT = "111122223333"
ECR = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/tools/app:1"
PATH = Path("files/fleet.json")
FLEET: dict[str, Any] = {
    "IamFleetRole": f"arn:aws:iam::{ACCOUNT}:role/aws-ec2-spot-fleet-tagging-role",
    "LaunchSpecifications": [
        {
            "ImageId": "ami-1",
            "KeyName": "my-key",
            "IamInstanceProfile": {"Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/ecsInstanceRole"},
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1", "Groups": ["sg-1"]}],
        }
    ],
}
M5 = MachineType("m5.large", 2, 8192, frozenset({"x86_64"}))
M5_SMALL = MachineType("m5.small", 1, 4096, frozenset({"x86_64"}))
STANDARD = find_quota_class("m5.large")


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def role(name: str, service: str) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
    return {"RoleName": name, "RoleId": "AROAEXAMPLEEXAMPLE12", "Path": "/", "Arn": arn, "CreateDate": NOW,
            "AssumeRolePolicyDocument": trust(service)}  # fmt: skip


def profile(roles: list[dict[str, Any]]) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT}:instance-profile/ecsInstanceRole"
    return {"Path": "/", "InstanceProfileName": "ecsInstanceRole", "InstanceProfileId": "AIPAEXAMPLEEXAMPLE12",
            "Arn": arn, "CreateDate": NOW, "Roles": roles}  # fmt: skip


def described(name: str = "m5.large", vcpus: int = 2, memory: int = 8192, arch: str = "x86_64") -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": vcpus},
        "MemoryInfo": {"SizeInMiB": memory},
        "ProcessorInfo": {"SupportedArchitectures": [arch]},
        "SupportedUsageClasses": ["on-demand", "spot"],
    }


def export_policy(region: str = "us-east-1") -> dict[str, Any]:
    principal = {"Service": f"logs.{region}.amazonaws.com"}
    place = "arn:aws:s3:::app-bucket"
    reads = {"Effect": "Allow", "Principal": principal, "Action": "s3:GetBucketAcl", "Resource": place}
    writes = {"Effect": "Allow", "Principal": principal, "Action": ["s3:PutObject"], "Resource": f"{place}/*"}
    return {"Statement": [reads, writes]}


def queue_url(asked: dict[str, Any]) -> dict[str, Any]:
    return {"QueueUrl": DEAD_URL if asked["QueueName"] == "AppDead" else QUEUE_URL}


def queue_attributes(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["QueueUrl"] == DEAD_URL:
        return {"Attributes": {"ApproximateNumberOfMessages": "0"}}
    feeds = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:AppDead"})
    counts = {"ApproximateNumberOfMessages": "1200", "ApproximateNumberOfMessagesNotVisible": "3"}
    return {"Attributes": counts | {"RedrivePolicy": feeds}}


INDEX = {"manifests": [{"platform": {"architecture": "amd64"}}, {"platform": {"architecture": "unknown"}}]}
RIGHT: dict[str, Any] = {
    "sts.GetCallerIdentity": {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ada", "UserId": "AIDA"},
    "s3.HeadBucket": {"BucketRegion": "us-east-1"},
    "s3.CreateMultipartUpload": {"UploadId": "upload-1"},
    "s3.AbortMultipartUpload": {},
    "s3.GetBucketPolicy": {"Policy": json.dumps(export_policy())},
    "iam.GetRole": {"Role": role("aws-ec2-spot-fleet-tagging-role", "spotfleet.amazonaws.com")},
    "iam.GetInstanceProfile": {"InstanceProfile": profile([role("ecsInstanceRole", "ec2.amazonaws.com")])},
    "ecr.BatchGetImage": {"images": [{"imageManifest": json.dumps(INDEX)}]},
    "sqs.GetQueueUrl": queue_url,
    "sqs.GetQueueAttributes": queue_attributes,
    "sqs.ListQueueTags": {"Tags": {"app": "App"}},
    "ec2.DescribeSubnets": {"Subnets": [
        {"SubnetId": "subnet-1", "VpcId": "vpc-1", "AvailabilityZone": "us-east-1a", "AvailableIpAddressCount": 200}]},
    "ec2.DescribeRouteTables": {"RouteTables": [
        {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}],
         "Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1", "State": "active"}]}]},
    "ec2.DescribeSecurityGroups": {"SecurityGroups": [
        {"GroupId": "sg-1", "VpcId": "vpc-1", "IpPermissionsEgress": [{"IpProtocol": "-1"}]}]},
    "ec2.DescribeKeyPairs": {"KeyPairs": [{"KeyName": "my-key"}]},
    "ec2.DescribeImages": {"Images": [
        {"ImageId": "ami-1", "Name": "al2023-ami-ecs-hvm-2023.0.20261101-x86_64", "Architecture": "x86_64",
         "State": "available", "RootDeviceName": "/dev/xvda",
         "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "SnapshotId": "snap-1"}}]}]},
    "ec2.DescribeInstanceTypes": {"InstanceTypes": [described()]},
    "ec2.DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": [
        {"InstanceType": "m5.large", "LocationType": "availability-zone", "Location": "us-east-1a"}]},
    "service-quotas.GetServiceQuota": {"Quota": {"QuotaCode": "L-34B43A08", "Value": 64.0}},
    "ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": [
        {"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "SpotPrice": "0.0400",
         "Timestamp": NOW - timedelta(days=8)}]},
    "ecs.DescribeClusters": {"clusters": [
        {"clusterName": "app-cluster", "status": "ACTIVE", "tags": [{"key": "app", "value": "App"}]}]},
    "ecs.DescribeServices": {"services": [{"serviceName": "AppService", "status": "ACTIVE", "desiredCount": 0,
                                           "tags": [{"key": "app", "value": "App"}]}]},
}  # fmt: skip


def of(**constants: Any) -> Settings:
    return SETTINGS.model_copy(update={"MEMORY": 3700, "DOCKERHUB_TAG": ECR} | constants)


@pytest.fixture
def aws() -> Iterator[Account]:
    with account(copy.deepcopy(RIGHT)) as made:
        yield made


def checked(aws: Account, fleet: dict[str, Any] | None = FLEET, **constants: Any) -> list[Finding]:
    return run_preflight_checks(of(**constants), aws.clients, PATH if fleet else None, copy.deepcopy(fleet), NOW)


def not_ok(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.level is not FindingLevel.OK]


def only(found: list[Finding], level: FindingLevel) -> Finding:
    """The one finding that is not ok, of this level."""
    (one,) = not_ok(found)
    assert one.level is level, one
    assert one.remedy
    return one


def levels(found: Any) -> list[str]:
    return [one.level.value for one in found]


# A right account


def test_a_right_account_has_a_line_for_everything_and_nothing_to_correct(aws: Account) -> None:
    found = checked(aws)
    assert not_ok(found) == []
    assert choose_exit_code(found) == 0
    assert {one.topic for one in found} >= {
        "account", "bucket", "fleet role", "profile", "image", "queue", "fleet file", "subnets", "groups", "key pair",
        "way to AWS", "AMI", "disk", "types", "room", "spot quota", "bid", "cost", "log export", "names",
    }  # fmt: skip


def test_the_lines_come_in_the_order_in_which_a_run_needs_things(aws: Account) -> None:
    topics = [topic for topic, _ in CHECKS]
    assert topics[:5] == ["account", "bucket", "fleet role", "profile", "roles"]
    assert topics[5:8] == ["image", "queue", "fleet file"]
    seen = list(dict.fromkeys(one.topic for one in checked(aws)))
    assert seen[:7] == ["account", "bucket", "fleet role", "profile", "image", "queue", "fleet file"]
    assert seen[-5:] == ["spot quota", "bid", "cost", "log export", "names"]


def test_a_check_asks_about_twenty_things_and_most_of_them_once(aws: Account) -> None:
    checked(aws)
    assert len(aws.calls) == 25
    twice = {call for call in aws.calls if aws.calls.count(call) > 1}
    assert twice == {"sqs.GetQueueUrl", "sqs.GetQueueAttributes", "sqs.ListQueueTags"}  # there are two queues


def test_a_fleet_of_many_types_and_subnets_takes_no_more_calls(aws: Account) -> None:
    many = copy.deepcopy(FLEET)
    many["LaunchSpecifications"][0]["NetworkInterfaces"][0]["SubnetId"] = "subnet-1,subnet-2"
    checked(aws, many, MACHINE_TYPE=[f"m5.{n}xlarge" for n in range(60)])
    assert len(aws.calls) == 25


def test_what_is_asked_of_ec2_is_just_this(aws: Account) -> None:
    checked(aws)
    week = {"StartTime": NOW - timedelta(days=7), "EndTime": NOW}
    types = [{"Name": "instance-type", "Values": ["m5.large"]}]
    zones = [{"Name": "availability-zone", "Values": ["us-east-1a"]}]
    for call, wanted in {
        "DescribeSubnets": {"Filters": [{"Name": "subnet-id", "Values": ["subnet-1"]}]},
        "DescribeRouteTables": {"Filters": [{"Name": "vpc-id", "Values": ["vpc-1"]}]},
        "DescribeSecurityGroups": {"Filters": [{"Name": "group-id", "Values": ["sg-1"]}]},
        "DescribeKeyPairs": {"Filters": [{"Name": "key-name", "Values": ["my-key"]}]},
        "DescribeImages": {"Filters": [{"Name": "image-id", "Values": ["ami-1"]}], "IncludeDeprecated": True},
        "DescribeInstanceTypes": {"Filters": types},
        "DescribeInstanceTypeOfferings": {"LocationType": "availability-zone", "Filters": types},
        "DescribeSpotPriceHistory": {"InstanceTypes": ["m5.large"], "ProductDescriptions": ["Linux/UNIX"],
                                     "Filters": zones, "MaxResults": 1000, **week},
    }.items():  # fmt: skip
        assert aws.parameters(f"ec2.{call}") == wanted


def test_what_is_asked_of_the_other_services_is_just_this(aws: Account) -> None:
    checked(aws)
    place = {"Bucket": "app-bucket", "Key": "runs/App/check"}
    assert aws.parameters("s3.HeadBucket") == {"Bucket": "app-bucket"}
    assert aws.parameters("s3.CreateMultipartUpload") == place
    assert aws.parameters("s3.AbortMultipartUpload") == place | {"UploadId": "upload-1"}
    assert aws.parameters("iam.GetRole") == {"RoleName": "aws-ec2-spot-fleet-tagging-role"}
    assert aws.parameters("iam.GetInstanceProfile") == {"InstanceProfileName": "ecsInstanceRole"}
    assert aws.parameters("service-quotas.GetServiceQuota") == {"ServiceCode": "ec2", "QuotaCode": "L-34B43A08"}
    asked = aws.parameters("ecr.BatchGetImage")
    assert (asked["registryId"], asked["repositoryName"], asked["imageIds"]) == (
        ACCOUNT, "tools/app", [{"imageTag": "1"}]
    )  # fmt: skip
    wanted = {"cluster": "app-cluster", "services": ["AppService"], "include": ["TAGS"]}
    assert aws.parameters("ecs.DescribeServices") == wanted


def test_nothing_is_made_but_an_upload_that_is_ended_at_once(aws: Account) -> None:
    checked(aws)
    reading = ("Get", "Describe", "List", "Head", "BatchGet")
    assert [call for call in aws.calls if not call.partition(".")[2].startswith(reading)] == [
        "s3.CreateMultipartUpload", "s3.AbortMultipartUpload",
    ]  # fmt: skip


def test_without_a_fleet_file_what_is_in_the_config_is_checked(aws: Account) -> None:
    found = checked(aws, None)
    assert not_ok(found) == []
    assert any(one.topic == "fleet file" and "none was given" in one.said for one in found)
    assert {"types", "room", "spot quota", "bid", "cost"} <= {one.topic for one in found}
    assert "iam.GetRole" not in aws.calls


# Bad accounts: each gets its line with its remedy


def test_no_credentials_are_one_line_and_nothing_more_is_asked(aws: Account) -> None:
    aws.answers["sts.GetCallerIdentity"] = NoCredentialsError()
    found = checked(aws)
    assert (found[0].topic, found[0].level) == ("account", FindingLevel.WRONG)
    assert "AWS_PROFILE" in found[0].remedy
    assert aws.calls == ["sts.GetCallerIdentity"]
    assert (found[-1].topic, found[-1].level) == ("not checked", FindingLevel.WARNING)
    assert "bucket" in found[-1].said
    assert "cost" in found[-1].said
    assert [one.level for one in found if one.topic == "fleet file"] == [FindingLevel.OK]  # that needs no login


def test_a_login_that_has_ended_says_how_to_log_in_again(aws: Account) -> None:
    aws.refuse("sts.GetCallerIdentity", "ExpiredToken", "it ended — at noon")
    found = checked(aws)[0]
    assert found.said == "ExpiredToken: it ended — at noon"
    assert found.remedy == "log in again (for SSO: aws sso login)"


@pytest.mark.parametrize("name", ["fleet.json", "my: fleet; the second.json"])
def test_a_wrong_fleet_file_is_told_by_its_key_whatever_its_name_is(aws: Account, name: str) -> None:
    wrong = copy.deepcopy(FLEET) | {"AllocationStrategy": "cheapest; first"}
    found = run_preflight_checks(of(), aws.clients, Path(name), wrong, NOW)
    (one,) = [one for one in found if one.topic == "fleet file"]
    assert one.said == "AllocationStrategy: 'cheapest; first' is none of AWS's"
    assert one.remedy.startswith("write one of lowestPrice, ")
    assert one.by_user


def test_a_missing_instance_profile(aws: Account) -> None:
    aws.refuse("iam.GetInstanceProfile", "NoSuchEntity")
    one = only(checked(aws), FindingLevel.WRONG)
    assert one.said.startswith("there is no instance profile ecsInstanceRole")
    assert "setupAWS" in one.remedy


def test_an_instance_profile_without_its_role(aws: Account) -> None:
    aws.change("iam.GetInstanceProfile", InstanceProfile=profile([]))
    assert "holds no role" in only(checked(aws), FindingLevel.WRONG).said


def test_a_role_that_machines_may_not_take_on(aws: Account) -> None:
    aws.change("iam.GetInstanceProfile", InstanceProfile=profile([role("ecsInstanceRole", "ecs.amazonaws.com")]))
    assert "ec2.amazonaws.com may not take on" in only(checked(aws), FindingLevel.WRONG).said


def test_what_setup_aws_makes_in_china_is_right_there() -> None:
    place = AwsAccount(ACCOUNT, "cn-north-1", "aws-cn")
    machines = next(one for one in build_roles(place, Buckets("app-bucket")) if one.name == "ecsInstanceRole")
    found = judge_instance_profile(machines.name, profile([role(machines.name, machines.service)]))
    assert [one.level for one in found] == [FindingLevel.OK]
    policy = merge_statements(None, build_log_export_statements(place, "app-bucket"))
    assert is_log_export_allowed(policy, place.region)


def test_a_fleet_file_of_another_account(aws: Account) -> None:
    aws.change("sts.GetCallerIdentity", Account="999900001111")
    found = not_ok(checked(aws))
    assert [one.said for one in found] == [
        f"IamFleetRole is of account {ACCOUNT}, you are logged in to 999900001111",
        f"IamInstanceProfile is of account {ACCOUNT}, you are logged in to 999900001111",
    ]


def test_a_quota_of_zero(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    one = only(checked(aws), FindingLevel.WRONG)
    assert "not one spot machine can start" in one.said
    assert "L-34B43A08" in one.remedy
    assert choose_exit_code([one]) == 1  # the account's, not the user's


def test_a_new_accounts_quota_of_five(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 5.0})
    assert "enough for 2 of 3 machines" in only(checked(aws), FindingLevel.WARNING).said


def test_a_wrong_subnet(aws: Account) -> None:
    aws.change("ec2.DescribeSubnets", Subnets=[])
    one = only(checked(aws), FindingLevel.WRONG)
    assert (one.topic, one.said) == ("subnets", "not in this account and region: subnet-1")
    assert "fleetFile" in one.remedy
    assert choose_exit_code([one]) == 2


def test_an_image_that_is_not_in_ecr(aws: Account) -> None:
    failure = {"imageId": {"imageTag": "1"}, "failureCode": "ImageNotFound", "failureReason": "not found"}
    aws.answers["ecr.BatchGetImage"] = {"images": [], "failures": [failure]}
    one = only(checked(aws), FindingLevel.WRONG)
    assert (one.topic, one.said) == ("image", f"{ECR} is not in ECR")
    assert "make push" in one.remedy


def test_a_repository_that_is_not_in_ecr(aws: Account) -> None:
    aws.refuse("ecr.BatchGetImage", "RepositoryNotFoundException")
    assert only(checked(aws), FindingLevel.WRONG).topic == "image"


def test_an_image_for_other_processors(aws: Account) -> None:
    arm = {"manifests": [{"platform": {"architecture": "arm64"}}]}
    aws.answers["ecr.BatchGetImage"] = {"images": [{"imageManifest": json.dumps(arm)}]}
    assert "is for arm64, which m5.large cannot run" in only(checked(aws), FindingLevel.WRONG).said


def test_a_machine_image_for_other_processors(aws: Account) -> None:
    aws.answers["ec2.DescribeImages"]["Images"][0]["Architecture"] = "arm64"
    assert only(checked(aws), FindingLevel.WRONG).said == "ami-1 is for arm64, m5.large is x86_64"


def test_a_machine_image_that_is_not_there(aws: Account) -> None:
    aws.change("ec2.DescribeImages", Images=[])
    one = only(checked(aws), FindingLevel.WRONG)
    assert one.said == "ami-1 is not in this region, or not open to this account"


def test_a_type_that_is_no_spot_machine(aws: Account) -> None:
    aws.answers["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]["SupportedUsageClasses"] = ["on-demand"]
    assert only(checked(aws), FindingLevel.WRONG).said == "m5.large is not sold as a spot machine"


def test_a_machine_image_past_its_support(aws: Account) -> None:
    aws.answers["ec2.DescribeImages"]["Images"][0]["Name"] = "amzn2-ami-ecs-hvm-2.0.20230906-x86_64-ebs"
    assert "past its support" in only(checked(aws), FindingLevel.WARNING).said


@pytest.mark.parametrize(
    ("made", "level"), [("2019-11-18T23:59:59.000Z", FindingLevel.WRONG), ("2020-02-01", None), ("", None)]
)
def test_a_machine_image_that_is_older_than_imdsv2(aws: Account, made: str, level: FindingLevel | None) -> None:
    aws.answers["ec2.DescribeImages"]["Images"][0]["CreationDate"] = made
    assert [one.level for one in not_ok(checked(aws))] == ([level] if level else [])


def test_an_unknown_machine_type(aws: Account) -> None:
    aws.answers["ec2.DescribeInstanceTypes"] = {"InstanceTypes": []}
    found = not_ok(checked(aws))
    assert "no such machine type in this region: m5.large" in [one.said for one in found]
    assert choose_exit_code(found) == 2


def test_a_bucket_that_is_not_there(aws: Account) -> None:
    aws.refuse("s3.HeadBucket", "404", "Not Found")
    one = only(checked(aws), FindingLevel.WRONG)
    assert one.said == "there is no bucket app-bucket"
    assert "s3.CreateMultipartUpload" not in aws.calls


def test_a_bucket_in_another_region_works_and_costs(aws: Account) -> None:
    aws.answers["s3.HeadBucket"] = {"BucketRegion": "eu-west-1"}
    one = only(checked(aws), FindingLevel.WARNING)
    assert "every byte" in one.said
    assert "eu-west-1" in one.remedy


def test_a_bucket_that_may_only_be_read(aws: Account) -> None:
    aws.refuse("s3.CreateMultipartUpload", "AccessDenied", "Access Denied")
    assert only(checked(aws), FindingLevel.WRONG).said == "you may not write to it: needs s3:PutObject"


def test_setup_was_not_run(aws: Account) -> None:
    aws.refuse("sqs.GetQueueUrl", MISSING_QUEUE)
    found = not_ok(checked(aws))
    assert levels(found) == ["wrong", "wrong"]
    assert {one.remedy for one in found} == {"run setup first"}


def test_a_key_pairs_file_name_is_not_its_name(aws: Account) -> None:
    aws.change("ec2.DescribeKeyPairs", KeyPairs=[])
    fleet = copy.deepcopy(FLEET)
    fleet["LaunchSpecifications"][0]["KeyName"] = "my-key.pem"
    assert only(checked(aws, fleet), FindingLevel.WRONG).remedy == "write 'my-key'"


def test_a_subnet_without_a_way_out(aws: Account) -> None:
    aws.answers["ec2.DescribeRouteTables"]["RouteTables"][0]["Routes"] = []
    assert "no route to the internet from subnet-1" in only(checked(aws), FindingLevel.WARNING).said


def test_no_public_address_in_a_public_subnet(aws: Account) -> None:
    assert "ASSIGN_IP" in only(checked(aws, ASSIGN_IP=False), FindingLevel.WARNING).remedy


def test_names_of_another_app(aws: Account) -> None:
    theirs = [{"key": "app", "value": "Theirs"}]
    aws.answers["sqs.ListQueueTags"] = {"Tags": {"app": "Theirs"}}
    aws.answers["ecs.DescribeClusters"]["clusters"][0]["tags"] = theirs
    aws.answers["ecs.DescribeServices"]["services"][0]["tags"] = theirs
    found = not_ok(checked(aws))
    assert levels(found) == ["wrong", "wrong", "warning", "wrong"]
    assert all(one.topic == "names" and "the app Theirs" in one.said for one in found)


def test_a_queue_that_was_made_by_hand_has_no_tag(aws: Account) -> None:
    aws.answers["sqs.ListQueueTags"] = {}
    found = not_ok(checked(aws))
    assert levels(found) == ["warning", "warning"]
    assert all("carries no tag `app`" in one.said and "run setup" in one.remedy for one in found)


def test_a_service_of_the_published_version_has_no_tag(aws: Account) -> None:
    """setup may not tag it: a right to tag services would reach every one whose name ends so."""
    aws.answers["ecs.DescribeServices"]["services"][0]["tags"] = []
    one = only(checked(aws), FindingLevel.WARNING)
    assert "the service AppService carries no tag `app`" in one.said
    assert "aws ecs delete-service --force" in one.remedy


def test_a_run_under_way_is_told(aws: Account) -> None:
    aws.answers["ecs.DescribeServices"]["services"][0]["desiredCount"] = 6
    assert "a run of App is under way" in only(checked(aws), FindingLevel.WARNING).said


@pytest.mark.parametrize("policy", [None, {}, export_policy("eu-west-1")])
def test_a_bucket_that_lets_no_logs_in(aws: Account, policy: dict[str, Any] | None) -> None:
    if policy is None:
        aws.refuse("s3.GetBucketPolicy", "NoSuchBucketPolicy")
    else:
        aws.answers["s3.GetBucketPolicy"] = {"Policy": json.dumps(policy)}
    assert only(checked(aws), FindingLevel.WARNING).topic == "log export"


def test_a_fleet_file_with_a_placeholder_is_the_users_to_correct(aws: Account) -> None:
    fleet = copy.deepcopy(FLEET)
    fleet["LaunchSpecifications"][0]["ImageId"] = "ami-FILL_IN"
    found = checked(aws, fleet)
    one = only(found, FindingLevel.WRONG)
    assert one.said == "LaunchSpecifications[0].ImageId: 'ami-FILL_IN' is a placeholder"
    assert choose_exit_code(found) == 2
    assert "ec2.DescribeImages" not in aws.calls
    assert "ec2.DescribeInstanceTypes" in aws.calls  # what the config says is checked all the same


# Rights

RIGHTS = {
    "sts.GetCallerIdentity": "sts:GetCallerIdentity",
    "s3.HeadBucket": "s3:ListBucket",
    "s3.AbortMultipartUpload": "s3:AbortMultipartUpload",
    "s3.GetBucketPolicy": "s3:GetBucketPolicy",
    "iam.GetRole": "iam:GetRole",
    "iam.GetInstanceProfile": "iam:GetInstanceProfile",
    "ecr.BatchGetImage": "ecr:BatchGetImage",
    "sqs.GetQueueUrl": "sqs:GetQueueUrl",
    "sqs.GetQueueAttributes": "sqs:GetQueueAttributes",
    "sqs.ListQueueTags": "sqs:ListQueueTags",
    "service-quotas.GetServiceQuota": "servicequotas:GetServiceQuota",
    "ecs.DescribeClusters": "ecs:DescribeClusters",
    "ecs.DescribeServices": "ecs:DescribeServices",
    **{call: call.replace(".", ":") for call in RIGHT if call.startswith("ec2.")},
}


@pytest.mark.parametrize("call", sorted(RIGHTS))
def test_a_missing_right_is_a_warning_that_names_it_and_stops_no_other_check(aws: Account, call: str) -> None:
    all_topics = {one.topic for one in checked(aws)}
    code = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}.get(call.partition(".")[0], "AccessDeniedException")
    aws.refuse(call, "403" if call == "s3.HeadBucket" else code, "You are not authorized to perform this operation.")
    found = checked(aws)
    refused = [one for one in found if f"needs {RIGHTS[call]}" in one.said]
    assert refused
    lowest = {FindingLevel.WRONG} if call == "s3.AbortMultipartUpload" else {FindingLevel.WARNING}
    assert {one.level for one in not_ok(found)} == lowest
    assert all_topics <= {one.topic for one in found}


def test_the_right_is_taken_from_awss_own_words(aws: Account) -> None:
    words = "User: arn:aws:iam::1:user/ada is not authorized to perform: s3:ListBucket on resource: x"
    aws.refuse("s3.HeadBucket", "AccessDenied", words)
    assert any("needs s3:ListBucket" in one.said for one in checked(aws))


def test_any_other_error_is_a_warning_with_awss_words(aws: Account) -> None:
    aws.refuse("service-quotas.GetServiceQuota", "ServiceException", "try later")
    assert only(checked(aws), FindingLevel.WARNING).said == "could not be looked up: ServiceException: try later"


# The image's name


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("user/project:tag", ContainerImageReference("", "user/project", "tag", "")),
        ("python", ContainerImageReference("", "python", "", "")),
        ("localhost:5000/a/b", ContainerImageReference("localhost:5000", "a/b", "", "")),
        ("ghcr.io/a/b:1.0", ContainerImageReference("ghcr.io", "a/b", "1.0", "")),
        (ECR, ContainerImageReference(f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "tools/app", "1", "")),
        (f"a/b@sha256:{'0' * 64}", ContainerImageReference("", "a/b", "", f"sha256:{'0' * 64}")),
    ],
)
def test_an_images_name_has_these_parts(written: str, parts: ContainerImageReference) -> None:
    assert parse_image_reference(written) == parts


@pytest.mark.parametrize(
    "written", ["User/Project:1", "a//b", "a/b:", "a/b:t ag", "a/b@sha256:12", "-a", "a/b:" + "x" * 129]
)
def test_a_name_that_no_registry_takes_is_wrong(aws: Account, written: str) -> None:
    if written == "a/b:":
        assert parse_image_reference(written) == ContainerImageReference("", "a/b", "", "")
        return
    assert parse_image_reference(written) is None
    assert only(checked(aws, DOCKERHUB_TAG=written), FindingLevel.WRONG).topic == "image"


@given(st.text(max_size=60))
def test_no_name_breaks_the_reading(written: str) -> None:
    parse_image_reference(written)


def test_an_image_elsewhere_is_not_looked_up_and_this_is_said(aws: Account) -> None:
    found = checked(aws, DOCKERHUB_TAG="user/project:tag")
    assert not_ok(found) == []
    assert any("not looked up outside ECR" in one.said for one in found)
    assert "ecr.BatchGetImage" not in aws.calls


def test_an_image_in_another_region_pays_for_its_way(aws: Account) -> None:
    assert (
        "pays for the transfer"
        in only(checked(aws, DOCKERHUB_TAG=ECR.replace("us-east-1", "eu-west-1")), FindingLevel.WARNING).said
    )


def test_a_single_images_processor_is_in_its_config(aws: Account) -> None:
    manifest = {"config": {"digest": "sha256:cafe"}}
    aws.answers["ecr.BatchGetImage"] = {"images": [{"imageManifest": json.dumps(manifest)}]}
    aws.answers["ecr.GetDownloadUrlForLayer"] = {"downloadUrl": "https://layers/cafe"}
    name = parse_image_reference(ECR)
    assert name is not None
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return b'{"architecture": "arm64"}'

    assert find_ecr_architectures(aws.clients.ecr, name, fetch) == {"arm64"}
    assert fetched == ["https://layers/cafe"]
    assert aws.parameters("ecr.GetDownloadUrlForLayer")["layerDigest"] == "sha256:cafe"


@pytest.mark.parametrize("config", [b"", b"<html>", b"[]", b"{}"])
def test_an_image_that_does_not_say_its_processor_is_still_there(config: bytes) -> None:
    with account(copy.deepcopy(RIGHT)) as aws:
        manifest = {"config": {"digest": "sha256:cafe"}}
        aws.answers["ecr.BatchGetImage"] = {"images": [{"imageManifest": json.dumps(manifest)}]}
        aws.answers["ecr.GetDownloadUrlForLayer"] = {"downloadUrl": "https://layers/cafe"}
        name = parse_image_reference(ECR)
        assert name is not None
        found = find_ecr_architectures(aws.clients.ecr, name, lambda _: config)
    assert found == set()
    assert levels(judge_container_image(ECR, found, {"m5.large": frozenset({"x86_64"})})) == ["ok"]


# The queue


@pytest.mark.parametrize(
    ("waiting", "running", "level"),
    [(0, 0, "warning"), (4, 0, "warning"), (5, 0, "ok"), (0, 5, "ok"), (1000, 0, "ok")],
)
def test_fewer_jobs_than_would_use_every_machine_are_told(waiting: int, running: int, level: str) -> None:
    found = QueueFacts(QueueCounts(waiting, running), {}, "AppDead")
    assert levels(judge_job_queue("AppQueue", found, machines=3, slots=2)) == [level]


def test_failed_jobs_of_an_earlier_run_are_told() -> None:
    (one,) = judge_dead_letter_queue("AppDead", QueueFacts(QueueCounts(21, 0), {}, ""))
    assert one.said == "21 failed jobs of an earlier run are in AppDead"


def test_a_queue_that_feeds_another_dead_letter_queue_is_told(aws: Account) -> None:
    (one,) = [one for one in not_ok(checked(aws, SQS_DEAD_LETTER_QUEUE="Other")) if one.remedy.startswith("run setup")]
    assert one.said == "jobs that fail do not go to Other but to AppDead"


# What fits on a machine


@pytest.mark.parametrize(
    ("tasks", "cpu", "memory", "said"),
    [
        (2, 1024, 3700, []),
        (1, 2048, 8000, ["wrong"]),  # 8192 MiB less the agent's share is 7536
        (3, 1024, 2000, ["wrong"]),  # 2 virtual CPUs
        (1, 1024, 3000, ["warning"]),  # two would fit: ECS may crowd them
        (1, 2048, 3000, ["ok"]),  # memory for another is left over, and said
        (2, 600, 3700, ["ok"]),  # CPU for another is left over
    ],
)
def test_what_fits_is_said(tasks: int, cpu: int, memory: int, said: list[str]) -> None:
    settings = of(TASKS_PER_MACHINE=tasks, CPU_SHARES=cpu, MEMORY=memory)
    found = [one for one in judge_machine_capacity(settings, {"m5.large": M5}) if "fit on every" not in one.said]
    assert levels(found) == said
    assert all(one.remedy for one in found)


def test_memory_that_fits_none_of_the_machines_is_wrong_with_the_most_that_fits() -> None:
    (found,) = judge_machine_capacity(of(MEMORY=4000), {"m5.large": M5, "m5.small": M5_SMALL})
    assert (found.level, found.by_user) == (FindingLevel.WRONG, True)
    assert found.said == "MEMORY: 2 x 4000 MiB fit none of the machines (largest: 8192 MiB)"
    assert found.remedy == "at most 3768 fits; or lower TASKS_PER_MACHINE"


def test_processors_that_fit_none_of_the_machines_are_wrong_with_the_most_that_fits() -> None:
    (found,) = judge_machine_capacity(of(TASKS_PER_MACHINE=1, CPU_SHARES=4096), {"m5.large": M5})
    assert (found.level, found.by_user) == (FindingLevel.WRONG, True)
    assert found.said == "CPU_SHARES: 1 x 4096 fit none of the machines (largest: 2048)"
    assert found.remedy == "at most 2048 fits; or lower TASKS_PER_MACHINE"


def test_memory_and_processors_that_no_machine_has_together_are_wrong() -> None:
    fast = MachineType("c5.xlarge", 4, 4096, frozenset({"x86_64"}))
    wide = MachineType("r5.large", 1, 16384, frozenset({"x86_64"}))
    (found,) = judge_machine_capacity(of(MEMORY=3700, CPU_SHARES=2048), {"c5.xlarge": fast, "r5.large": wide})
    assert (found.level, found.by_user) == (FindingLevel.WRONG, True)
    assert found.said == "c5.xlarge holds 1 of 2, r5.large holds 0 of 2 containers (CPU for 0 to 2, memory for 1 to 4)"


def test_start_cluster_ends_with_2_before_anything_is_made_where_memory_fits_no_machine(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    names = {"APP_NAME": "App", "AWS_BUCKET": "app-bucket", "ECS_CLUSTER": "app-cluster", "SQS_QUEUE_NAME": "AppQueue",
             "SQS_DEAD_LETTER_QUEUE": "AppDead", "DOCKERHUB_TAG": ECR}  # fmt: skip
    (project / "config.py").write_text(config_text(CONFIG | names | {"MEMORY": 8000}))
    (project / "files" / "fleet.json").write_text(json.dumps(FLEET))
    with account(copy.deepcopy(RIGHT)) as aws:
        outcome = type_command("--project", str(project), "startCluster", str(project / "files" / "fleet.json"))
    assert outcome.code == 2
    assert "MEMORY: 1 x 8000 MiB fit none of the machines (largest: 8192 MiB)" in " ".join(outcome.err.split())
    assert "at most 7536 fits" in outcome.err
    assert "1 wrong, 0 warnings" in outcome.err
    assert not [call for call in aws.calls if call.startswith(("ec2.Create", "ec2.Request", "ecs."))
                and not call.startswith("ecs.Describe")]  # fmt: skip


def test_a_hundred_types_are_looked_up_in_one_call(aws: Account) -> None:
    checked(aws, None, MACHINE_TYPE=[f"m5.{number}xlarge" for number in range(101)])
    asked = [parameters for call, parameters in aws.asked if call == "ec2.DescribeInstanceTypes"]
    assert [len(one["Filters"][0]["Values"]) for one in asked] == [100, 1]


def test_one_type_that_is_too_small_is_a_warning_where_others_fit() -> None:
    found = list(judge_machine_capacity(of(), {"m5.large": M5, "m5.small": M5_SMALL}))
    assert levels(found) == ["warning"]
    assert found[0].said == "m5.small holds 1 of 2 containers (CPU for 1, memory for 1)"


@given(
    st.integers(1, 448), st.integers(512, 24_000_000), st.integers(2, 458_752), st.integers(6, 25_000_000),
    st.integers(1, 100),
)  # fmt: skip
def test_as_many_containers_as_are_said_to_fit_do_fit(vcpus: int, mib: int, cpu: int, memory: int, tasks: int) -> None:
    machine = MachineType("x.y", vcpus, mib, frozenset())
    count = compute_container_fit(machine, cpu, memory).containers
    room_cpu, room_memory = compute_usable_capacity(machine)
    assert count * cpu <= room_cpu
    assert count * memory <= room_memory
    assert (count + 1) * cpu > room_cpu or (count + 1) * memory > room_memory
    wrong = "wrong" in levels(
        judge_machine_capacity(of(TASKS_PER_MACHINE=tasks, CPU_SHARES=cpu, MEMORY=memory), {"x.y": machine})
    )
    assert wrong == (count < tasks)


# Disks


def image_of(*devices: tuple[str, int]) -> dict[str, Any]:
    mappings = [{"DeviceName": name, "Ebs": {"VolumeSize": size}} for name, size in devices]
    return {"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": mappings}


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((("/dev/xvda", 30, None),), ["ok"]),
        ((("/dev/xvda", 22, None),), ["wrong"]),  # smaller than its snapshot
        ((("/dev/xvda", None, None), ("/dev/xvdcz", 30, None)), ["warning"]),  # as on Amazon Linux 1
        ((("/dev/xvdcz", 30, None),), ["warning", "warning"]),
        ((("/dev/xvda", 30, "snap-gone"),), ["wrong"]),
        ((), ["ok"]),
    ],
)
def test_disks_fit_the_machine_image(volumes: Any, expected: list[str]) -> None:
    one = LaunchSpecification("m5.large", image="ami-1", volumes=volumes)
    found = list(judge_disks([one, one], {"ami-1": image_of(("/dev/xvda", 30))}, {}))
    assert levels(found) == expected


def test_a_disk_that_is_too_small_is_mended_where_its_size_is_written() -> None:
    """EBS_VOL_SIZE is that of the last disk, as in published files; the first one's stands in the Fleet file."""
    image = {"ami-1": image_of(("/dev/xvda", 30), ("/dev/xvdcz", 22))}
    both = LaunchSpecification("m5.large", image="ami-1", volumes=(("/dev/xvda", 8, None), ("/dev/xvdcz", 10, None)))
    first, last = judge_disks([both], image, {})
    assert first.remedy == "raise its VolumeSize in the Fleet file to 30, or take it out"
    assert last.remedy == "set EBS_VOL_SIZE to at least 22"


# The network


def table(target: dict[str, str], subnet: str | None = None, state: str = "active") -> dict[str, Any]:
    link = {"SubnetId": subnet} if subnet else {"Main": True}
    route = {"DestinationCidrBlock": "0.0.0.0/0", "State": state, **target}
    return {"VpcId": "vpc-1", "Associations": [link], "Routes": [{"DestinationCidrBlock": "10.0.0.0/8"}, route]}


IGW, NAT = {"GatewayId": "igw-1"}, {"NatGatewayId": "nat-1"}


@pytest.mark.parametrize(
    ("tables", "kind"),
    [
        ([], None),
        ([table(IGW)], "igw"),
        ([table(IGW), table(NAT, "subnet-1")], "nat"),  # a subnet's own table stands before the main one
        ([table(NAT), table(IGW, "subnet-2")], "nat"),
        ([table(IGW, state="blackhole")], None),
        ([{"VpcId": "vpc-1", "Associations": [{"SubnetId": "subnet-1"}], "Routes": []}, table(IGW)], None),
    ],
)
def test_the_way_out_of_a_subnet(tables: list[Any], kind: str | None) -> None:
    assert find_default_route_target("subnet-1", "vpc-1", tables) == kind


def test_a_group_of_another_network_is_refused_by_ec2() -> None:
    groups = {"sg-1": {"VpcId": "vpc-2", "IpPermissionsEgress": [{}]}}
    one = LaunchSpecification("m5.large", groups=("sg-1",))
    assert levels(judge_security_groups([one], groups, {"vpc-1"})) == ["wrong"]


def test_a_type_that_one_zone_lacks_is_a_warning_and_one_that_all_lack_is_wrong() -> None:
    asked = [LaunchSpecification("m5.large", ("s-a", "s-b"))]
    zones, types = {"s-a": "us-east-1a", "s-b": "us-east-1b"}, {"m5.large": M5}
    everywhere = {("m5.large", "us-east-1a"), ("m5.large", "us-east-1b")}
    assert levels(judge_type_offerings(asked, zones, everywhere, types)) == ["ok"]
    assert levels(judge_type_offerings(asked, zones, {("m5.large", "us-east-1a")}, types)) == ["warning"]
    assert levels(judge_type_offerings(asked, zones, set(), types)) == ["wrong"]


def test_each_type_is_looked_at_in_each_place_with_all_that_its_specification_names() -> None:
    (one,) = build_launch_specifications(build_launch_specs(copy.deepcopy(FLEET), of()))
    assert (one.machine_type, one.subnets, one.groups) == ("m5.large", ("subnet-1",), ("sg-1",))
    assert (one.image, one.key, one.unread) == ("ami-1", "my-key", False)
    assert one.volumes == (("/dev/xvda", 30, None),)


@pytest.mark.parametrize(
    "fleet",
    [
        {"LaunchSpecifications": [{"InstanceType": "m5.large"}, {"ImageId": "ami-1"}]},  # the published version's
        {"LaunchTemplateConfigs": [{"Overrides": [{"InstanceType": "m5.large", "SubnetId": "s"}]}, {}]},
    ],
)
def test_the_types_of_a_fleet_are_known_whoever_has_started_it(fleet: dict[str, Any]) -> None:
    assert list_requested_types(fleet) == {"m5.large"}


def templated(**override: str) -> dict[str, Any]:
    """The Fleet file with a launch template in place of its specification."""
    named = {"LaunchTemplateId": "lt-1", "Version": "3"}
    config = {"LaunchTemplateSpecification": named, "Overrides": [override]}
    return {"IamFleetRole": FLEET["IamFleetRole"], "LaunchTemplateConfigs": [config]}


def template_data() -> dict[str, Any]:
    (data,) = copy.deepcopy(FLEET["LaunchSpecifications"])
    data["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] = 30
    return data | {"SecurityGroupIds": ["sg-2"]}


def test_a_launch_template_is_read_as_if_it_stood_in_the_file() -> None:
    (one,) = build_launch_specifications(build_launch_specs(templated(SubnetId="subnet-9"), of(), template_data()))
    assert (one.machine_type, one.subnets, one.groups) == ("m5.large", ("subnet-9",), ("sg-2", "sg-1"))
    assert (one.image, one.key, one.unread) == ("ami-1", "my-key", False)
    assert one.volumes == (("/dev/xvda", 30, None),)


def test_a_launch_template_that_could_not_be_read_leaves_its_overrides() -> None:
    (one,) = build_launch_specifications(build_launch_specs(templated(SubnetId="subnet-9"), of()))
    assert (one.machine_type, one.subnets, one.unread) == ("m5.large", ("subnet-9",), True)


def facts_of(aws: Account, fleet: dict[str, Any], **constants: Any) -> Lookups:
    return Lookups(of(**constants), aws.clients, NOW, fleet)


def test_what_is_in_a_launch_template_is_looked_up(aws: Account) -> None:
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 3, "LaunchTemplateData": template_data()}
    aws.answers["ec2.DescribeLaunchTemplateVersions"] = {"LaunchTemplateVersions": [version]}
    facts = facts_of(aws, templated())
    assert levels(check_launch_template(facts)) == ["ok"]
    assert levels(check_subnets(facts)) == ["ok"]
    assert levels(check_disks(facts)) == ["ok"]
    assert aws.parameters("ec2.DescribeLaunchTemplateVersions") == {"LaunchTemplateId": "lt-1", "Versions": ["3"]}


def test_a_launch_template_that_is_not_there_is_wrong(aws: Account) -> None:
    aws.refuse("ec2.DescribeLaunchTemplateVersions", "InvalidLaunchTemplateId.NotFound")
    (one,) = check_launch_template(facts_of(aws, templated()))
    assert (one.level, one.said) == (FindingLevel.WRONG, "no such launch template: lt-1 version 3")


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        ({"UserData": "TUlNRS1WZXJzaW9uOiAxLjAK"}, "its user data is no shell script", "begin it with #!/bin/bash"),
        ({"SecurityGroups": ["lab"]}, "security groups by name", "by id"),
        ({"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]}, "serves one machine", "take NetworkInterfaceId out"),
    ],
)
def test_a_launch_template_that_start_cluster_would_refuse_is_wrong(
    aws: Account, content: dict[str, Any], said: str, remedy: str
) -> None:
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 3, "LaunchTemplateData": {"ImageId": "ami-1"} | content}
    aws.answers["ec2.DescribeLaunchTemplateVersions"] = {"LaunchTemplateVersions": [version]}
    (one,) = check_launch_template(facts_of(aws, templated()))
    assert (one.level, one.by_user) == (FindingLevel.WRONG, True)
    assert "lt-1 version 3" in one.said
    assert said in one.said
    assert remedy in one.remedy


def test_a_launch_template_that_may_not_be_read_is_told_once(aws: Account) -> None:
    aws.refuse("ec2.DescribeLaunchTemplateVersions", "UnauthorizedOperation")
    facts = facts_of(aws, templated())
    found = list(iter_findings([("template", check_launch_template), ("types", check_machine_types)], facts))
    assert found[0].said == "could not be looked up: needs ec2:DescribeLaunchTemplateVersions"
    assert levels(found) == ["warning", "ok"]
    assert aws.calls.count("ec2.DescribeLaunchTemplateVersions") == 1


def test_machines_on_demand_are_not_held_against_the_spot_quota_nor_counted_as_cheap(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 4.0})
    facts = facts_of(aws, FLEET, ON_DEMAND_MACHINES=1)
    assert levels(check_spot_quota(facts)) == ["ok"]
    assert levels(check_cost(facts)) == ["ok", "warning"]


@pytest.mark.parametrize(("limit", "told"), [(0.0, False), (50.0, True)])
def test_a_limit_of_the_cost_is_told_not_to_know_the_price_on_demand(aws: Account, limit: float, told: bool) -> None:
    (found,) = check_cost(facts_of(aws, FLEET, ON_DEMAND_MACHINES=3, MAX_COST=limit))
    assert ("MAX_COST counts spot prices" in found.said) is told


def test_where_no_spot_machine_is_asked_for_spot_quota_and_market_stop_nothing(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    aws.answers["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]["SupportedUsageClasses"] = ["on-demand"]
    found = checked(aws, ON_DEMAND_MACHINES=3, MACHINE_PRICE=0.0001)
    assert [one.topic for one in not_ok(found)] == ["cost"], "the price on demand is not looked up"
    assert any(one.said == "no spot machine is asked for" for one in found)


def test_beside_machines_on_demand_a_spot_quota_of_zero_is_a_warning(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    facts = facts_of(aws, FLEET, ON_DEMAND_MACHINES=1)
    assert levels(check_spot_quota(facts)) == ["warning"]


@pytest.mark.parametrize(
    ("machines", "tasks", "named"),
    [
        (5000, 1, []),
        (2500, 2, []),
        (2501, 2, ["Tasks per service"]),
        (5001, 1, ["Container instances per cluster", "Tasks per service"]),
    ],
)
def test_a_run_above_what_ecs_takes_by_default_is_told_before_its_fleet(
    aws: Account, machines: int, tasks: int, named: list[str]
) -> None:
    facts = facts_of(aws, FLEET, CLUSTER_MACHINES=machines, TASKS_PER_MACHINE=tasks)
    found = list(check_ecs_limits(facts))
    assert [one.details["quota"] for one in found] == named
    assert {one.level for one in found} <= {FindingLevel.WARNING}
    assert all(str(one.details["quota"]) in one.said for one in found)


# Quota, bid, cost


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("m5.large", "L-34B43A08"), ("c7g.xlarge", "L-34B43A08"), ("t3a.nano", "L-34B43A08"),
        ("i4i.large", "L-34B43A08"),
        ("im4gn.large", "L-34B43A08"), ("d3en.xlarge", "L-34B43A08"), ("z1d.large", "L-34B43A08"),
        ("g5.xlarge", "L-3819A6DF"), ("gr6.4xlarge", "L-3819A6DF"), ("vt1.3xlarge", "L-3819A6DF"),
        ("p3.2xlarge", "L-7212CCBC"), ("p4d.24xlarge", "L-7212CCBC"), ("p5.48xlarge", "L-C4BD4855"),
        ("inf2.xlarge", "L-B5D1601B"), ("x2idn.16xlarge", "L-E3A00192"), ("f1.2xlarge", "L-88CF9481"),
        ("dl1.24xlarge", "L-85EED4F7"), ("trn1.2xlarge", "L-6B0D517C"),
        ("mac1.metal", None), ("u-6tb1.metal", None), ("p6-b200.48xlarge", None),
    ],
)  # fmt: skip
def test_a_type_counts_against_its_own_quota(kind: str, code: str | None) -> None:
    found = find_quota_class(kind)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("value", "level"), [(0, "wrong"), (1, "wrong"), (2, "warning"), (5, "warning"), (6, "ok"), (1000, "ok")]
)
def test_a_quota_is_held_against_the_machines(value: int, level: str) -> None:
    assert STANDARD is not None
    assert levels(judge_spot_quotas(3, {"m5.large": M5}, {STANDARD: value})) == [level]


def test_a_quota_that_lacks_just_one_of_two_classes_stops_nothing() -> None:
    gpu = MachineType("g5.xlarge", 4, 16384, frozenset({"x86_64"}))
    values = {quota: value for quota, value in ((STANDARD, 64), (find_quota_class("g5.xlarge"), 0)) if quota}
    assert levels(judge_spot_quotas(3, {"m5.large": M5, "g5.xlarge": gpu}, values)) == ["ok", "warning"]


def market(now: float, most: float, above: float = 0.0, kind: str = "m5.large") -> SpotMarket:
    return SpotMarket(kind, "us-east-1a", now, min(now, most), most, above)


@pytest.mark.parametrize(
    ("one", "level"),
    [
        (market(0.04, 0.05), "ok"),
        (market(0.04, 0.12, 0.2), "warning"),
        (replace(market(0.11, 0.12, 0.9), least=0.05), "warning"),  # it may start when the price falls again
        (market(0.11, 0.12, 1.0), "wrong"),
    ],
)
def test_the_bid_is_held_against_now_and_the_week(one: SpotMarket, level: str) -> None:
    found = list(judge_bid(0.1, [one]))
    assert levels(found) == [level]
    assert level == "ok" or "0.12" in found[0].remedy


def test_a_bid_below_every_type_is_wrong_and_below_one_a_warning() -> None:
    dear, cheap = market(0.2, 0.2, 1.0, "c5.large"), market(0.04, 0.05)
    assert levels(judge_bid(0.1, [cheap, dear])) == ["ok", "warning"]
    found = list(judge_bid(0.01, [cheap, dear]))
    assert levels(found) == ["warning", "warning", "wrong"]
    assert found[-1].remedy.startswith("raise MACHINE_PRICE above 0.05;")  # the cheapest type's


def test_a_few_types_have_a_line_each_and_no_more() -> None:
    count = MAX_TYPES_SHOWN
    assert len(list(judge_bid(1.0, [market(0.1, 0.1, kind=f"m{n}.large") for n in range(count)]))) == count


def test_many_types_are_a_few_lines_and_all_of_them_in_the_details() -> None:
    found = list(judge_bid(1.0, [market(0.01 * n, 0.02 * n, kind=f"m{n}.large") for n in range(1, 41)]))
    assert len(found) == MAX_TYPES_SHOWN + 1
    assert sum(len(one.details["markets"]) for one in found) == 40


def test_the_cost_of_an_hour_is_machines_disks_and_addresses() -> None:
    found = judge_cost(of(CLUSTER_MACHINES=10, MACHINE_PRICE=0.1, EBS_VOL_SIZE=73), [market(0.04, 0.05)])
    extras = 10 * (73 * 0.08 / 730 + 0.005)
    assert found.details["expected"] == pytest.approx(10 * 0.04 + extras)
    assert found.details["ceiling"] == pytest.approx(10 * 0.1 + extras)
    assert found.said.startswith("about 0.53 USD an hour for 10 machines")


def test_the_ceiling_is_told_of_the_spot_machines_alone_since_the_bid_binds_no_others() -> None:
    found = judge_cost(of(CLUSTER_MACHINES=10, ON_DEMAND_MACHINES=4, MACHINE_PRICE=0.1), [])
    assert "USD an hour for 6 spot machines (" in found.said
    assert found.details["ceiling"] < 10 * 0.1


def test_without_public_addresses_none_are_paid_for() -> None:
    found = judge_cost(of(ASSIGN_IP=False), [])
    assert "addresses" not in found.said
    assert found.said.startswith("at most")


@given(st.floats(min_value=0.0001, max_value=100), st.lists(st.floats(min_value=0.0001, max_value=100), min_size=1))
def test_what_is_expected_is_never_above_the_ceiling(bid: float, now: list[float]) -> None:
    details = judge_cost(of(MACHINE_PRICE=bid), [market(one, one) for one in now]).details
    assert details.get("expected", 0) <= details["ceiling"] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.00001, "0.00001"), (0.03125, "0.0312"), (0.1, "0.10"), (1.256, "1.26"), (1250, "1,250.00"), (0, "0.00")],
)
def test_amounts_are_shown_as_people_write_them(amount: float, shown: str) -> None:
    assert format_usd(amount) == shown


# How it looks


def test_only_what_needs_attention_may_be_shown() -> None:
    found = [
        build_ok_finding("a", "fine"),
        build_warning_finding("b", "hm", "do"),
        build_wrong_finding("c", "no", "mend"),
    ]
    assert "fine" in format_findings(found)
    assert "fine" not in format_findings(found, least=FindingLevel.WARNING)
    assert "hm" not in format_findings(found, least=FindingLevel.WRONG)
    assert format_findings(found[:1], least=FindingLevel.WARNING) == "nothing is wrong, 0 warnings, 1 ok"


def test_every_line_fits_into_eighty_columns(aws: Account) -> None:
    aws.refuse("iam.GetInstanceProfile", "NoSuchEntity")
    aws.refuse("service-quotas.GetServiceQuota")
    shown = format_findings(checked(aws, MEMORY=100, CPU_SHARES=100))
    assert max(len(line) for line in shown.splitlines() if ECR not in line) <= 80
    assert shown.splitlines()[-1] == "1 wrong, 2 warnings: correct what is wrong first"
    assert "WRONG    profile" in shown


def test_a_wrong_line_ends_with_a_code_that_says_whose_it_is() -> None:
    account_wrong = build_wrong_finding("a", "b", "c")
    users_wrong = build_wrong_finding("a", "b", "c", by_user=True)
    assert choose_exit_code([build_ok_finding("a", "b"), build_warning_finding("a", "b", "c")]) == 0
    assert choose_exit_code([account_wrong]) == 1
    assert choose_exit_code([account_wrong, users_wrong]) == 2


def test_scripts_get_the_same_list_as_json(aws: Account) -> None:
    aws.change("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    found = checked(aws)
    told = json.loads(build_findings_json(found))
    assert told["exit_code"] == 1
    assert [one["topic"] for one in told["findings"]] == [one.topic for one in found]
    (quota,) = [one for one in told["findings"] if one["topic"] == "spot quota"]
    assert quota["details"] == {"code": "L-34B43A08", "value": 0.0, "needed": 6}


# A whole account, played by an emulator


def test_an_emulated_account_with_all_that_is_needed_has_nothing_wrong() -> None:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        fleet = prepared(clients)
        found = run_preflight_checks(of(DOCKERHUB_TAG="user/app:1"), clients, PATH, fleet, datetime.now(UTC))
        assert [one for one in found if one.level is FindingLevel.WRONG] == []
        assert clients.s3.list_multipart_uploads(Bucket="app-bucket").get("Uploads", []) == []
        assert clients.s3.list_objects_v2(Bucket="app-bucket")["KeyCount"] == 0


def prepared(clients: Clients) -> dict[str, Any]:
    """Makes in moto all that a run needs; the Fleet file for it."""
    clients.s3.create_bucket(Bucket="app-bucket")
    dead = clients.sqs.create_queue(QueueName="AppDead", tags={"app": "App"})["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    clients.sqs.create_queue(QueueName="AppQueue", Attributes={"RedrivePolicy": redrive}, tags={"app": "App"})
    for name, service in (("fleet", "spotfleet.amazonaws.com"), ("ecsInstanceRole", "ec2.amazonaws.com")):
        clients.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(service))
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="ecsInstanceRole", RoleName="ecsInstanceRole")
    clients.ec2.create_key_pair(KeyName="my-key")
    fleet = copy.deepcopy(FLEET)
    fleet["IamFleetRole"] = "arn:aws:iam::123456789012:role/fleet"
    (one,) = fleet["LaunchSpecifications"]
    one["IamInstanceProfile"] = {"Name": "ecsInstanceRole"}
    image = clients.ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"][0]
    one["ImageId"], one["BlockDeviceMappings"][0]["DeviceName"] = image["ImageId"], image["RootDeviceName"]
    subnet = clients.ec2.describe_subnets()["Subnets"][0]
    group = clients.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])
    one["NetworkInterfaces"] = [
        {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [group["SecurityGroups"][0]["GroupId"]]}
    ]
    return fleet
