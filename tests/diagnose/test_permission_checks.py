"""What `check` asks EC2 and IAM about permissions, with responses as AWS sends them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.aws.clients import Clients
from distributed_something.diagnose.check.check import iter_findings
from distributed_something.diagnose.check.findings import Finding, FindingLevel
from distributed_something.diagnose.check.lookups import LookupResult, Lookups
from distributed_something.diagnose.check.permissions.launch import build_trial_request, check_machine_start
from distributed_something.diagnose.check.permissions.roles import (
    UNASKED_REMEDY,
    check_role_permissions,
    list_questions,
)
from distributed_something.fleet.launch_plan import TemplateVersion
from tests.support.fakes import ANY, SETTINGS, ExactClients, expect_exact_calls

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
PROFILE = f"arn:aws:iam::{ACCOUNT}:instance-profile/ecsInstanceRole"
FLEET: dict[str, Any] = {
    "IamFleetRole": f"{ROLE}/aws-ec2-spot-fleet-tagging-role",
    "LaunchSpecifications": [
        {
            "ImageId": "ami-1", "IamInstanceProfile": {"Arn": PROFILE},
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1,subnet-2", "Groups": ["sg-1"]}],
        }
    ],
}  # fmt: skip
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
WOULD_START = ("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
REFUSED = (
    "UnauthorizedOperation",
    f"You are not authorized to perform this operation. User: arn:aws:iam::{ACCOUNT}:user/ada is not authorized to "
    f"perform: ec2:RunInstances on resource: arn:aws:ec2:us-east-1:{ACCOUNT}:instance/* because no identity-based "
    "policy allows the ec2:RunInstances action. Encoded authorization failure message: 0a1b2c",
)
SIMULATE_DENIED = (
    "AccessDenied",
    f"User: arn:aws:iam::{ACCOUNT}:user/ada is not authorized to perform: iam:SimulatePrincipalPolicy on resource: "
    f"{ROLE}/distributed-something-task because no identity-based policy allows the iam:SimulatePrincipalPolicy action",
)


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


def build_lookups(clients: Clients, fleet: dict[str, Any] | None = FLEET, **constants: Any) -> Lookups:
    """Return lookups whose other results are known, so that they make no calls."""
    lookups = Lookups(SETTINGS.model_copy(update=constants), clients, NOW, fleet)
    lookups.__dict__["identity"] = LookupResult({"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ada"})
    role = {"RoleName": "ecsInstanceRole", "Arn": f"{ROLE}/ecsInstanceRole"}
    lookups.__dict__["profiles"] = LookupResult({"ecsInstanceRole": {"Roles": [role]}})
    lookups.__dict__["fleet_role"] = LookupResult({"Arn": FLEET["IamFleetRole"]})
    return lookups


# The machines


def ask_about_machines(aws: ExactClients, code: str, message: str, **constants: Any) -> Finding:
    aws.expect_error("ec2.run_instances", code, message)
    (finding,) = check_machine_start(build_lookups(aws.clients, **constants))
    return finding


def test_ec2_is_asked_to_start_one_machine_as_the_runs_launch_template_describes_it(aws: ExactClients) -> None:
    tags = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": "20261123T104500Z"}]
    request = {
        "ImageId": "ami-1", "IamInstanceProfile": {"Arn": PROFILE}, "InstanceType": SETTINGS.MACHINE_TYPE[0],
        "InstanceMarketOptions": {"MarketType": "spot"}, "UserData": ANY,
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "VolumeType": "gp3", "DeleteOnTermination": True}}
        ],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": "subnet-1", "Groups": ["sg-1"], "AssociatePublicIpAddress": True}
        ],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": "Name", "Value": "AppWorker"}, *tags]}
            for kind in ("instance", "volume")
        ],
        "MinCount": 1, "MaxCount": 1, "DryRun": True,
    }  # fmt: skip
    aws.expect_error("ec2.run_instances", *WOULD_START, request=request)

    (finding,) = check_machine_start(build_lookups(aws.clients))

    assert finding.level is FindingLevel.OK
    assert finding.message == "EC2 would let you start the machines (asked without starting one)"


def test_the_user_data_are_passed_as_text_because_boto3_encodes_them(aws: ExactClients) -> None:
    text = "#!/bin/bash\necho ECS_CLUSTER=app-cluster >> /etc/ecs/ecs.config\n"
    version = TemplateVersion(1, {"UserData": base64.b64encode(text.encode()).decode()}, [])

    assert build_trial_request(aws.clients.ec2, version, spot=True)["UserData"] == text


def test_a_run_with_on_demand_machines_is_not_tried_with_a_spot_machine(aws: ExactClients) -> None:
    """Its template ends machines at a shutdown, which EC2 does not accept for spot machines in RunInstances."""
    finding = ask_about_machines(aws, *WOULD_START, ON_DEMAND_MACHINES=1, CLUSTER_MACHINES=2)

    assert finding.level is FindingLevel.OK


def test_a_missing_permission_to_start_machines_is_a_warning_that_names_it(aws: ExactClients) -> None:
    finding = ask_about_machines(aws, *REFUSED)

    assert finding.level is FindingLevel.WARNING
    assert finding.message == (
        f"EC2 would not let you start {SETTINGS.MACHINE_TYPE[0]} with the run's launch template: needs ec2:RunInstances"
    )
    assert "setupAWS --policies" in finding.remedy
    assert finding.details == {"right": "ec2:RunInstances"}


def test_other_refusals_are_reported_with_the_words_of_ec2(aws: ExactClients) -> None:
    finding = ask_about_machines(aws, "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist")

    assert finding.level is FindingLevel.WARNING
    assert "InvalidAMIID.NotFound: The image id '[ami-1]' does not exist" in finding.message


def test_equal_answers_for_several_launch_specifications_are_one_finding(aws: ExactClients) -> None:
    specification = FLEET["LaunchSpecifications"][0]
    fleet = FLEET | {"LaunchSpecifications": [specification, specification | {"EbsOptimized": True}]}
    for _ in range(2):
        aws.expect_error("ec2.run_instances", *WOULD_START)

    lookups = build_lookups(aws.clients, fleet, MACHINE_TYPE=SETTINGS.MACHINE_TYPE * 2)
    assert len(list(check_machine_start(lookups))) == 1


def test_without_a_fleet_file_and_in_the_local_cloud_ec2_is_not_asked(aws: ExactClients) -> None:
    assert list(check_machine_start(build_lookups(aws.clients, None))) == []
    assert list(check_machine_start(replace(build_lookups(aws.clients), is_local=True))) == []


def test_a_template_that_cannot_be_read_is_left_to_the_check_of_the_template(aws: ExactClients) -> None:
    template = {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "1"}}
    fleet = {"IamFleetRole": FLEET["IamFleetRole"], "LaunchTemplateConfigs": [template]}
    aws.expect_error("ec2.describe_launch_template_versions", "InvalidLaunchTemplateId.NotFound")

    assert list(check_machine_start(build_lookups(aws.clients, fleet))) == []


# The roles


def build_result(action: str, decision: str, **details: Any) -> dict[str, Any]:
    """Return a result of the policy simulator; IAM returns some details for each resource."""
    resource = {"EvalResourceName": "arn", "EvalResourceDecision": decision, "MatchedStatements": []}
    result = {"EvalActionName": action, "EvalResourceName": "arn", "EvalDecision": decision, "MatchedStatements": []}
    return result | {"ResourceSpecificResults": [resource], "MissingContextValues": []} | details


def expect_simulations(aws: ExactClients, lookups: Lookups, **decisions: dict[str, Any]) -> None:
    """Expect every question. `decisions`: the results for actions, with `__` for the colon; all others are allowed."""
    results = {name.replace("__", ":"): result for name, result in decisions.items()}
    for question in list_questions(lookups):
        found = [results.get(action) or build_result(action, "allowed") for action in question.actions]
        aws.expect_call("iam.simulate_principal_policy", EvaluationResults=found, IsTruncated=False)


def ask_about_roles(aws: ExactClients, settings: dict[str, Any] | None = None, **decisions: Any) -> list[Finding]:
    lookups = build_lookups(aws.clients, **(settings or {}))
    expect_simulations(aws, lookups, **decisions)
    return list(check_role_permissions(lookups))


def test_roles_that_may_do_everything_are_one_finding_that_names_them(aws: ExactClients) -> None:
    (finding,) = ask_about_roles(aws, {"AUTO_MONITOR": True})

    assert finding.level is FindingLevel.OK
    assert finding.message == (
        "IAM's policy simulator allows distributed-something-task, distributed-something-execution, ecsInstanceRole, "
        "aws-ec2-spot-fleet-tagging-role, distributed-something-monitor what a run needs"
    )


def test_the_auto_monitors_role_is_asked_about_only_if_a_run_uses_it(aws: ExactClients) -> None:
    roles = {question.role for question in list_questions(build_lookups(aws.clients, AUTO_MONITOR=False))}

    assert f"{ROLE}/distributed-something-monitor" not in roles
    assert len(roles) == 4


def test_questions_name_the_runs_resources_and_their_tags(aws: ExactClients) -> None:
    lookups = build_lookups(aws.clients, None)
    first, *others = list_questions(lookups)
    request = {
        "PolicySourceArn": f"{ROLE}/distributed-something-task",
        "ActionNames": ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"],
        "ResourceArns": [f"arn:aws:sqs:us-east-1:{ACCOUNT}:AppQueue"],
        "ContextEntries": [
            {"ContextKeyName": "aws:ResourceTag/app", "ContextKeyValues": ["App"], "ContextKeyType": "string"}
        ],
    }
    results = [build_result(action, "allowed") for action in first.actions]
    # A page may be empty although another one follows.
    aws.expect_call("iam.simulate_principal_policy", request, EvaluationResults=[], IsTruncated=True, Marker="more")
    aws.expect_call("iam.simulate_principal_policy", request | {"Marker": "more"}, EvaluationResults=results)
    for question in others:
        found = [build_result(action, "allowed") for action in question.actions]
        aws.expect_call("iam.simulate_principal_policy", EvaluationResults=found)

    assert [finding.level for finding in check_role_permissions(lookups)] == [FindingLevel.OK]


def test_actions_that_no_policy_allows_are_wrong_and_listed_together(aws: ExactClients) -> None:
    actions = ("ecs:RegisterContainerInstance", "ecs:SubmitTaskStateChange")
    (finding,) = ask_about_roles(
        aws, **{action.replace(":", "__"): build_result(action, "implicitDeny") for action in actions}
    )

    assert finding.level is FindingLevel.WRONG
    assert finding.message == (
        "the role ecsInstanceRole may not ecs:RegisterContainerInstance, ecs:SubmitTaskStateChange: no policy of the "
        "role allows it, according to IAM's policy simulator"
    )
    assert finding.remedy == "run setupAWS, which gives the role its permissions"
    assert finding.details == {"role": "ecsInstanceRole", "rights": list(actions)}


@pytest.mark.parametrize(
    ("decision", "details", "reason", "level"),
    [
        ("implicitDeny", {"OrganizationsDecisionDetail": {"AllowedByOrganizations": False}},
         "a rule of your organization (SCP)", "wrong"),
        ("implicitDeny", {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}},
         "permissions boundary", "wrong"),
        ("explicitDeny", {}, "a policy denies it", "wrong"),
        ("explicitDeny", {"MissingContextValues": ["aws:SourceIp"]}, "a policy denies it", "warning"),
        ("implicitDeny", {}, "no policy of the role allows it", "wrong"),
    ],
)  # fmt: skip
def test_a_denial_says_what_denies_it(
    aws: ExactClients, decision: str, details: dict[str, Any], reason: str, level: str
) -> None:
    (finding,) = ask_about_roles(aws, ec2__RunInstances=build_result("ec2:RunInstances", decision, **details))

    assert reason in finding.message
    assert finding.level.value == level
    assert finding.remedy


def test_a_denial_for_one_of_several_resources_counts(aws: ExactClients) -> None:
    resources = [
        {"EvalResourceName": "a", "EvalResourceDecision": "allowed"},
        {"EvalResourceName": "b", "EvalResourceDecision": "implicitDeny"},
    ]
    result = build_result("ec2:CreateTags", "allowed", ResourceSpecificResults=resources)
    (finding,) = ask_about_roles(aws, ec2__CreateTags=result)

    assert "aws-ec2-spot-fleet-tagging-role may not ec2:CreateTags" in finding.message


@pytest.mark.parametrize("action", ["s3:PutObject", "sqs:ReceiveMessage"])
def test_what_a_policy_of_the_bucket_or_queue_may_allow_is_only_a_warning(aws: ExactClients, action: str) -> None:
    (finding,) = ask_about_roles(aws, **{action.replace(":", "__"): build_result(action, "implicitDeny")})

    assert finding.level is FindingLevel.WARNING


def test_a_user_who_may_not_ask_gets_one_warning_with_the_permission(aws: ExactClients) -> None:
    lookups = build_lookups(aws.clients)
    for _ in list_questions(lookups):
        aws.expect_error("iam.simulate_principal_policy", *SIMULATE_DENIED)

    (finding,) = check_role_permissions(lookups)

    assert finding.level is FindingLevel.WARNING
    assert finding.message.startswith("cannot tell whether distributed-something-task, distributed-something-execution")
    assert finding.message.endswith("the question needs iam:SimulatePrincipalPolicy")
    assert (finding.remedy, finding.details) == (UNASKED_REMEDY, {"right": "iam:SimulatePrincipalPolicy"})


def test_roles_that_do_not_exist_are_left_to_other_checks(aws: ExactClients) -> None:
    lookups = build_lookups(aws.clients, None)
    for _ in list_questions(lookups):
        aws.expect_error("iam.simulate_principal_policy", "NoSuchEntity", "The role with name x cannot be found.")

    assert list(check_role_permissions(lookups)) == []


def test_any_other_error_of_the_simulator_becomes_a_warning(aws: ExactClients) -> None:
    aws.expect_error("iam.simulate_principal_policy", "PolicyEvaluation", "The request failed.")

    (finding,) = iter_findings([("role rights", check_role_permissions)], build_lookups(aws.clients))

    assert finding.level is FindingLevel.WARNING
    assert "PolicyEvaluation" in finding.message


def test_the_local_cloud_is_not_asked(aws: ExactClients) -> None:
    assert list(check_role_permissions(replace(build_lookups(aws.clients), is_local=True))) == []
