"""Tests for `run.py check`: the findings for valid and faulty accounts, and the calls to AWS."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, InvalidConfigError, NoCredentialsError, ProxyConnectionError, SSLError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from distributed_something.account.bucket_key import build_key_policy
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
from distributed_something.diagnose.check.account import (
    judge_dead_letter_owner,
    judge_instance_profile,
    judge_queue_owner,
)
from distributed_something.diagnose.check.check import CHECKS, iter_findings, run_preflight_checks
from distributed_something.diagnose.check.container_image.http import HttpResponse, UnreachableRegistryError
from distributed_something.diagnose.check.cost import (
    MAX_TYPES_SHOWN,
    check_cost,
    compute_hourly_extras,
    judge_bid,
    judge_cost,
    judge_log_cost,
    judge_nat_cost,
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
from distributed_something.diagnose.check.job_queues import judge_dead_letter_queue, judge_job_queue
from distributed_something.diagnose.check.limits import (
    ON_DEMAND_QUOTA,
    SPOT_QUOTA,
    check_ecs_limits,
    check_large_run_limits,
    check_on_demand_quota,
    check_spot_quota,
    judge_machine_quotas,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts
from distributed_something.diagnose.check.machine_images import check_disks, judge_disks
from distributed_something.diagnose.check.machine_types import (
    check_machine_types,
    judge_machine_capacity,
    judge_type_offerings,
)
from distributed_something.diagnose.check.network import check_launch_template, check_subnets, judge_security_groups
from distributed_something.fleet.launch_specs import (
    LaunchSpecification,
    build_launch_specifications,
    build_launch_specs,
    list_requested_types,
)
from distributed_something.fleet.network import find_default_route_target
from distributed_something.observe.queue import QueueCounts
from distributed_something.worker import ForeignResponseError
from tests.support.account import Account, emulate_account
from tests.support.fakes import DEAD_URL, MISSING_QUEUE, QUEUE_URL, SETTINGS, build_client_error, build_queue_counts
from tests.support.offline import CONFIG, format_config, run_command, write_project

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
ACCOUNT = "111122223333"
ECR = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/tools/app:1"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FLEET_PATH = Path("files/fleet.json")
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


def build_trust_policy(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def build_role(name: str, service: str) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
    return {"RoleName": name, "RoleId": "AROAEXAMPLEEXAMPLE12", "Path": "/", "Arn": arn, "CreateDate": NOW,
            "AssumeRolePolicyDocument": build_trust_policy(service)}  # fmt: skip


def build_profile(roles: list[dict[str, Any]]) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT}:instance-profile/ecsInstanceRole"
    return {"Path": "/", "InstanceProfileName": "ecsInstanceRole", "InstanceProfileId": "AIPAEXAMPLEEXAMPLE12",
            "Arn": arn, "CreateDate": NOW, "Roles": roles}  # fmt: skip


def describe_machine_type(
    name: str = "m5.large", vcpus: int = 2, memory: int = 8192, arch: str = "x86_64"
) -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": vcpus},
        "MemoryInfo": {"SizeInMiB": memory},
        "ProcessorInfo": {"SupportedArchitectures": [arch]},
        "SupportedUsageClasses": ["on-demand", "spot"],
    }


def build_export_policy(region: str = "us-east-1") -> dict[str, Any]:
    principal = {"Service": f"logs.{region}.amazonaws.com"}
    bucket_arn = "arn:aws:s3:::app-bucket"
    reads = {"Effect": "Allow", "Principal": principal, "Action": "s3:GetBucketAcl", "Resource": bucket_arn}
    writes = {"Effect": "Allow", "Principal": principal, "Action": ["s3:PutObject"], "Resource": f"{bucket_arn}/*"}
    return {"Statement": [reads, writes]}


def respond_to_queue_url(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"QueueUrl": DEAD_URL if parameters["QueueName"] == "AppDead" else QUEUE_URL}


def respond_to_queue_attributes(parameters: dict[str, Any]) -> dict[str, Any]:
    if parameters["QueueUrl"] == DEAD_URL:
        return {"Attributes": build_queue_counts()}
    redrive_policy = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:AppDead"})
    return {"Attributes": build_queue_counts(1200, 3) | {"RedrivePolicy": redrive_policy}}


def allow_simulated_actions(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the response of IAM's policy simulator if the role may do everything."""
    resources = [{"EvalResourceName": arn, "EvalResourceDecision": "allowed"} for arn in parameters["ResourceArns"]]
    allowed = {"EvalDecision": "allowed", "MissingContextValues": [], "ResourceSpecificResults": resources}
    results = [{"EvalActionName": action} | allowed for action in parameters["ActionNames"]]
    return {"EvaluationResults": results, "IsTruncated": False}


WOULD_START = ClientError(
    {"Error": {"Code": "DryRunOperation", "Message": "Request would have succeeded, but DryRun flag is set."}},
    "RunInstances",
)
INDEX = {"manifests": [{"platform": {"architecture": "amd64"}}, {"platform": {"architecture": "unknown"}}]}
VALID_RESPONSES: dict[str, Any] = {
    "sts.GetCallerIdentity": {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ada", "UserId": "AIDA"},
    "s3.HeadBucket": {"BucketRegion": "us-east-1"},
    "s3.GetObject": ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject"),  # no run has been measured yet
    "s3.CreateMultipartUpload": {"UploadId": "upload-1"},
    "s3.AbortMultipartUpload": {},
    "s3.GetBucketEncryption": {"ServerSideEncryptionConfiguration": {"Rules": [
        {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]}},
    "s3.GetBucketPolicy": {"Policy": json.dumps(build_export_policy())},
    "iam.GetRole": {"Role": build_role("aws-ec2-spot-fleet-tagging-role", "spotfleet.amazonaws.com")},
    "iam.GetInstanceProfile": {"InstanceProfile": build_profile([build_role("ecsInstanceRole", "ec2.amazonaws.com")])},
    "iam.SimulatePrincipalPolicy": allow_simulated_actions,
    "ec2.RunInstances": WOULD_START,
    "ecr.BatchGetImage": {"images": [{"imageManifest": json.dumps(INDEX)}]},
    "sqs.GetQueueUrl": respond_to_queue_url,
    "sqs.GetQueueAttributes": respond_to_queue_attributes,
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
    "ec2.DescribeInstanceTypes": {"InstanceTypes": [describe_machine_type()]},
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


def build_settings(**constants: Any) -> Settings:
    return SETTINGS.model_copy(update={"MEMORY": 3700, "DOCKERHUB_TAG": ECR} | constants)


@pytest.fixture
def aws() -> Iterator[Account]:
    with emulate_account(copy.deepcopy(VALID_RESPONSES)) as prepared_account:
        yield prepared_account


def run_checks(aws: Account, fleet: dict[str, Any] | None = FLEET, **constants: Any) -> list[Finding]:
    return run_preflight_checks(
        aws.clients,
        build_settings(**constants),
        FLEET_PATH if fleet else None,
        copy.deepcopy(fleet),
        NOW,
        refuse_request,
    )


def refuse_request(url: str, _: Mapping[str, str]) -> HttpResponse:
    raise UnreachableRegistryError(f"{url} is not expected")


def list_problems(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not FindingLevel.OK]


def get_only_problem(findings: list[Finding], level: FindingLevel) -> Finding:
    """Return the only finding that is not ok, and check its level."""
    (finding,) = list_problems(findings)
    assert finding.level is level, finding
    assert finding.remedy
    return finding


def list_levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


# A valid account


def test_a_valid_account_gets_a_finding_for_every_topic_and_no_problems(aws: Account) -> None:
    findings = run_checks(aws)
    assert list_problems(findings) == []
    assert choose_exit_code(findings) == 0
    assert {finding.topic for finding in findings} >= {
        "account", "bucket", "fleet role", "profile", "image", "queue", "fleet file", "subnets", "groups", "key pair",
        "way to AWS", "AMI", "disk", "types", "room", "spot quota", "machine start",
        "role rights", "bid", "cost", "log export", "names",
    }  # fmt: skip


def test_findings_follow_the_order_in_which_a_run_needs_resources(aws: Account) -> None:
    topics = [topic for topic, _ in CHECKS]
    assert topics[:6] == ["config", "account", "bucket", "fleet role", "profile", "roles"]
    assert topics[6:9] == ["image", "queue", "fleet file"]
    actual_topics = list(dict.fromkeys(finding.topic for finding in run_checks(aws)))
    assert actual_topics[1:8] == ["account", "bucket", "fleet role", "profile", "image", "queue", "fleet file"]
    assert actual_topics[-7:] == [
        "spot quota", "machine start", "role rights", "bid", "cost", "log export", "names",
    ]  # fmt: skip


def test_a_constant_with_a_name_similar_to_a_known_one_is_a_warning(aws: Account) -> None:
    (finding,) = list_problems(run_checks(aws, own={"JOB_RETRY": "3", "MY_NAME": "x"}))
    assert (finding.level, finding.topic) == (FindingLevel.WARNING, "config")
    assert finding.message == "JOB_RETRY is not a known constant, but its name is similar to JOB_RETRIES"
    assert finding.details == {"constant": "JOB_RETRY", "similar": "JOB_RETRIES"}


def test_a_check_makes_39_calls_and_repeats_only_those_about_queues_and_roles(aws: Account) -> None:
    run_checks(aws)
    assert len(aws.calls) == 39
    repeated_calls = {call for call in aws.calls if aws.calls.count(call) > 1}
    assert repeated_calls == {
        "sqs.GetQueueUrl", "sqs.GetQueueAttributes", "sqs.ListQueueTags", "iam.SimulatePrincipalPolicy",
    }  # fmt: skip


def test_many_types_and_subnets_need_no_additional_calls(aws: Account) -> None:
    large_fleet = copy.deepcopy(FLEET)
    large_fleet["LaunchSpecifications"][0]["NetworkInterfaces"][0]["SubnetId"] = "subnet-1,subnet-2"
    run_checks(aws, large_fleet, MACHINE_TYPE=[f"m5.{n}xlarge" for n in range(60)])
    assert len(aws.calls) == 39


def test_calls_to_ec2_have_exactly_these_parameters(aws: Account) -> None:
    run_checks(aws)
    week = {"StartTime": NOW - timedelta(days=7), "EndTime": NOW}
    types = [{"Name": "instance-type", "Values": ["m5.large"]}]
    zones = [{"Name": "availability-zone", "Values": ["us-east-1a"]}]
    for call, expected in {
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
        assert aws.get_parameters(f"ec2.{call}") == expected


def test_calls_to_other_services_have_exactly_these_parameters(aws: Account) -> None:
    run_checks(aws)
    location = {"Bucket": "app-bucket", "Key": "runs/App/check"}
    assert aws.get_parameters("s3.HeadBucket") == {"Bucket": "app-bucket"}
    assert aws.get_parameters("s3.CreateMultipartUpload") == location
    assert aws.get_parameters("s3.AbortMultipartUpload") == location | {"UploadId": "upload-1"}
    assert aws.get_parameters("iam.GetRole") == {"RoleName": "aws-ec2-spot-fleet-tagging-role"}
    assert aws.get_parameters("iam.GetInstanceProfile") == {"InstanceProfileName": "ecsInstanceRole"}
    assert aws.get_parameters("service-quotas.GetServiceQuota") == {"ServiceCode": "ec2", "QuotaCode": "L-34B43A08"}
    parameters = aws.get_parameters("ecr.BatchGetImage")
    assert (parameters["registryId"], parameters["repositoryName"], parameters["imageIds"]) == (
        ACCOUNT, "tools/app", [{"imageTag": "1"}]
    )  # fmt: skip
    expected = {"cluster": "app-cluster", "services": ["AppService"], "include": ["TAGS"]}
    assert aws.get_parameters("ecs.DescribeServices") == expected


def test_a_check_creates_nothing_except_an_upload_that_it_aborts(aws: Account) -> None:
    run_checks(aws)
    reading = ("Get", "Describe", "List", "Head", "BatchGet", "Simulate")
    assert aws.get_parameters("ec2.RunInstances")["DryRun"] is True
    assert [call for call in aws.calls if not call.partition(".")[2].startswith(reading)] == [
        "s3.CreateMultipartUpload", "s3.AbortMultipartUpload", "ec2.RunInstances",
    ]  # fmt: skip


def test_without_a_fleet_file_the_config_is_still_checked(aws: Account) -> None:
    findings = run_checks(aws, None)
    assert list_problems(findings) == []
    assert any(finding.topic == "fleet file" and "none given" in finding.message for finding in findings)
    assert {"types", "room", "spot quota", "bid", "cost"} <= {finding.topic for finding in findings}
    assert "iam.GetRole" not in aws.calls


# Faulty accounts: each gets a finding with a remedy


def test_missing_credentials_are_reported_and_stop_all_further_calls(aws: Account) -> None:
    aws.responses["sts.GetCallerIdentity"] = NoCredentialsError()
    findings = run_checks(aws)
    assert (findings[1].topic, findings[1].level) == ("account", FindingLevel.WRONG)
    assert "AWS_PROFILE" in findings[1].remedy
    assert aws.calls == ["sts.GetCallerIdentity"]
    assert (findings[-1].topic, findings[-1].level) == ("not checked", FindingLevel.WARNING)
    assert "bucket" in findings[-1].message
    assert "cost" in findings[-1].message
    # The Fleet file is checked without a login.
    assert [finding.level for finding in findings if finding.topic == "fleet file"] == [FindingLevel.OK]


def test_an_expired_login_is_reported_with_a_way_to_log_in_again(aws: Account) -> None:
    aws.refuse_call("sts.GetCallerIdentity", "ExpiredToken", "it ended — at noon")
    finding = run_checks(aws)[1]
    assert finding.message == "ExpiredToken: it ended — at noon"
    assert finding.remedy == "log in again (for SSO: aws sso login)"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SSLError(endpoint_url="https://sts", error="self-signed certificate"), "set AWS_CA_BUNDLE"),
        (ProxyConnectionError(proxy_url="http://proxy", error="407"), "correct HTTPS_PROXY"),
        (InvalidConfigError(error_msg="The source profile lab is missing"), "correct your profile in ~/.aws/config"),
        (ForeignResponseError(operation="GetCallerIdentity", problem="is an HTML page"), "something other than AWS"),
        (build_client_error("RequestTimeTooSkewed"), "set this computer's clock"),
    ],
)
def test_what_makes_every_call_fail_is_wrong_with_its_own_advice_and_nothing_contradicts_it(
    aws: Account, error: Exception, advice: str
) -> None:
    aws.responses["sts.GetCallerIdentity"] = error
    findings = run_checks(aws)
    assert findings[1].level is FindingLevel.WRONG
    assert advice in findings[1].remedy
    assert aws.calls == ["sts.GetCallerIdentity"]
    assert "log in" not in " ".join(finding.remedy for finding in findings if finding is not findings[1])
    assert choose_exit_code(findings) == 1


def test_a_bucket_behind_a_redirect_is_wrong_and_names_its_region(aws: Account) -> None:
    redirect = {
        "Error": {"Code": "301", "Message": "Moved"},
        "ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}},
    }
    aws.responses["s3.HeadBucket"] = ClientError(redirect, "HeadBucket")
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert finding.remedy == "the bucket is in eu-west-1: set AWS_REGION = 'eu-west-1' in the config"


@pytest.mark.parametrize("name", ["fleet.json", "my: fleet; the second.json"])
def test_an_error_in_the_fleet_file_is_reported_with_its_key_for_any_file_name(aws: Account, name: str) -> None:
    faulty_fleet = copy.deepcopy(FLEET) | {"AllocationStrategy": "cheapest; first"}
    findings = run_preflight_checks(aws.clients, build_settings(), Path(name), faulty_fleet, NOW)
    (finding,) = [finding for finding in findings if finding.topic == "fleet file"]
    assert finding.message == "AllocationStrategy: AWS does not accept 'cheapest; first'"
    assert finding.remedy.startswith("write one of lowestPrice, ")
    assert finding.is_user_error


def test_every_error_in_the_fleet_file_gets_a_finding(aws: Account) -> None:
    faulty_fleet = copy.deepcopy(FLEET) | {"AllocationStrategy": "cheapest", "Color": "red"}
    findings = run_preflight_checks(aws.clients, build_settings(), Path("fleet.json"), faulty_fleet, NOW)
    messages = [finding.message for finding in findings if finding.topic == "fleet file"]
    assert messages == ["Color: AWS does not recognize this key", "AllocationStrategy: AWS does not accept 'cheapest'"]


def test_a_missing_instance_profile_is_reported_as_wrong(aws: Account) -> None:
    aws.refuse_call("iam.GetInstanceProfile", "NoSuchEntity")
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert finding.message.startswith("there is no instance profile ecsInstanceRole")
    assert "setupAWS" in finding.remedy


def test_an_instance_profile_without_a_role_is_reported_as_wrong(aws: Account) -> None:
    aws.change_response("iam.GetInstanceProfile", InstanceProfile=build_profile([]))
    assert "contains no role" in get_only_problem(run_checks(aws), FindingLevel.WRONG).message


def test_a_role_that_ec2_may_not_assume_is_reported_as_wrong(aws: Account) -> None:
    aws.change_response(
        "iam.GetInstanceProfile", InstanceProfile=build_profile([build_role("ecsInstanceRole", "ecs.amazonaws.com")])
    )
    assert "ec2.amazonaws.com may not assume the role" in get_only_problem(run_checks(aws), FindingLevel.WRONG).message


def test_roles_that_setup_aws_creates_in_china_pass_the_checks() -> None:
    aws_account = AwsAccount(ACCOUNT, "cn-north-1", "aws-cn")
    machine_role = next(
        role for role in build_roles(aws_account, Buckets("app-bucket")) if role.name == "ecsInstanceRole"
    )
    findings = judge_instance_profile(
        machine_role.name, build_profile([build_role(machine_role.name, machine_role.service)])
    )
    assert [finding.level for finding in findings] == [FindingLevel.OK]


def test_a_fleet_file_from_another_account_is_reported(aws: Account) -> None:
    aws.change_response("sts.GetCallerIdentity", Account="999900001111")
    findings = list_problems(run_checks(aws))
    assert [finding.message for finding in findings] == [
        f"IamFleetRole belongs to account {ACCOUNT}, but you are logged in to 999900001111",
        f"IamInstanceProfile belongs to account {ACCOUNT}, but you are logged in to 999900001111",
    ]


def test_a_spot_quota_of_zero_is_reported_as_wrong(aws: Account) -> None:
    aws.change_response("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert "no spot machine can start" in finding.message
    assert "L-34B43A08" in finding.remedy
    assert choose_exit_code([finding]) == 1  # a problem with the account, not a user error


def test_a_spot_quota_for_some_of_the_machines_gets_a_warning(aws: Account) -> None:
    aws.change_response("service-quotas.GetServiceQuota", Quota={"Value": 5.0})
    assert "enough for 2 of 3 machines" in get_only_problem(run_checks(aws), FindingLevel.WARNING).message


def test_an_unknown_subnet_is_reported_as_wrong(aws: Account) -> None:
    aws.change_response("ec2.DescribeSubnets", Subnets=[])
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert (finding.topic, finding.message) == (
        "subnets",
        "not in this region, or neither this account's nor shared with it: subnet-1",
    )
    assert "fleetFile" in finding.remedy
    assert choose_exit_code([finding]) == 2


def test_an_image_that_is_not_in_ecr_is_reported_as_wrong(aws: Account) -> None:
    failure = {"imageId": {"imageTag": "1"}, "failureCode": "ImageNotFound", "failureReason": "not found"}
    aws.responses["ecr.BatchGetImage"] = {"images": [], "failures": [failure]}
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert (finding.topic, finding.message) == ("image", f"{ECR} is not in ECR")
    assert "make push" in finding.remedy


def test_an_image_of_the_published_system_is_reported_with_the_command_that_builds_this_one(aws: Account) -> None:
    image = "cellprofiler/distributed-cellprofiler:2.0.0_4.2.4"
    finding = get_only_problem(run_checks(aws, DOCKERHUB_TAG=image), FindingLevel.WRONG)
    assert finding.message.startswith(f"{image} contains the published system's worker")
    assert "make push base=cellprofiler/cellprofiler:4.2.4" in finding.remedy
    assert choose_exit_code([finding]) == 2


def test_a_repository_that_is_not_in_ecr_is_reported_as_wrong(aws: Account) -> None:
    aws.refuse_call("ecr.BatchGetImage", "RepositoryNotFoundException")
    assert get_only_problem(run_checks(aws), FindingLevel.WRONG).topic == "image"


def test_a_container_image_for_other_processors_is_reported_as_wrong(aws: Account) -> None:
    arm = {"manifests": [{"platform": {"architecture": "arm64"}}]}
    aws.responses["ecr.BatchGetImage"] = {"images": [{"imageManifest": json.dumps(arm)}]}
    assert "is for arm64, which m5.large cannot run" in get_only_problem(run_checks(aws), FindingLevel.WRONG).message


def test_a_machine_image_for_other_processors_is_reported_as_wrong(aws: Account) -> None:
    aws.responses["ec2.DescribeImages"]["Images"][0]["Architecture"] = "arm64"
    assert get_only_problem(run_checks(aws), FindingLevel.WRONG).message == "ami-1 is for arm64, but m5.large is x86_64"


def test_an_unknown_machine_image_is_reported_as_wrong(aws: Account) -> None:
    aws.change_response("ec2.DescribeImages", Images=[])
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert finding.message == "ami-1 is not in this region, or this account may not use it"


def test_a_type_that_is_not_offered_as_a_spot_machine_is_reported_as_wrong(aws: Account) -> None:
    aws.responses["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]["SupportedUsageClasses"] = ["on-demand"]
    assert (
        get_only_problem(run_checks(aws), FindingLevel.WRONG).message == "AWS does not offer m5.large as a spot machine"
    )


def test_an_unsupported_machine_image_gets_a_warning(aws: Account) -> None:
    aws.responses["ec2.DescribeImages"]["Images"][0]["Name"] = "amzn2-ami-ecs-hvm-2.0.20230906-x86_64-ebs"
    assert "no longer supported" in get_only_problem(run_checks(aws), FindingLevel.WARNING).message


@pytest.mark.parametrize(
    ("created", "level"), [("2019-11-18T23:59:59.000Z", FindingLevel.WRONG), ("2020-02-01", None), ("", None)]
)
def test_a_machine_image_older_than_imdsv2_is_reported_as_wrong(
    aws: Account, created: str, level: FindingLevel | None
) -> None:
    aws.responses["ec2.DescribeImages"]["Images"][0]["CreationDate"] = created
    assert [finding.level for finding in list_problems(run_checks(aws))] == ([level] if level else [])


def test_an_unknown_machine_type_is_reported(aws: Account) -> None:
    aws.responses["ec2.DescribeInstanceTypes"] = {"InstanceTypes": []}
    findings = list_problems(run_checks(aws))
    assert "no such machine type in this region: m5.large" in [finding.message for finding in findings]
    assert choose_exit_code(findings) == 2


def test_a_missing_bucket_is_reported_as_wrong_and_gets_no_test_upload(aws: Account) -> None:
    aws.refuse_call("s3.HeadBucket", "404", "Not Found")
    finding = get_only_problem(run_checks(aws), FindingLevel.WRONG)
    assert finding.message == "there is no bucket app-bucket"
    assert "s3.CreateMultipartUpload" not in aws.calls


def test_a_bucket_in_another_region_gets_a_warning_about_costs(aws: Account) -> None:
    aws.responses["s3.HeadBucket"] = {"BucketRegion": "eu-west-1"}
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert "AWS charges for every transfer" in finding.message
    assert "eu-west-1" in finding.remedy


def test_a_read_only_bucket_is_reported_as_wrong(aws: Account) -> None:
    aws.refuse_call("s3.CreateMultipartUpload", "AccessDenied", "Access Denied")
    assert get_only_problem(run_checks(aws), FindingLevel.WRONG).message == "you cannot write to it: needs s3:PutObject"


def test_the_remedy_for_missing_queues_is_setup(aws: Account) -> None:
    aws.refuse_call("sqs.GetQueueUrl", MISSING_QUEUE)
    findings = list_problems(run_checks(aws))
    assert list_levels(findings) == ["wrong", "wrong"]
    assert {finding.remedy for finding in findings} == {"run setup first"}


def test_the_remedy_for_a_key_file_name_is_the_name_of_the_key_pair(aws: Account) -> None:
    aws.change_response("ec2.DescribeKeyPairs", KeyPairs=[])
    fleet = copy.deepcopy(FLEET)
    fleet["LaunchSpecifications"][0]["KeyName"] = "my-key.pem"
    assert get_only_problem(run_checks(aws, fleet), FindingLevel.WRONG).remedy == "write 'my-key'"


def test_a_subnet_without_an_internet_route_gets_a_warning(aws: Account) -> None:
    aws.responses["ec2.DescribeRouteTables"]["RouteTables"][0]["Routes"] = []
    assert "no route to the internet from subnet-1" in get_only_problem(run_checks(aws), FindingLevel.WARNING).message


def test_machines_without_public_addresses_in_a_public_subnet_get_a_warning(aws: Account) -> None:
    assert "ASSIGN_IP" in get_only_problem(run_checks(aws, ASSIGN_IP=False), FindingLevel.WARNING).remedy


def test_resources_of_another_app_are_reported(aws: Account) -> None:
    other_tags = [{"key": "app", "value": "OtherApp"}]
    aws.responses["sqs.ListQueueTags"] = {"Tags": {"app": "OtherApp"}}
    aws.responses["ecs.DescribeClusters"]["clusters"][0]["tags"] = other_tags
    aws.responses["ecs.DescribeServices"]["services"][0]["tags"] = other_tags
    findings = list_problems(run_checks(aws))
    assert list_levels(findings) == ["wrong", "warning", "wrong"]
    assert all(finding.topic == "names" and "the app OtherApp" in finding.message for finding in findings)


def test_a_queue_without_the_app_tag_gets_a_warning(aws: Account) -> None:
    aws.responses["sqs.ListQueueTags"] = {}
    findings = list_problems(run_checks(aws))
    assert list_levels(findings) == ["warning", "warning"]
    assert all("has no `app` tag" in finding.message and "run setup" in finding.remedy for finding in findings)


def test_a_service_without_the_app_tag_must_be_deleted_first(aws: Account) -> None:
    """setup does not tag the service: permission to tag it would cover all services with that name suffix."""
    aws.responses["ecs.DescribeServices"]["services"][0]["tags"] = []
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert "the service AppService has no `app` tag" in finding.message
    assert "aws ecs delete-service --force" in finding.remedy


def test_a_run_in_progress_gets_a_warning(aws: Account) -> None:
    aws.responses["ecs.DescribeServices"]["services"][0]["desiredCount"] = 6
    assert "a run of App is in progress" in get_only_problem(run_checks(aws), FindingLevel.WARNING).message


@pytest.mark.parametrize("policy", [None, {}, build_export_policy("eu-west-1")])
def test_a_bucket_policy_that_does_not_allow_log_export_gets_a_warning(
    aws: Account, policy: dict[str, Any] | None
) -> None:
    if policy is None:
        aws.refuse_call("s3.GetBucketPolicy", "NoSuchBucketPolicy")
    else:
        aws.responses["s3.GetBucketPolicy"] = {"Policy": json.dumps(policy)}
    assert get_only_problem(run_checks(aws), FindingLevel.WARNING).topic == "log export"


@pytest.mark.parametrize("code", ["AccessDenied", "MethodNotAllowed"])
def test_a_bucket_policy_that_s3_hides_gets_a_warning_that_names_the_permission(aws: Account, code: str) -> None:
    """S3 says that there is no policy only to users who may read it; another account's bucket refuses the method."""
    aws.refuse_call("s3.GetBucketPolicy", code)
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert (finding.topic, finding.details) == ("log export", {"right": "s3:GetBucketPolicy"})
    assert "cannot tell whether the bucket has a policy" in finding.message


def encrypt_bucket(aws: Account, key: str | None, algorithm: str = "aws:kms") -> None:
    default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
    rules = [{"ApplyServerSideEncryptionByDefault": default}]
    aws.responses["s3.GetBucketEncryption"] = {"ServerSideEncryptionConfiguration": {"Rules": rules}}


def allow_key(aws: Account, arn: str, *, write: bool = True) -> None:
    aws.responses["iam.GetRolePolicy"] = lambda request: {
        **request, "PolicyDocument": json.dumps(build_key_policy(arn, write=write))
    }  # fmt: skip


@pytest.mark.parametrize("key", [None, "alias/aws/s3"])
def test_a_bucket_with_a_key_that_aws_manages_needs_no_permission(aws: Account, key: str | None) -> None:
    encrypt_bucket(aws, key)
    assert list_problems(run_checks(aws)) == []


@pytest.mark.parametrize("algorithm", ["aws:kms", "aws:kms:dsse"])
@pytest.mark.parametrize("key", [KEY, KEY.split("/")[1], "alias/lab", "arn:aws:kms:us-east-1:111122223333:alias/lab"])
def test_the_containers_role_must_have_the_permission_for_a_customer_key(
    aws: Account, key: str, algorithm: str
) -> None:
    encrypt_bucket(aws, key, algorithm)
    aws.responses["kms.DescribeKey"] = {"KeyMetadata": {"KeyId": "1", "Arn": KEY}}
    aws.refuse_call("iam.GetRolePolicy", "NoSuchEntity")
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert f"app-bucket is encrypted with {KEY}" in finding.message
    assert finding.remedy.startswith("run setupAWS")
    allow_key(aws, KEY)
    assert list_problems(run_checks(aws)) == []
    allow_key(aws, KEY, write=False)
    assert len(list_problems(run_checks(aws))) == 1
    allow_key(aws, KEY.replace("key/", "key/2"))
    assert len(list_problems(run_checks(aws))) == 1


def test_a_bucket_that_jobs_only_read_needs_only_decrypt(aws: Account) -> None:
    encrypted = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}]}
    aws.responses["s3.GetBucketEncryption"] = lambda request: {
        "ServerSideEncryptionConfiguration": encrypted if request["Bucket"] == "source" else {"Rules": []}
    }
    allow_key(aws, KEY, write=False)
    findings = run_checks(aws, own={"SOURCE_BUCKET": "source"})
    assert list_problems(findings) == []
    assert any("containers may use the key of source" in finding.message for finding in findings)


def test_a_key_of_another_account_must_be_allowed_by_its_owner_too(aws: Account) -> None:
    arn = KEY.replace(ACCOUNT, "444455556666")
    encrypt_bucket(aws, arn)
    allow_key(aws, arn)
    findings = run_checks(aws)
    assert any("if account 444455556666 allows it in the key policy too" in finding.message for finding in findings)


def test_an_alias_that_cannot_be_looked_up_gets_a_warning(aws: Account) -> None:
    encrypt_bucket(aws, "alias/lab")
    aws.refuse_call("kms.DescribeKey")
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert finding.details == {"right": "kms:DescribeKey"}


def test_a_placeholder_in_the_fleet_file_counts_as_a_user_error(aws: Account) -> None:
    fleet = copy.deepcopy(FLEET)
    fleet["LaunchSpecifications"][0]["ImageId"] = "ami-FILL_IN"
    findings = run_checks(aws, fleet)
    finding = get_only_problem(findings, FindingLevel.WRONG)
    assert finding.message == "LaunchSpecifications[0].ImageId: 'ami-FILL_IN' is a placeholder"
    assert choose_exit_code(findings) == 2
    assert "ec2.DescribeImages" not in aws.calls
    assert "ec2.DescribeInstanceTypes" in aws.calls  # the values in the config are still checked


# Permissions

PERMISSIONS = {
    "sts.GetCallerIdentity": "sts:GetCallerIdentity",
    "s3.HeadBucket": "s3:ListBucket",
    "s3.AbortMultipartUpload": "s3:AbortMultipartUpload",
    "s3.GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3.GetBucketPolicy": "s3:GetBucketPolicy",
    "s3.GetObject": "s3:GetObject",
    "iam.GetRole": "iam:GetRole",
    "iam.GetInstanceProfile": "iam:GetInstanceProfile",
    "ecr.BatchGetImage": "ecr:BatchGetImage",
    "sqs.GetQueueUrl": "sqs:GetQueueUrl",
    "sqs.GetQueueAttributes": "sqs:GetQueueAttributes",
    "sqs.ListQueueTags": "sqs:ListQueueTags",
    "service-quotas.GetServiceQuota": "servicequotas:GetServiceQuota",
    "ecs.DescribeClusters": "ecs:DescribeClusters",
    "ecs.DescribeServices": "ecs:DescribeServices",
    **{call: call.replace(".", ":") for call in VALID_RESPONSES if call.startswith("ec2.")},
}


@pytest.mark.parametrize("call", sorted(PERMISSIONS))
def test_a_missing_permission_is_reported_and_does_not_stop_other_checks(aws: Account, call: str) -> None:
    all_topics = {finding.topic for finding in run_checks(aws)}
    code = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}.get(call.partition(".")[0], "AccessDeniedException")
    aws.refuse_call(
        call, "403" if call == "s3.HeadBucket" else code, "You are not authorized to perform this operation."
    )
    findings = run_checks(aws)
    permission_findings = [finding for finding in findings if f"needs {PERMISSIONS[call]}" in finding.message]
    assert permission_findings
    expected_levels = {FindingLevel.WRONG} if call == "s3.AbortMultipartUpload" else {FindingLevel.WARNING}
    assert {finding.level for finding in list_problems(findings)} == expected_levels
    assert all_topics <= {finding.topic for finding in findings}


def test_the_permission_is_taken_from_the_aws_message(aws: Account) -> None:
    aws_message = "User: arn:aws:iam::1:user/ada is not authorized to perform: s3:ListBucket on resource: x"
    aws.refuse_call("s3.HeadBucket", "AccessDenied", aws_message)
    assert any("needs s3:ListBucket" in finding.message for finding in run_checks(aws))


def test_any_other_error_gets_a_warning_with_the_code_and_message_from_aws(aws: Account) -> None:
    aws.refuse_call("service-quotas.GetServiceQuota", "ServiceException", "try later")
    assert (
        get_only_problem(run_checks(aws), FindingLevel.WARNING).message
        == "could not be looked up: ServiceException: try later"
    )


# Image names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("user/project:tag", ContainerImageReference("", "user/project", "tag", "")),
        ("python", ContainerImageReference("", "python", "", "")),
        ("localhost:5000/a/b", ContainerImageReference("localhost:5000", "a/b", "", "")),
        ("ghcr.io/a/b:1.0", ContainerImageReference("ghcr.io", "a/b", "1.0", "")),
        (ECR, ContainerImageReference(f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "tools/app", "1", "")),
        (f"a/b@sha256:{'0' * 64}", ContainerImageReference("", "a/b", "", f"sha256:{'0' * 64}")),
    ],
)
def test_an_image_name_is_split_into_its_parts(name: str, parts: ContainerImageReference) -> None:
    assert parse_image_reference(name) == parts


@pytest.mark.parametrize(
    "name", ["User/Project:1", "a//b", "a/b:", "a/b:t ag", "a/b@sha256:12", "-a", "a/b:" + "x" * 129]
)
def test_an_invalid_image_name_is_reported_as_wrong(aws: Account, name: str) -> None:
    if name == "a/b:":
        assert parse_image_reference(name) == ContainerImageReference("", "a/b", "", "")
        return
    assert parse_image_reference(name) is None
    assert get_only_problem(run_checks(aws, DOCKERHUB_TAG=name), FindingLevel.WRONG).topic == "image"


@given(st.text(max_size=60))
def test_parsing_an_image_name_never_raises(name: str) -> None:
    parse_image_reference(name)


def test_without_access_to_registries_no_image_is_looked_up(aws: Account) -> None:
    for name in (ECR, "user/project:tag"):
        findings = run_preflight_checks(aws.clients, build_settings(DOCKERHUB_TAG=name), None, None, NOW)
        assert list_problems(findings) == []
        assert any(finding.message == f"{name} is a valid name (the image was not looked up)" for finding in findings)
    assert "ecr.BatchGetImage" not in aws.calls


def test_an_image_in_another_region_gets_a_warning_about_transfer_costs(aws: Account) -> None:
    assert (
        "you pay for the transfer to each machine"
        in get_only_problem(
            run_checks(aws, DOCKERHUB_TAG=ECR.replace("us-east-1", "eu-west-1")), FindingLevel.WARNING
        ).message
    )


# Queues


@pytest.mark.parametrize(
    ("waiting", "running", "level"),
    [(0, 0, "warning"), (4, 0, "warning"), (5, 0, "ok"), (0, 5, "ok"), (1000, 0, "ok")],
)
def test_a_queue_with_too_few_jobs_for_all_machines_gets_a_warning(waiting: int, running: int, level: str) -> None:
    queue = QueueFacts(QueueCounts(waiting, running), {}, "AppDead")
    assert list_levels(judge_job_queue("AppQueue", queue, machines=3, slots=2)) == [level]


@pytest.mark.parametrize("tags", [{}, {"app": "App"}])
def test_failed_jobs_from_earlier_runs_are_mentioned(tags: dict[str, str]) -> None:
    (finding,) = judge_dead_letter_queue("AppDead", QueueFacts(QueueCounts(21, 0), tags, ""), "App")
    assert finding.message.startswith("21 messages of failed jobs of earlier runs in AppDead; they are not counted")
    assert (finding.level, finding.details) == (FindingLevel.OK, {"dead": 21})


@pytest.mark.parametrize("owner", ["shared", "Other"])
def test_nothing_is_said_about_the_jobs_in_a_dead_letter_queue_that_others_use(owner: str) -> None:
    assert list(judge_dead_letter_queue("AppDead", QueueFacts(QueueCounts(21, 0), {"app": owner}, ""), "App")) == []


@pytest.mark.parametrize(
    ("owner", "sharing"), [("shared", "several apps share it"), ("Other", "it belongs to the app Other")]
)
def test_a_dead_letter_queue_that_others_use_is_accepted(owner: str, sharing: str) -> None:
    (finding,) = judge_dead_letter_owner("AppDead", QueueFacts(QueueCounts(0, 0), {"app": owner}, ""), "App")
    assert finding.level is FindingLevel.OK
    assert finding.message == f"the dead-letter queue AppDead is not only yours ({sharing}); cleanup keeps it"


def test_a_job_queue_cannot_be_the_dead_letter_queue() -> None:
    queue = QueueFacts(QueueCounts(0, 0), {"app": "Other"}, "OtherDead")
    (finding,) = judge_dead_letter_owner("OtherQueue", queue, "App")
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert finding.message == "the queue OtherQueue is a job queue: it has a dead-letter queue itself, OtherDead"


def test_a_shared_dead_letter_queue_cannot_be_the_job_queue() -> None:
    (finding,) = judge_queue_owner("Dead", QueueFacts(QueueCounts(0, 0), {"app": "shared"}, ""), "App")
    assert (finding.level, finding.remedy) == (FindingLevel.WRONG, "choose another SQS_QUEUE_NAME")


def test_a_queue_with_another_dead_letter_queue_is_reported(aws: Account) -> None:
    (finding,) = [
        finding
        for finding in list_problems(run_checks(aws, SQS_DEAD_LETTER_QUEUE="Other"))
        if finding.remedy.startswith("run setup")
    ]
    assert finding.message == "failed jobs should go to Other, but they go to AppDead"


# Room for containers on a machine


@pytest.mark.parametrize(
    ("tasks", "cpu", "memory", "expected_levels"),
    [
        (2, 1024, 3700, []),
        (1, 2048, 8000, ["wrong"]),  # only 7536 of 8192 MiB are usable; the ECS agent needs the others
        (3, 1024, 2000, ["wrong"]),  # needs 3072 CPU units; the machine has 2048
        (1, 1024, 3000, ["warning"]),  # two would fit, so ECS may fill some machines and leave others idle
        (1, 2048, 3000, ["ok"]),  # enough unused memory for another container
        (2, 600, 3700, ["ok"]),  # enough unused CPU for another container
    ],
)
def test_the_number_of_containers_that_fit_decides_the_level(
    tasks: int, cpu: int, memory: int, expected_levels: list[str]
) -> None:
    settings = build_settings(TASKS_PER_MACHINE=tasks, CPU_SHARES=cpu, MEMORY=memory)
    findings = [
        finding
        for finding in judge_machine_capacity(settings, {"m5.large": M5})
        if "fit on every machine type" not in finding.message
    ]
    assert list_levels(findings) == expected_levels
    assert all(finding.remedy for finding in findings)


def test_memory_that_fits_on_no_machine_is_reported_as_wrong_with_the_maximum() -> None:
    (finding,) = judge_machine_capacity(build_settings(MEMORY=4000), {"m5.large": M5, "m5.small": M5_SMALL})
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert finding.message == "MEMORY: 2 x 4000 MiB does not fit on any machine (largest: 8192 MiB)"
    assert finding.remedy == "set MEMORY to at most 3768, or lower TASKS_PER_MACHINE"


def test_cpu_that_fits_on_no_machine_is_reported_as_wrong_with_the_maximum() -> None:
    (finding,) = judge_machine_capacity(build_settings(TASKS_PER_MACHINE=1, CPU_SHARES=4096), {"m5.large": M5})
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert finding.message == "CPU_SHARES: 1 x 4096 does not fit on any machine (largest: 2048)"
    assert finding.remedy == "set CPU_SHARES to at most 2048, or lower TASKS_PER_MACHINE"


def test_memory_and_cpu_that_no_single_machine_offers_are_reported_as_wrong() -> None:
    fast_type = MachineType("c5.xlarge", 4, 4096, frozenset({"x86_64"}))
    large_memory_type = MachineType("r5.large", 1, 16384, frozenset({"x86_64"}))
    (finding,) = judge_machine_capacity(
        build_settings(MEMORY=3700, CPU_SHARES=2048), {"c5.xlarge": fast_type, "r5.large": large_memory_type}
    )
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert (
        finding.message
        == "c5.xlarge holds 1 of 2, r5.large holds 0 of 2 containers (CPU for 0 to 2, memory for 1 to 4)"
    )


def test_start_cluster_exits_with_2_and_creates_nothing_if_memory_fits_on_no_machine(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    names = {"APP_NAME": "App", "AWS_BUCKET": "app-bucket", "ECS_CLUSTER": "app-cluster", "SQS_QUEUE_NAME": "AppQueue",
             "SQS_DEAD_LETTER_QUEUE": "AppDead", "DOCKERHUB_TAG": ECR}  # fmt: skip
    (project / "config.py").write_text(format_config(CONFIG | names | {"MEMORY": 8000}))
    (project / "files" / "fleet.json").write_text(json.dumps(FLEET))
    with emulate_account(copy.deepcopy(VALID_RESPONSES)) as aws:
        outcome = run_command("--project", str(project), "startCluster", str(project / "files" / "fleet.json"))
    assert outcome.code == 2
    assert "MEMORY: 1 x 8000 MiB does not fit on any machine (largest: 8192 MiB)" in " ".join(outcome.err.split())
    assert "set MEMORY to at most 7536" in outcome.err
    assert "1 wrong, 0 warnings" in outcome.err
    assert not [call for call in aws.calls if call.startswith(("ec2.Create", "ec2.Request", "ecs."))
                and not call.startswith("ecs.Describe")]  # fmt: skip


def test_100_machine_types_are_looked_up_per_call(aws: Account) -> None:
    run_checks(aws, None, MACHINE_TYPE=[f"m5.{number}xlarge" for number in range(101)])
    calls = [parameters for call, parameters in aws.requests if call == "ec2.DescribeInstanceTypes"]
    assert [len(parameters["Filters"][0]["Values"]) for parameters in calls] == [100, 1]


def test_a_type_that_is_too_small_gets_a_warning_if_another_type_is_large_enough() -> None:
    findings = list(judge_machine_capacity(build_settings(), {"m5.large": M5, "m5.small": M5_SMALL}))
    assert list_levels(findings) == ["warning"]
    assert findings[0].message == "m5.small holds 1 of 2 containers (CPU for 1, memory for 1)"


@given(
    st.integers(1, 448), st.integers(512, 24_000_000), st.integers(2, 458_752), st.integers(6, 25_000_000),
    st.integers(1, 100),
)  # fmt: skip
def test_the_computed_number_of_containers_is_the_largest_that_fits(
    vcpus: int, memory_mib: int, cpu: int, memory: int, tasks: int
) -> None:
    machine = MachineType("x.y", vcpus, memory_mib, frozenset())
    count = compute_container_fit(machine, cpu, memory).containers
    usable_cpu, usable_memory = compute_usable_capacity(machine)
    assert count * cpu <= usable_cpu
    assert count * memory <= usable_memory
    assert (count + 1) * cpu > usable_cpu or (count + 1) * memory > usable_memory
    wrong = "wrong" in list_levels(
        judge_machine_capacity(build_settings(TASKS_PER_MACHINE=tasks, CPU_SHARES=cpu, MEMORY=memory), {"x.y": machine})
    )
    assert wrong == (count < tasks)


# Disks


def build_image(*devices: tuple[str, int]) -> dict[str, Any]:
    mappings = [{"DeviceName": name, "Ebs": {"VolumeSize": size}} for name, size in devices]
    return {"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": mappings}


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((("/dev/xvda", 30, None),), ["ok"]),
        ((("/dev/xvda", 22, None),), ["wrong"]),  # smaller than its snapshot
        (
            (("/dev/xvda", None, None), ("/dev/xvdcz", 30, None)),
            ["warning"],
        ),  # the second disk exists only on Amazon Linux 1
        ((("/dev/xvdcz", 30, None),), ["warning", "warning"]),
        ((("/dev/xvda", 30, "snap-image"),), ["ok"]),  # DescribeSnapshots does not return Amazon's snapshots
        ((("/dev/xvda", 22, "snap-image"),), ["wrong"]),
        ((("/dev/xvda", 40, "snap-mine"),), ["ok"]),
        ((("/dev/xvda", 39, "snap-mine"),), ["wrong"]),
        ((("/dev/xvda", 30, "snap-unseen"),), ["warning"]),
        ((("/dev/xvda", 30, "snap-image"), ("/dev/xvdcz", 30, "snap-unseen")), ["warning"]),
        ((), ["ok"]),
    ],
)
def test_disks_are_compared_with_the_machine_image(volumes: Any, expected: list[str]) -> None:
    specification = LaunchSpecification("m5.large", image="ami-1", volumes=volumes)
    image = build_image(("/dev/xvda", 30))
    image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] = "snap-image"
    snapshots = {"snap-mine": {"VolumeSize": 40}}
    findings = list(judge_disks([specification, specification], {"ami-1": image}, snapshots))
    assert list_levels(findings) == expected


def test_the_remedy_for_a_small_disk_names_the_setting_for_its_size() -> None:
    """EBS_VOL_SIZE sets the size of the last disk, as in the published system; the Fleet file sets the others."""
    image = {"ami-1": build_image(("/dev/xvda", 30), ("/dev/xvdcz", 22))}
    both = LaunchSpecification("m5.large", image="ami-1", volumes=(("/dev/xvda", 8, None), ("/dev/xvdcz", 10, None)))
    first, last = judge_disks([both], image, {})
    assert first.remedy == "raise its VolumeSize in the Fleet file to 30, or remove VolumeSize"
    assert last.remedy == "set EBS_VOL_SIZE to at least 22"


# The network


def build_route_table(target: dict[str, str], subnet: str | None = None, state: str = "active") -> dict[str, Any]:
    link = {"SubnetId": subnet} if subnet else {"Main": True}
    route = {"DestinationCidrBlock": "0.0.0.0/0", "State": state, **target}
    return {"VpcId": "vpc-1", "Associations": [link], "Routes": [{"DestinationCidrBlock": "10.0.0.0/8"}, route]}


IGW, NAT = {"GatewayId": "igw-1"}, {"NatGatewayId": "nat-1"}


@pytest.mark.parametrize(
    ("tables", "kind"),
    [
        ([], None),
        ([build_route_table(IGW)], "igw"),
        ([build_route_table(IGW), build_route_table(NAT, "subnet-1")], "nat"),  # a subnet's own table takes precedence
        ([build_route_table(NAT), build_route_table(IGW, "subnet-2")], "nat"),
        ([build_route_table(IGW, state="blackhole")], None),
        ([{"VpcId": "vpc-1", "Associations": [{"SubnetId": "subnet-1"}], "Routes": []}, build_route_table(IGW)], None),
    ],
)
def test_the_default_route_of_a_subnet_is_found(tables: list[Any], kind: str | None) -> None:
    assert find_default_route_target("subnet-1", "vpc-1", tables) == kind


def test_a_security_group_in_another_network_is_reported_as_wrong() -> None:
    groups = {"sg-1": {"VpcId": "vpc-2", "IpPermissionsEgress": [{}]}}
    specification = LaunchSpecification("m5.large", groups=("sg-1",))
    assert list_levels(judge_security_groups([specification], groups, {"vpc-1"}, ACCOUNT)) == ["wrong"]


def test_a_network_that_another_account_shares_is_fine(aws: Account) -> None:
    owner = "999988887777"
    aws.responses["ec2.DescribeSubnets"]["Subnets"][0]["OwnerId"] = owner
    # EC2 may hide the rules of a group that is shared.
    aws.responses["ec2.DescribeSecurityGroups"]["SecurityGroups"][0] |= {"OwnerId": owner, "IpPermissionsEgress": []}
    findings = run_checks(aws)
    assert list_problems(findings) == []
    assert [finding.message for finding in findings if finding.topic == "subnets"] == [
        f"1 in us-east-1a, shared by the account {owner}"
    ]


def test_a_hidden_route_table_is_not_a_missing_route(aws: Account) -> None:
    aws.responses["ec2.DescribeRouteTables"] = {"RouteTables": []}
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert finding.message == "the route table of subnet-1 is not visible to this account"


def test_a_group_of_this_account_that_allows_no_outgoing_traffic_is_reported_as_wrong(aws: Account) -> None:
    group = {"GroupId": "sg-1", "VpcId": "vpc-1", "OwnerId": ACCOUNT, "IpPermissionsEgress": []}
    aws.responses["ec2.DescribeSecurityGroups"] = {"SecurityGroups": [group]}
    assert "no rule for outgoing traffic" in get_only_problem(run_checks(aws), FindingLevel.WRONG).message


# GPUs

GPU_TYPE = MachineType("g4dn.12xlarge", 48, 196608, frozenset({"x86_64"}), gpus=4)


@pytest.mark.parametrize(
    ("gpus", "tasks", "level", "text"),
    [
        (1, 4, "ok", "4 x 1024 CPU units, 1 GPU, and 20000 MiB fit"),
        (2, 2, "ok", "2 GPUs, and 20000 MiB fit"),
        (4, 1, "ok", "fit on every machine type"),
        (1, 2, "warning", "containers use only some of the GPUs: 2 of 4 on g4dn.12xlarge"),
        (2, 4, "wrong", "holds 2 of 4 containers"),
        (8, 1, "wrong", "set GPUS to at most 4"),
        (0, 1, "warning", "GPUS is 0, so containers cannot use the GPUs of g4dn.12xlarge, which you pay for"),
    ],
)
def test_the_gpus_of_a_machine_are_compared_with_those_of_its_containers(
    gpus: int, tasks: int, level: str, text: str
) -> None:
    settings = build_settings(GPUS=gpus, TASKS_PER_MACHINE=tasks, CPU_SHARES=1024, MEMORY=20000)
    findings = list(judge_machine_capacity(settings, {"g4dn.12xlarge": GPU_TYPE}))
    assert any(finding.level.value == level and text in f"{finding.message}; {finding.remedy}" for finding in findings)


def test_cpu_and_memory_may_stay_free_if_all_gpus_are_in_use() -> None:
    settings = build_settings(GPUS=4, TASKS_PER_MACHINE=1, CPU_SHARES=1024, MEMORY=20000)
    (finding,) = judge_machine_capacity(settings, {"g4dn.12xlarge": GPU_TYPE})
    assert "fit on every machine type" in finding.message


def test_types_without_gpus_hold_no_container_that_needs_one(aws: Account) -> None:
    findings = run_checks(aws, GPUS=1, TASKS_PER_MACHINE=1)
    (finding,) = [finding for finding in findings if finding.level is FindingLevel.WRONG]
    assert (finding.topic, finding.is_user_error) == ("room", True)
    assert finding.remedy == "use machine types with more GPUs, or lower TASKS_PER_MACHINE"
    assert finding.details["m5.large"]["by_gpu"] == 0


def test_only_nvidias_gpus_count(aws: Account) -> None:
    described = aws.responses["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]
    for manufacturer, count in (("NVIDIA", 1), ("AMD", 0)):
        described["GpuInfo"] = {"Gpus": [{"Manufacturer": manufacturer, "Count": 1}]}
        assert build_lookups(aws, FLEET).types.value["m5.large"].gpus == count


def test_containers_with_gpus_need_a_machine_image_with_a_driver(aws: Account) -> None:
    aws.responses["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]["GpuInfo"] = {
        "Gpus": [{"Manufacturer": "NVIDIA", "Count": 2}]
    }
    finding = get_only_problem(run_checks(aws, GPUS=1), FindingLevel.WARNING)
    assert (finding.topic, finding.remedy) == (
        "AMI",
        "run fleetFile, which writes a Fleet file with values for this account",
    )
    assert "does not look like an image with GPU support" in finding.message
    aws.responses["ec2.DescribeImages"]["Images"][0]["Name"] = "al2023-ami-ecs-gpu-hvm-2023.0.20260901-x86_64-ebs"
    assert list_problems(run_checks(aws, GPUS=1)) == []


def test_a_type_missing_in_one_zone_gets_a_warning_and_in_all_zones_is_reported_as_wrong() -> None:
    specifications = [LaunchSpecification("m5.large", ("s-a", "s-b"))]
    zones, types = {"s-a": "us-east-1a", "s-b": "us-east-1b"}, {"m5.large": M5}
    everywhere = {("m5.large", "us-east-1a"), ("m5.large", "us-east-1b")}
    assert list_levels(judge_type_offerings(specifications, zones, everywhere, types)) == ["ok"]
    assert list_levels(judge_type_offerings(specifications, zones, {("m5.large", "us-east-1a")}, types)) == ["warning"]
    assert list_levels(judge_type_offerings(specifications, zones, set(), types)) == ["wrong"]


def test_a_launch_specification_contains_all_values_from_the_fleet_file() -> None:
    (specification,) = build_launch_specifications(
        build_settings(), build_launch_specs(build_settings(), copy.deepcopy(FLEET))
    )
    assert (specification.machine_type, specification.subnets, specification.groups) == (
        "m5.large",
        ("subnet-1",),
        ("sg-1",),
    )
    assert (specification.image, specification.key, specification.unread) == ("ami-1", "my-key", False)
    assert specification.volumes == (("/dev/xvda", 30, None),)


@pytest.mark.parametrize(
    "fleet",
    [
        {
            "LaunchSpecifications": [{"InstanceType": "m5.large"}, {"ImageId": "ami-1"}]
        },  # as written by the published system
        {"LaunchTemplateConfigs": [{"Overrides": [{"InstanceType": "m5.large", "SubnetId": "s"}]}, {}]},
    ],
)
def test_the_types_of_a_fleet_are_read_from_both_forms_of_request(fleet: dict[str, Any]) -> None:
    assert list_requested_types(fleet) == {"m5.large"}


def build_template_fleet(**override: str) -> dict[str, Any]:
    """Return the Fleet file with a launch template in place of its launch specification."""
    template_reference = {"LaunchTemplateId": "lt-1", "Version": "3"}
    config = {"LaunchTemplateSpecification": template_reference, "Overrides": [override]}
    return {"IamFleetRole": FLEET["IamFleetRole"], "LaunchTemplateConfigs": [config]}


def build_template_data() -> dict[str, Any]:
    (data,) = copy.deepcopy(FLEET["LaunchSpecifications"])
    data["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] = 30
    return data | {"SecurityGroupIds": ["sg-2"]}


def test_a_launch_template_is_read_as_part_of_the_fleet_file() -> None:
    (specification,) = build_launch_specifications(
        build_settings(),
        build_launch_specs(build_settings(), build_template_fleet(SubnetId="subnet-9"), build_template_data()),
    )
    assert (specification.machine_type, specification.subnets, specification.groups) == (
        "m5.large",
        ("subnet-9",),
        ("sg-2", "sg-1"),
    )
    assert (specification.image, specification.key, specification.unread) == ("ami-1", "my-key", False)
    assert specification.volumes == (("/dev/xvda", 30, None),)


def test_overrides_apply_even_if_the_launch_template_cannot_be_read() -> None:
    (specification,) = build_launch_specifications(
        build_settings(), build_launch_specs(build_settings(), build_template_fleet(SubnetId="subnet-9"))
    )
    assert (specification.machine_type, specification.subnets, specification.unread) == (
        "m5.large",
        ("subnet-9",),
        True,
    )


def build_lookups(aws: Account, fleet: dict[str, Any], **constants: Any) -> Lookups:
    return Lookups(build_settings(**constants), aws.clients, NOW, fleet)


def test_the_values_in_a_launch_template_are_looked_up(aws: Account) -> None:
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 3, "LaunchTemplateData": build_template_data()}
    aws.responses["ec2.DescribeLaunchTemplateVersions"] = {"LaunchTemplateVersions": [version]}
    facts = build_lookups(aws, build_template_fleet())
    assert list_levels(check_launch_template(facts)) == ["ok"]
    assert list_levels(check_subnets(facts)) == ["ok"]
    assert list_levels(check_disks(facts)) == ["ok"]
    assert aws.get_parameters("ec2.DescribeLaunchTemplateVersions") == {"LaunchTemplateId": "lt-1", "Versions": ["3"]}


def test_a_missing_launch_template_is_reported_as_wrong(aws: Account) -> None:
    aws.refuse_call("ec2.DescribeLaunchTemplateVersions", "InvalidLaunchTemplateId.NotFound")
    (finding,) = check_launch_template(build_lookups(aws, build_template_fleet()))
    assert (finding.level, finding.message) == (FindingLevel.WRONG, "there is no launch template lt-1 version 3")


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        ({"UserData": "TUlNRS1WZXJzaW9uOiAxLjAK"}, "its user data is not a shell script", "begin it with #!/bin/bash"),
        ({"SecurityGroups": ["lab"]}, "security groups by name", "by ID"),
        (
            {"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]},
            "works for only one machine",
            "remove NetworkInterfaceId",
        ),
    ],
)
def test_a_launch_template_that_start_cluster_would_reject_is_reported_as_wrong(
    aws: Account, content: dict[str, Any], problem: str, remedy: str
) -> None:
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 3, "LaunchTemplateData": {"ImageId": "ami-1"} | content}
    aws.responses["ec2.DescribeLaunchTemplateVersions"] = {"LaunchTemplateVersions": [version]}
    (finding,) = check_launch_template(build_lookups(aws, build_template_fleet()))
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert "lt-1 version 3" in finding.message
    assert problem in finding.message
    assert remedy in finding.remedy


def test_a_launch_template_that_cannot_be_read_is_reported_once(aws: Account) -> None:
    aws.refuse_call("ec2.DescribeLaunchTemplateVersions", "UnauthorizedOperation")
    facts = build_lookups(aws, build_template_fleet())
    findings = list(iter_findings([("template", check_launch_template), ("types", check_machine_types)], facts))
    assert findings[0].message == "could not be looked up: needs ec2:DescribeLaunchTemplateVersions"
    assert list_levels(findings) == ["warning", "ok"]
    assert aws.calls.count("ec2.DescribeLaunchTemplateVersions") == 1


def test_on_demand_machines_do_not_count_toward_the_spot_quota_but_get_a_cost_warning(aws: Account) -> None:
    aws.change_response("service-quotas.GetServiceQuota", Quota={"Value": 4.0})
    facts = build_lookups(aws, FLEET, ON_DEMAND_MACHINES=1)
    assert list_levels(check_spot_quota(facts)) == ["ok"]
    assert list_levels(check_cost(facts)) == ["ok", "ok", "warning"]


@pytest.mark.parametrize(("limit", "is_reported"), [(0.0, False), (50.0, True)])
def test_a_cost_limit_is_reported_as_inexact_for_on_demand_machines(
    aws: Account, limit: float, is_reported: bool
) -> None:
    *_, finding = check_cost(build_lookups(aws, FLEET, ON_DEMAND_MACHINES=3, MAX_COST=limit))
    assert ("MAX_COST assumes spot prices" in finding.message) is is_reported


def respond_to_quota(values: dict[str, float]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a response to GetServiceQuota. `values`: the quotas' values, keyed by code."""
    return lambda parameters: {
        "Quota": {"QuotaCode": parameters["QuotaCode"], "Value": values[parameters["QuotaCode"]]}
    }


def test_without_spot_machines_spot_quotas_and_spot_prices_are_not_checked(aws: Account) -> None:
    aws.responses["service-quotas.GetServiceQuota"] = respond_to_quota({"L-1216C47A": 64.0})
    aws.responses["ec2.DescribeInstanceTypes"]["InstanceTypes"][0]["SupportedUsageClasses"] = ["on-demand"]
    findings = run_checks(aws, ON_DEMAND_MACHINES=3, MACHINE_PRICE=0.0001)
    assert [finding.topic for finding in list_problems(findings)] == ["cost"], "the on-demand price is not looked up"
    assert any(finding.message == "no spot machines requested" for finding in findings)


@pytest.mark.parametrize(
    ("on_demand", "quota", "level", "text"),
    [
        (3, 0.0, "wrong", "no on-demand machine can start (the smallest type needs 2)"),
        (2, 0.0, "warning", "no on-demand machine can start"),  # a spot machine can
        (3, 5.0, "warning", "enough for 2 of 3 machines"),
        (3, 64.0, "ok", "this run needs up to 6 (the account's other on-demand machines count too)"),
    ],
)
def test_the_on_demand_quota_is_compared_with_the_on_demand_machines(
    aws: Account, on_demand: int, quota: float, level: str, text: str
) -> None:
    aws.responses["service-quotas.GetServiceQuota"] = respond_to_quota({"L-1216C47A": quota, "L-34B43A08": 64.0})
    (finding,) = check_on_demand_quota(build_lookups(aws, FLEET, ON_DEMAND_MACHINES=on_demand))
    assert (finding.topic, finding.level.value) == ("on-demand quota", level)
    assert text in finding.message
    assert '"Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"' in finding.message
    request = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
    assert aws.get_parameters("service-quotas.GetServiceQuota") == request


def test_without_on_demand_machines_their_quota_is_not_looked_up(aws: Account) -> None:
    assert list(check_on_demand_quota(build_lookups(aws, FLEET))) == []
    assert aws.calls == []


def test_gpu_machines_have_quotas_of_their_own() -> None:
    gpu = MachineType("g5.xlarge", 4, 16384, frozenset({"x86_64"}))
    quota_class = find_quota_class("g5.xlarge", on_demand=True)
    assert quota_class is not None
    (finding,) = judge_machine_quotas(ON_DEMAND_QUOTA, 2, {"g5.xlarge": gpu}, {quota_class: 0.0})
    assert '"Running On-Demand G and VT instances" is 0 virtual CPUs' in finding.message
    assert "L-DB2E81BA" in finding.remedy


# Limits of large runs


def check_limits(aws: Account, **constants: Any) -> list[Finding]:
    types = {"MACHINE_TYPE": ["m5.large", "m5a.large", "m6i.large"]} | constants
    return list(check_large_run_limits(build_lookups(aws, FLEET, **types)))


def test_an_ordinary_run_comes_near_no_limit_and_looks_none_up(aws: Account) -> None:
    assert check_limits(aws, CLUSTER_MACHINES=50) == []
    assert "service-quotas.GetServiceQuota" not in aws.calls


@pytest.mark.parametrize(("cores", "is_near"), [(11, False), (12, True), (16, True)])
def test_the_messages_in_flight_are_compared_with_the_limit_of_sqs(aws: Account, cores: int, is_near: bool) -> None:
    limits = check_limits(aws, CLUSTER_MACHINES=2000, TASKS_PER_MACHINE=2, DOCKER_CORES=cores, EBS_VOL_SIZE=22)
    findings = [finding for finding in limits if "messages" in finding.message]
    assert bool(findings) is is_near
    for finding in findings:
        assert finding.details == {"limit": 120_000, "needed": 2000 * 2 * cores * 2}
        assert f"{2000 * 2 * cores:,} slots hold up to {2000 * 2 * cores * 2:,} messages" in finding.message


@pytest.mark.parametrize(
    ("machines", "quota", "expected"),
    [
        (100, 50.0, None),  # 2.9 TiB: the quota is not read
        (1000, 50.0, None),
        (1000, 30.0, "29.3 TiB; the limit for gp3 in a region is 30 TiB (your account's quota)"),
        (1500, 50.0, "43.9 TiB; the limit for gp3 in a region is 50 TiB (your account's quota)"),
        (1500, 300.0, None),
        (
            1500,
            None,
            "43.9 TiB; the limit for gp3 in a region is 50 TiB (AWS's default, because yours could not be read)",
        ),
    ],
)
def test_the_disks_of_all_machines_are_compared_with_the_quota_for_gp3(
    aws: Account, machines: int, quota: float | None, expected: str | None
) -> None:
    if quota is None:
        aws.refuse_call("service-quotas.GetServiceQuota")
    else:
        aws.responses["service-quotas.GetServiceQuota"] = respond_to_quota({"L-7A658B76": quota})
    findings = check_limits(aws, CLUSTER_MACHINES=machines, EBS_VOL_SIZE=30)
    assert [expected is not None and expected in finding.message for finding in findings] == [True] * bool(expected)
    requests = [parameters for call, parameters in aws.requests if call == "service-quotas.GetServiceQuota"]
    assert requests == ([{"ServiceCode": "ebs", "QuotaCode": "L-7A658B76"}] if machines >= 1000 else [])


@pytest.mark.parametrize(
    ("machines", "on_demand", "types", "is_reported"),
    [
        (9, 0, ["m5.large"], False),
        (10, 0, ["m5.large"], True),
        (10, 0, ["m5.large", "m5a.large"], True),
        (500, 0, ["m5.large", "m5a.large", "m6i.large"], False),
        (12, 6, ["m5.large"], False),
    ],
)
def test_many_spot_machines_of_one_or_two_types_get_a_warning(
    aws: Account, machines: int, on_demand: int, types: list[str], is_reported: bool
) -> None:
    findings = check_limits(aws, CLUSTER_MACHINES=machines, ON_DEMAND_MACHINES=on_demand, MACHINE_TYPE=types)
    assert bool(findings) is is_reported
    assert all(f"{machines} spot machines of only {len(types)} type" in finding.message for finding in findings)


NAT_TABLE = {
    "RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}],
    "Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("image", "machines", "has_address", "is_reported"),
    [
        ("user/app:1", 79, False, False),
        ("user/app:1", 80, False, True),
        ("docker.io/user/app:1", 80, False, True),
        ("user/app:1", 80, True, False),  # each machine has its own address
        ("ghcr.io/user/app:1", 1000, False, False),
        (ECR, 1000, False, False),
    ],
)
def test_machines_behind_one_address_are_compared_with_docker_hubs_pull_limit(
    aws: Account, image: str, machines: int, has_address: bool, is_reported: bool
) -> None:
    aws.responses["service-quotas.GetServiceQuota"] = respond_to_quota({"L-7A658B76": 50.0})
    findings = check_limits(aws, DOCKERHUB_TAG=image, CLUSTER_MACHINES=machines, ASSIGN_IP=has_address)
    assert bool(findings) is is_reported
    for finding in findings:
        assert f"{machines} machines behind a NAT gateway" in finding.message
        assert "100 times in 6 hours" in finding.message


def test_a_public_address_is_not_used_behind_a_nat_gateway(aws: Account) -> None:
    aws.responses["ec2.DescribeRouteTables"] = {"RouteTables": [NAT_TABLE]}
    (finding,) = check_limits(aws, DOCKERHUB_TAG="user/app:1", CLUSTER_MACHINES=100)
    assert finding.details == {"limit": 100, "needed": 100}


def test_a_spot_quota_of_zero_gets_only_a_warning_if_on_demand_machines_are_requested(aws: Account) -> None:
    aws.change_response("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    facts = build_lookups(aws, FLEET, ON_DEMAND_MACHINES=1)
    assert list_levels(check_spot_quota(facts)) == ["warning"]


@pytest.mark.parametrize(
    ("machines", "tasks", "quota_names"),
    [
        (3999, 1, []),
        (1999, 2, []),
        (2000, 2, ["Tasks per service"]),
        (2501, 2, ["Tasks per service"]),
        (4000, 1, ["Container instances per cluster", "Tasks per service"]),
    ],
)
def test_a_run_that_comes_near_the_default_ecs_limits_gets_a_warning(
    aws: Account, machines: int, tasks: int, quota_names: list[str]
) -> None:
    facts = build_lookups(aws, FLEET, CLUSTER_MACHINES=machines, TASKS_PER_MACHINE=tasks)
    findings = list(check_ecs_limits(facts))
    assert [finding.details["quota"] for finding in findings] == quota_names
    assert {finding.level for finding in findings} <= {FindingLevel.WARNING}
    assert all(str(finding.details["quota"]) in finding.message for finding in findings)
    comparison = "exceeds" if machines * tasks > 5000 else "is close to"
    assert all(comparison in finding.message for finding in findings)


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
def test_each_machine_type_is_matched_to_its_quota_class(kind: str, code: str | None) -> None:
    quota_class = find_quota_class(kind)
    assert (quota_class.code if quota_class else None) == code


@pytest.mark.parametrize(
    ("value", "level"), [(0, "wrong"), (1, "wrong"), (2, "warning"), (5, "warning"), (6, "ok"), (1000, "ok")]
)
def test_the_spot_quota_is_compared_with_the_number_of_machines(value: int, level: str) -> None:
    assert STANDARD is not None
    assert list_levels(judge_machine_quotas(SPOT_QUOTA, 3, {"m5.large": M5}, {STANDARD: value})) == [level]


def test_a_spot_quota_of_zero_for_one_of_two_classes_gets_only_a_warning() -> None:
    gpu = MachineType("g5.xlarge", 4, 16384, frozenset({"x86_64"}))
    values = {quota: value for quota, value in ((STANDARD, 64), (find_quota_class("g5.xlarge"), 0)) if quota}
    assert list_levels(judge_machine_quotas(SPOT_QUOTA, 3, {"m5.large": M5, "g5.xlarge": gpu}, values)) == [
        "ok",
        "warning",
    ]


def build_market(now: float, most: float, above: float = 0.0, kind: str = "m5.large") -> SpotMarket:
    return SpotMarket(kind, "us-east-1a", now, min(now, most), most, above)


@pytest.mark.parametrize(
    ("type_market", "level"),
    [
        (build_market(0.04, 0.05), "ok"),
        (build_market(0.04, 0.12, 0.2), "warning"),
        (replace(build_market(0.11, 0.12, 0.9), lowest=0.05), "warning"),  # machines start when the price falls again
        (build_market(0.11, 0.12, 1.0), "wrong"),
    ],
)
def test_the_bid_is_compared_with_the_current_prices_and_last_weeks_prices(type_market: SpotMarket, level: str) -> None:
    findings = list(judge_bid(0.1, [type_market]))
    assert list_levels(findings) == [level]
    assert level == "ok" or "0.12" in findings[0].remedy


def test_a_bid_too_low_for_all_types_is_reported_as_wrong_and_for_one_type_gets_a_warning() -> None:
    expensive, cheap = build_market(0.2, 0.2, 1.0, "c5.large"), build_market(0.04, 0.05)
    assert list_levels(judge_bid(0.1, [cheap, expensive])) == ["ok", "warning"]
    findings = list(judge_bid(0.01, [cheap, expensive]))
    assert list_levels(findings) == ["warning", "warning", "wrong"]
    assert findings[-1].remedy.startswith(
        "raise MACHINE_PRICE above 0.05;"
    )  # last week's highest price of the cheaper type


def test_a_few_types_get_one_finding_each() -> None:
    count = MAX_TYPES_SHOWN
    assert len(list(judge_bid(1.0, [build_market(0.1, 0.1, kind=f"m{n}.large") for n in range(count)]))) == count


def test_many_types_get_a_few_findings_with_all_markets_in_the_details() -> None:
    findings = list(judge_bid(1.0, [build_market(0.01 * n, 0.02 * n, kind=f"m{n}.large") for n in range(1, 41)]))
    assert len(findings) == MAX_TYPES_SHOWN + 1
    assert sum(len(finding.details["markets"]) for finding in findings) == 40


def test_a_type_that_the_bid_does_not_reach_is_named_however_many_cheaper_types_there_are() -> None:
    cheap = [build_market(0.05, 0.05, kind=f"m{n}.large") for n in range(MAX_TYPES_SHOWN + 2)]
    findings = list(judge_bid(0.1, [*cheap, build_market(0.9, 0.95, 1.0, "big.large")]))
    assert list_levels(findings) == ["ok"] * MAX_TYPES_SHOWN + ["warning", "ok"]
    assert findings[-2].message.startswith("big.large: ")
    assert findings[-1].message == "and 2 more types (--json lists them all)"
    assert [market["machine_type"] for market in findings[-1].details["markets"]] == ["m6.large", "m7.large"]


def test_a_type_above_the_bid_takes_no_place_of_one_that_is_shown() -> None:
    cheap = [build_market(0.05, 0.05, kind=f"m{n}.large") for n in range(MAX_TYPES_SHOWN + 1)]
    findings = list(judge_bid(0.1, [build_market(0.04, 0.2, 0.5, "c5.large"), *cheap]))
    assert list_levels(findings) == ["warning"] + ["ok"] * (MAX_TYPES_SHOWN + 1)
    assert findings[-1].message == "and 1 more type (--json lists them all)"


def test_the_hourly_cost_is_one_total_with_its_parts() -> None:
    settings = build_settings(CLUSTER_MACHINES=10, MACHINE_PRICE=0.1, EBS_VOL_SIZE=73, DOCKER_CORES=2)
    finding = judge_cost(settings, [build_market(0.04, 0.05)])
    parts = finding.details["parts"]
    assert list(parts) == ["spot machines", "disks", "public addresses", "S3 requests", "log streams"]
    assert parts["spot machines"] == pytest.approx(10 * 0.04)
    assert parts["disks"] == pytest.approx(10 * 73 * 0.08 / 730)
    assert parts["public addresses"] == pytest.approx(10 * 0.005)
    slots, containers = 40, 20
    puts, gets = containers * 60 + slots * 6 * 10, slots * 6 * 20  # journals, and six jobs an hour in each slot
    assert parts["S3 requests"] == pytest.approx(puts * 0.005 / 1000 + gets * 0.0004 / 1000)
    assert parts["log streams"] == pytest.approx(slots * 1000 * 3600 / 2**30 * 0.5)
    assert finding.details["expected"] == pytest.approx(sum(parts.values()))
    assert finding.details["ceiling"] == pytest.approx(sum(parts.values()) + 10 * (0.1 - 0.04))
    assert finding.message == (
        "about 0.617 USD an hour for 10 machines, at most 1.22: spot machines 0.40, disks 0.08, public addresses 0.05, "
        "S3 requests 0.0199, log streams 0.0671 (estimates, list prices of us-east-1 in November 2026)"
    )


def test_on_demand_machines_pay_for_everything_but_only_spot_machines_have_a_bid() -> None:
    settings = build_settings(CLUSTER_MACHINES=10, ON_DEMAND_MACHINES=4, MACHINE_PRICE=0.1)
    finding = judge_cost(settings, [])
    assert (
        "USD an hour for 10 machines, without the price of 4 on-demand machines: spot machines 0.60" in finding.message
    )
    extras = compute_hourly_extras(settings)
    assert extras["disks"] == pytest.approx(10 * 30 * 0.08 / 730)
    assert finding.details["ceiling"] == pytest.approx(6 * 0.1 + sum(extras.values()))


def test_what_is_turned_off_costs_nothing() -> None:
    settings = build_settings(ASSIGN_IP=False, STREAM_JOB_LOGS=False)
    finding = judge_cost(settings, [])
    assert list(finding.details["parts"]) == ["spot machines", "disks", "S3 requests"]
    assert finding.message.startswith("at most")
    assert list(judge_log_cost(settings)) == []


def test_the_price_of_log_streams_is_said_with_the_switch_that_turns_them_off() -> None:
    (finding,) = judge_log_cost(build_settings(CLUSTER_MACHINES=100, DOCKER_CORES=4))
    assert "0.50 USD per GB of the jobs' output: 1.34 USD an hour if each running job" in finding.message
    assert "set STREAM_JOB_LOGS to 'False'" in finding.remedy


def test_a_nat_gateway_is_named_with_its_price_and_the_way_around_it(aws: Account) -> None:
    aws.responses["ec2.DescribeRouteTables"] = {"RouteTables": [NAT_TABLE]}
    finding = get_only_problem(run_checks(aws), FindingLevel.WARNING)
    assert (finding.topic, finding.details) == ("cost", {"usd_per_gb": 0.045, "subnets": ["subnet-1"]})
    assert "0.045 USD per GB" in finding.message
    assert "gateway endpoint for S3" in finding.remedy


def test_with_a_gateway_endpoint_a_nat_gateway_does_not_carry_the_traffic_to_s3() -> None:
    endpoint = {"DestinationPrefixListId": "pl-63a5400a", "GatewayId": "vpce-0123", "State": "active"}
    table = NAT_TABLE | {"Routes": [*NAT_TABLE["Routes"], endpoint]}  # type: ignore[misc]
    (finding,) = judge_nat_cost({"subnet-1": {"VpcId": "vpc-1"}}, [table])
    assert finding.level is FindingLevel.OK
    assert list(judge_nat_cost({"subnet-1": {"VpcId": "vpc-1"}}, [])) == []


@given(st.floats(min_value=0.0001, max_value=100), st.lists(st.floats(min_value=0.0001, max_value=100), min_size=1))
def test_the_expected_cost_never_exceeds_the_maximum(bid: float, now: list[float]) -> None:
    details = judge_cost(build_settings(MACHINE_PRICE=bid), [build_market(price, price) for price in now]).details
    assert details.get("expected", 0) <= details["ceiling"] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0.00001, "0.00001"), (0.03125, "0.0312"), (0.1, "0.10"), (1.256, "1.26"), (1250, "1,250.00"), (0, "0.00")],
)
def test_amounts_have_two_decimals_or_three_significant_digits(amount: float, expected: str) -> None:
    assert format_usd(amount) == expected


# Output


def test_findings_below_a_level_can_be_hidden() -> None:
    findings = [
        build_ok_finding("a", "fine"),
        build_warning_finding("b", "a warning", "do this"),
        build_wrong_finding("c", "an error", "do that"),
    ]
    assert "fine" in format_findings(findings)
    assert "fine" not in format_findings(findings, least=FindingLevel.WARNING)
    assert "a warning" not in format_findings(findings, least=FindingLevel.WRONG)
    assert format_findings(findings[:1], least=FindingLevel.WARNING) == "nothing is wrong, 0 warnings, 1 ok"


def test_every_line_fits_in_80_columns(aws: Account) -> None:
    aws.refuse_call("iam.GetInstanceProfile", "NoSuchEntity")
    aws.refuse_call("service-quotas.GetServiceQuota")
    output = format_findings(run_checks(aws, MEMORY=100, CPU_SHARES=100))
    assert max(len(line) for line in output.splitlines() if ECR not in line) <= 80
    assert output.splitlines()[-1] == "1 wrong, 2 warnings: fix what is wrong first"
    assert "WRONG    profile" in output


def test_the_exit_code_distinguishes_user_errors_from_account_problems() -> None:
    account_wrong = build_wrong_finding("a", "b", "c")
    users_wrong = build_wrong_finding("a", "b", "c", is_user_error=True)
    assert choose_exit_code([build_ok_finding("a", "b"), build_warning_finding("a", "b", "c")]) == 0
    assert choose_exit_code([account_wrong]) == 1
    assert choose_exit_code([account_wrong, users_wrong]) == 2


def test_the_json_output_contains_the_same_findings(aws: Account) -> None:
    aws.change_response("service-quotas.GetServiceQuota", Quota={"Value": 0.0})
    findings = run_checks(aws)
    document = json.loads(build_findings_json(findings))
    assert document["exit_code"] == 1
    assert [entry["topic"] for entry in document["findings"]] == [finding.topic for finding in findings]
    (quota,) = [entry for entry in document["findings"] if entry["topic"] == "spot quota"]
    assert quota["details"] == {"code": "L-34B43A08", "value": 0.0, "needed": 6}


# A complete account in an emulator


def test_a_complete_emulated_account_has_no_wrong_findings() -> None:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        fleet = prepare_account(clients)
        findings = run_preflight_checks(
            clients, build_settings(DOCKERHUB_TAG="user/app:1"), FLEET_PATH, fleet, datetime.now(UTC), is_local=True
        )  # moto has no policy simulator, as the local cloud
        assert [finding for finding in findings if finding.level is FindingLevel.WRONG] == []
        assert clients.s3.list_multipart_uploads(Bucket="app-bucket").get("Uploads", []) == []
        assert clients.s3.list_objects_v2(Bucket="app-bucket")["KeyCount"] == 0


def prepare_account(clients: Clients) -> dict[str, Any]:
    """Create everything that a run needs in moto, and return a Fleet file for it."""
    clients.s3.create_bucket(Bucket="app-bucket")
    dead = clients.sqs.create_queue(QueueName="AppDead", tags={"app": "App"})["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    clients.sqs.create_queue(QueueName="AppQueue", Attributes={"RedrivePolicy": redrive}, tags={"app": "App"})
    for name, service in (("fleet", "spotfleet.amazonaws.com"), ("ecsInstanceRole", "ec2.amazonaws.com")):
        clients.iam.create_role(RoleName=name, AssumeRolePolicyDocument=build_trust_policy(service))
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="ecsInstanceRole", RoleName="ecsInstanceRole")
    clients.ec2.create_key_pair(KeyName="my-key")
    fleet = copy.deepcopy(FLEET)
    fleet["IamFleetRole"] = "arn:aws:iam::123456789012:role/fleet"
    (specification,) = fleet["LaunchSpecifications"]
    specification["IamInstanceProfile"] = {"Name": "ecsInstanceRole"}
    image = clients.ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"][0]
    specification["ImageId"], specification["BlockDeviceMappings"][0]["DeviceName"] = (
        image["ImageId"],
        image["RootDeviceName"],
    )
    subnet = clients.ec2.describe_subnets()["Subnets"][0]
    group = clients.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])
    specification["NetworkInterfaces"] = [
        {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [group["SecurityGroups"][0]["GroupId"]]}
    ]
    return fleet
