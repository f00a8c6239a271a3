"""The policies: what parliament and AWS's limits say of them, whether they suffice, and what they must not allow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import parliament
import pytest

from distributed_something.account.policies import (
    build_fleet_policy,
    build_instance_policy,
    build_log_export_statements,
    build_monitor_bucket_policy,
    build_monitor_policy,
    build_task_bucket_policy,
    build_task_policy,
)
from distributed_something.account.policy_documents import PolicyDocument, merge_statements, remove_statements
from distributed_something.account.setup_aws import Buckets, build_roles
from distributed_something.account.user_policies import build_administrator_policy, build_control_policies
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.core.names import EXPORT_PREFIX, AwsAccount, build_monitor_rule_name
from distributed_something.run.cleanup.export_logs import build_export_prefix
from tests.support import rights
from tests.support.fakes import MONITOR_FILE
from tests.support.rights import allows

PLACE = AwsAccount("111122223333", "us-east-1")
BUCKET = "app-bucket"
BUCKETS = Buckets(BUCKET, read=("public-images",), write=("results-bucket",))
ROLE_LIMIT = 10_240  # IAM: characters of all inline policies of a role, white space not counted
MANAGED_LIMIT = 6_144  # IAM: characters of a managed policy, white space not counted
# Which packages send requests for whom: setupAWS is a package of its own, and `worker` is what containers run.
COMMANDS = ("aws", "diagnose", "fleet", "jobs", "observe", "project", "results", "run")
AUTO_MONITOR = "distributed_something.run.auto_monitor"
SETUP_AWS = "distributed_something.account.setup_aws"
TASK = [build_task_policy(PLACE), build_task_bucket_policy(PLACE, BUCKET, write=True)]
MONITOR = [build_monitor_policy(PLACE), build_monitor_bucket_policy(PLACE, BUCKET)]
CONTROL = list(build_control_policies(PLACE, BUCKETS.all).values())
QUEUE = "arn:aws:sqs:us-east-1:111122223333:AppQueue"
LOGS = "arn:aws:logs:us-east-1:111122223333:log-group:App:log-stream:job"
MACHINE = "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0"
TEMPLATE = "arn:aws:ec2:us-east-1:111122223333:launch-template/lt-0123456789abcdef0"
VOLUME = "arn:aws:ec2:us-east-1:111122223333:volume/vol-0123456789abcdef0"
ALARM = "arn:aws:cloudwatch:us-east-1:111122223333:alarm:App_i-0123456789abcdef0"
ECS = "arn:aws:ecs:us-east-1:111122223333"
ECR = "arn:aws:ecr:us-east-1:111122223333:repository/worker"
APP: dict[str, Any] = {"aws__ResourceTag___app": "App"}


# Rights that no call in the source is named after, and why they are given.
_TAGGED_WHEN_MADE = ("ec2:CreateTags", "ecs:TagResource", "logs:TagResource", "events:TagResource", "iam:TagRole",
                     "iam:TagInstanceProfile", "lambda:TagResource", "cloudwatch:TagResource")  # fmt: skip
_BY_AWS = {
    "lambda:ListTags": "GetFunction tells tags only with it",
    "ec2:RunInstances": "what a Spot Fleet does for its user",
    "iam:PassRole": "roles that are handed to services",
    "ecs:GetTaskProtection": "ECS's agent calls it with the task's role",
    "ecs:UpdateTaskProtection": "ECS's agent calls it with the task's role",
    "logs:CreateLogStream": "Lambda calls it with the auto-monitor's role",
    "logs:PutLogEvents": "Lambda calls it with the auto-monitor's role",
}
# What each policy must allow though no call in the source says so: who it is for calls it, or AWS on its behalf.
_LOGS_OF_A_RUN = (
    ("logs:CreateLogStream", LOGS, APP), ("logs:PutLogEvents", LOGS, APP),
)  # fmt: skip
_IMAGE = (
    ("ecr:GetAuthorizationToken", "*", {}), ("ecr:BatchGetImage", ECR, {}),
    ("ecr:GetDownloadUrlForLayer", ECR, {}), ("ecr:BatchCheckLayerAvailability", ECR, {}),
)  # fmt: skip
_RULE = "arn:aws:events:us-east-1:111122223333:rule/distributed-something-App"
MUST: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "ecsInstanceRole/distributed-something": (
        ("ecs:DiscoverPollEndpoint", "*", {}),
        *((f"ecs:{call}", f"{ECS}:cluster/default", {}) for call in (
            "RegisterContainerInstance", "DeregisterContainerInstance", "SubmitTaskStateChange",
            "SubmitContainerStateChange", "SubmitAttachmentStateChanges")),
        *((f"ecs:{call}", f"{ECS}:container-instance/default/0123", {}) for call in (
            "Poll", "StartTelemetrySession", "UpdateContainerInstancesState")),
        *_IMAGE, *_LOGS_OF_A_RUN,
    ),
    "distributed-something-execution/distributed-something": (*_IMAGE, *_LOGS_OF_A_RUN),
    "aws-ec2-spot-fleet-tagging-role/distributed-something": (
        ("ec2:DescribeImages", "*", {}), ("ec2:DescribeSubnets", "*", {}), ("ec2:DescribeInstanceStatus", "*", {}),
        ("ec2:RequestSpotInstances", "arn:aws:ec2:us-east-1:111122223333:spot-instances-request/sir-1", {}),
        ("ec2:RunInstances", MACHINE, {}), ("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1", {}),
        ("ec2:RunInstances", TEMPLATE, {}),
        ("ec2:CreateTags", MACHINE, {}), ("ec2:CreateTags", VOLUME, {}),
        ("ec2:TerminateInstances", MACHINE, {"ec2__ResourceTag___aws__ec2spot__fleet-request-id": "sfr-1"}),
        ("iam:PassRole", PLACE.role("ecsInstanceRole"), {"iam__PassedToService": "ec2.amazonaws.com"}),
    ),
    "distributed-something-task/distributed-something": (
        *_LOGS_OF_A_RUN,
        ("ecs:UpdateTaskProtection", f"{ECS}:task/default/0123", {}),
        ("cloudwatch:TagResource", ALARM, {}),
    ),
    "distributed-something-monitor/distributed-something": (
        ("events:DeleteRule", _RULE, {}), ("events:RemoveTargets", _RULE, {}),
        ("ec2:DescribeInstances", "*", {}),
        ("ec2:DescribeSpotFleetInstances", "arn:aws:ec2:us-east-1:111122223333:spot-fleet-request/sfr-1", {}),
        ("logs:PutLogEvents",
         "arn:aws:logs:us-east-1:111122223333:log-group:/aws/lambda/distributed-something-monitor:log-stream:x", {}),
    ),
    "distributed-something-jobs": (
        ("logs:DescribeLogGroups", "*", {}),
        *((f"events:{call}", _RULE, {}) for call in ("PutRule", "PutTargets", "TagResource", "DeleteRule")),
        ("lambda:GetFunction", PLACE.function, {}),
    ),
    "distributed-something-machines": (
        ("ecs:TagResource", f"{ECS}:cluster/default", {"ecs__CreateAction": "CreateCluster"}),
        *(("ec2:CreateTags", made, {"ec2__CreateAction": "RunInstances"}) for made in (MACHINE, VOLUME)),
        ("ec2:CreateTags", TEMPLATE, {"ec2__CreateAction": "CreateLaunchTemplate"}),
        ("ec2:RunInstances", TEMPLATE, {}),
        *(("iam:PassRole", PLACE.role(role), {"iam__PassedToService": f"{service}.amazonaws.com"})
          for role, service in (
              ("distributed-something-task", "ecs-tasks"), ("distributed-something-execution", "ecs-tasks"),
              ("ecsInstanceRole", "ec2"), ("aws-ec2-spot-fleet-tagging-role", "spotfleet"))),
        ("servicequotas:GetServiceQuota", "*", {}),
    ),
    "administrator": (("iam:PassRole", PLACE.role("distributed-something-monitor"), {}),),
}  # fmt: skip
WITHOUT_A_CALL = {*_TAGGED_WHEN_MADE, *_BY_AWS}


def documents() -> dict[str, PolicyDocument]:
    """Every document by a name that a failed test can show."""
    found = {
        f"{role.name}/{name}": document
        for role in build_roles(PLACE, BUCKETS)
        for name, document in role.policies.items()
    }
    return (
        found
        | build_control_policies(PLACE, BUCKETS.all)
        | {"administrator": build_administrator_policy(PLACE, BUCKETS.all)}
    )


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, document in documents().items():
        yield from ((name, statement) for statement in document["Statement"])


def actions(documents: list[PolicyDocument]) -> set[str]:
    return {action for document in documents for one in document["Statement"] for action in one["Action"]}


def _called() -> set[str]:
    """The rights of all calls that there are in the code."""
    return set(rights.needed(rights.modules_of(*COMMANDS, "account", "worker")))


def size(document: PolicyDocument) -> int:
    return len("".join(json.dumps(document, separators=(",", ":")).split()))


# What others say of them


@pytest.mark.parametrize("name", documents())
def test_parliament_finds_nothing(name: str) -> None:
    found = parliament.analyze_policy_string(json.dumps(documents()[name])).findings

    # Who may write a bucket's policy could let himself in by it: that is what an administrator is trusted with.
    allowed = {"RESOURCE_POLICY_PRIVILEGE_ESCALATION"} if name == "administrator" else set()
    assert [f"{one.issue}: {one.detail}" for one in found if one.issue not in allowed] == []


def test_inline_policies_fit_their_roles_with_the_longest_names_of_six_buckets() -> None:
    names = tuple(f"{n}{'b' * 62}" for n in range(5))
    for role in build_roles(PLACE, Buckets(f"9{'b' * 62}", write=names)):
        assert sum(size(document) for document in role.policies.values()) <= ROLE_LIMIT, role.name


def test_a_users_policies_fit_managed_ones_with_ten_buckets() -> None:
    for name, document in build_control_policies(PLACE, [f"{n:063}" for n in range(10)]).items():
        assert size(document) <= MANAGED_LIMIT, name
    assert size(build_administrator_policy(PLACE, [f"{n:063}" for n in range(10)])) <= MANAGED_LIMIT


def test_no_right_is_given_by_a_wildcard() -> None:
    for name, statement in statements():
        assert not [action for action in statement["Action"] if "*" in action], f"{name}: {statement['Sid']}"


def test_no_statement_says_what_another_of_its_policy_says_already() -> None:
    for name, document in documents().items():
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(sids)) == len(sids), name
        said = [
            (action, resource, json.dumps(statement.get("Condition")))
            for statement in document["Statement"]
            for action in statement["Action"]
            for resource in (
                [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
            )
        ]
        assert len(set(said)) == len(said), name


def test_a_right_that_aws_can_narrow_to_the_account_is_narrowed() -> None:
    for name, statement in statements():
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for resource in resources:
            public = resource.startswith(("arn:aws:s3:::", "arn:aws:ssm:*:*:parameter/aws/service/",
                                          "arn:aws:ec2:*:*:image/", "arn:aws:ec2:*:*:snapshot/"))  # fmt: skip
            assert resource == "*" or public or ":111122223333:" in resource, f"{name}: {statement['Sid']}"


# They suffice


def needed_by_setup_aws() -> dict[str, str]:
    """Of the package, and of what its command reaches in others."""
    return rights.needed(rights.modules_of("account")) | rights.needed_from(SETUP_AWS)


def test_a_users_rights_are_enough_for_every_call_of_the_commands() -> None:
    needed = rights.needed(rights.modules_of(*COMMANDS))

    assert len(needed) > 30, "calls are no longer found"
    assert {right: where for right, where in needed.items() if right not in actions(CONTROL)} == {}


def test_an_administrators_rights_are_enough_for_every_call_of_setup_aws() -> None:
    needed = needed_by_setup_aws()

    given = actions([build_administrator_policy(PLACE, BUCKETS.all)])
    assert len(needed) > 25, "calls are no longer found"
    assert {right: where for right, where in needed.items() if right not in given} == {}


def test_the_auto_monitors_rights_are_enough_for_every_call_it_can_come_to() -> None:
    needed = rights.needed_from(AUTO_MONITOR)

    assert len(needed) > 30, "calls are no longer found"
    assert {right: where for right, where in needed.items() if right not in actions(MONITOR)} == {}


def test_a_containers_rights_are_enough_for_every_call_of_the_worker() -> None:
    needed = rights.needed(rights.modules_of("worker"))

    assert {"sqs:ReceiveMessage", "s3:PutObject", "logs:PutLogEvents"} <= needed.keys(), "calls are no longer found"
    assert {right: where for right, where in needed.items() if right not in actions(TASK)} == {}


@pytest.mark.parametrize(
    ("name", "action", "resource", "context"), [(name, *one) for name in MUST for one in MUST[name]]
)
def test_a_policy_allows_what_aws_does_on_its_behalf(
    name: str, action: str, resource: str, context: dict[str, Any]
) -> None:
    assert allows([documents()[name]], action, resource, **context)


def test_every_statement_is_missed_once_it_is_taken_away() -> None:
    called = _called()
    for name, document in documents().items():
        bucket = {"s3:ListBucket", "s3:GetObject", "s3:PutObject"} if "-bucket" in name or "images" in name else set()
        needed = actions([document]) & (called | bucket)
        for statement in document["Statement"]:
            rest = [document | {"Statement": [one for one in document["Statement"] if one is not statement]}]
            refused = [one for one in MUST.get(name, ()) if not allows(rest, one[0], one[1], **one[2])]
            assert refused or needed - actions(rest), f"{name}: nothing needs {statement['Sid']}"


@pytest.mark.parametrize("who", ["a user", "setupAWS", "the auto-monitor", "a container"])
def test_no_right_is_given_that_nothing_needs(who: str) -> None:
    given, needed = {
        "a user": (CONTROL, rights.needed(rights.modules_of(*COMMANDS))),
        "setupAWS": ([build_administrator_policy(PLACE, [BUCKET])], needed_by_setup_aws()),
        "the auto-monitor": (MONITOR, rights.needed_from(AUTO_MONITOR)),
        "a container": (TASK, rights.needed(rights.modules_of("worker"))),
    }[who]

    assert actions(given) - needed.keys() - WITHOUT_A_CALL == set()


@pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "SendMessage"])
def test_a_worker_may_use_the_queues_of_apps(action: str) -> None:
    assert allows(TASK, f"sqs:{action}", QUEUE, **APP)


def test_a_worker_may_do_what_its_machine_needs() -> None:
    assert allows(TASK, "logs:PutLogEvents", LOGS, **APP)
    ends = "arn:aws:automate:us-east-1:ec2:terminate"
    assert allows(TASK, "cloudwatch:PutMetricAlarm", ALARM, cloudwatch__AlarmActions=[ends])
    task = "arn:aws:ecs:us-east-1:111122223333:task/default/0123"
    assert allows(TASK, "ecs:UpdateTaskProtection", task)
    assert allows(TASK, "s3:PutObject", f"arn:aws:s3:::{BUCKET}/runs/App/x.json")
    assert allows(TASK, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")


def test_the_auto_monitor_may_use_the_objects_of_a_run() -> None:
    run = MONITOR_FILE
    for action, key in (
        ("s3:GetObject", build_monitor_file_key(run.MONITOR_APP_NAME)),
        ("s3:GetObject", f"{run.keys.jobs}job.json"),
        ("s3:GetObject", run.keys.history),
        ("s3:PutObject", run.keys.history),
        ("s3:PutObject", run.keys.closed),
    ):
        assert allows(MONITOR, action, f"arn:aws:s3:::{BUCKET}/{key}"), (action, key)
    assert not allows(MONITOR, "s3:GetObject", f"arn:aws:s3:::{BUCKET}/images/x")


def test_an_object_that_is_not_there_is_told_as_missing_not_as_forbidden() -> None:
    """S3 answers 404 only to those who may list the bucket, and such a request names no prefix."""
    for documents in (MONITOR, TASK, CONTROL):
        assert allows(documents, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")


def test_the_log_export_writes_where_the_buckets_policy_lets_it() -> None:
    assert build_export_prefix(MONITOR_FILE).startswith(f"{EXPORT_PREFIX}/")


def test_setup_can_tell_a_queue_that_is_not_there_from_one_that_is_forbidden() -> None:
    """A thing that does not exist has no tag: with a condition on it AWS would answer AccessDenied."""
    for documents in (CONTROL, MONITOR):
        assert allows(documents, "sqs:GetQueueUrl", QUEUE)
        assert allows(
            documents, "ecs:DescribeServices", "arn:aws:ecs:us-east-1:111122223333:service/default/AppService"
        )


def test_a_user_may_make_what_carries_known_tags() -> None:
    assert allows(CONTROL, "sqs:CreateQueue", QUEUE, aws__TagKeys=["app"])
    assert not allows(CONTROL, "sqs:CreateQueue", QUEUE, aws__TagKeys=["app", "cost-center"])
    fleet = "arn:aws:ec2:us-east-1:111122223333:spot-fleet-request/sfr-1"
    assert allows(CONTROL, "ec2:RequestSpotFleet", fleet)
    assert allows(CONTROL, "ec2:CreateTags", fleet, ec2__CreateAction="RequestSpotFleet")


# What they must not allow


@pytest.mark.parametrize(
    "action",
    ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage", "sqs:DeleteQueue", "sqs:SetQueueAttributes"],
)
def test_nobody_may_touch_a_queue_that_is_no_apps(action: str) -> None:
    for documents in (TASK, MONITOR, CONTROL):
        assert not allows(documents, action, QUEUE)


@pytest.mark.parametrize("action", ["ec2:TerminateInstances", "ec2:CancelSpotFleetRequests", "ecs:DeleteCluster"])
def test_nobody_may_end_what_is_no_apps(action: str) -> None:
    things = (MACHINE, "arn:aws:ec2:us-east-1:111122223333:spot-fleet-request/sfr-1",
              "arn:aws:ecs:us-east-1:111122223333:cluster/default")  # fmt: skip
    for documents in (MONITOR, CONTROL):
        assert any(allows(documents, action, thing, **APP) for thing in things)
        assert not any(allows(documents, action, thing) for thing in things)


def test_a_worker_never_deletes_and_never_leaves_its_buckets() -> None:
    assert not [action for action in actions(TASK) if action.startswith("s3:Delete")]
    assert not allows(TASK, "s3:GetObject", "arn:aws:s3:::another-bucket/x")
    reading = [build_task_bucket_policy(PLACE, "public-images", write=False)]
    assert allows(reading, "s3:GetObject", "arn:aws:s3:::public-images/x")
    assert not allows(reading, "s3:PutObject", "arn:aws:s3:::public-images/x")


def test_a_workers_alarm_can_do_nothing_but_end_a_machine() -> None:
    for alarm, does in ((ALARM, "arn:aws:sns:us-east-1:111122223333:topic"), (ALARM, "arn:aws:lambda:us-east-1:1:f"),
                        (ALARM.replace("App_i-", "Billing"), "arn:aws:automate:us-east-1:ec2:terminate")):  # fmt: skip
        assert not allows(TASK, "cloudwatch:PutMetricAlarm", alarm, cloudwatch__AlarmActions=[does])


def test_a_worker_does_nothing_in_ec2() -> None:
    assert not [action for action in actions(TASK) if action.startswith("ec2:")]


def test_a_user_adds_a_version_to_the_launch_templates_of_runs_alone() -> None:
    assert allows(CONTROL, "ec2:CreateLaunchTemplateVersion", TEMPLATE, **APP)
    assert not allows(CONTROL, "ec2:CreateLaunchTemplateVersion", TEMPLATE)


def test_only_a_user_passes_roles_and_only_to_the_services_that_take_them() -> None:
    assert "iam:PassRole" not in actions(TASK) | actions(MONITOR) | actions([build_instance_policy(PLACE)])
    role = PLACE.role("distributed-something-task")
    assert allows(CONTROL, "iam:PassRole", role, iam__PassedToService="ecs-tasks.amazonaws.com")
    assert not allows(CONTROL, "iam:PassRole", role, iam__PassedToService="lambda.amazonaws.com")
    monitor = PLACE.role("distributed-something-monitor")
    assert not allows(CONTROL, "iam:PassRole", monitor, iam__PassedToService="ec2.amazonaws.com")


def test_a_fleet_ends_only_the_machines_of_fleets() -> None:
    fleet = [build_fleet_policy(PLACE)]
    assert not allows(fleet, "ec2:TerminateInstances", MACHINE, **APP)
    tag = {"ec2:ResourceTag/aws:ec2spot:fleet-request-id".replace("/", "___").replace(":", "__"): "sfr-1"}
    assert allows(fleet, "ec2:TerminateInstances", MACHINE, **tag)


def test_a_fleet_tags_whatever_a_launch_template_may_tag() -> None:
    """EC2's API reference, LaunchTemplateTagSpecificationRequest: of a tag that may not be made no machine starts."""
    for kind in ("instance", "volume", "network-interface", "spot-instances-request"):
        arn = f"arn:aws:ec2:us-east-1:111122223333:{kind}/x-1"
        assert allows([build_fleet_policy(PLACE)], "ec2:CreateTags", arn), kind


def test_the_log_export_may_write_for_this_account_and_below_its_prefix_only() -> None:
    look, write = build_log_export_statements(PLACE, BUCKET)

    assert look["Principal"] == write["Principal"] == {"Service": "logs.us-east-1.amazonaws.com"}
    assert (look["Action"], look["Resource"]) == ("s3:GetBucketAcl", "arn:aws:s3:::app-bucket")
    assert (write["Action"], write["Resource"]) == ("s3:PutObject", "arn:aws:s3:::app-bucket/exportedlogs/*")
    for statement in (look, write):
        assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == "111122223333"
        assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": "arn:aws:logs:us-east-1:111122223333:log-group:*"}


# Small things


def test_other_statements_survive_merging_and_taking_out() -> None:
    ours = build_log_export_statements(PLACE, BUCKET)
    theirs = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}

    merged = merge_statements({"Version": "2008-10-17", "Id": "x", "Statement": theirs}, ours)

    assert merged == {"Version": "2008-10-17", "Id": "x", "Statement": [theirs, *ours]}
    assert merge_statements(merged, ours) == merged
    assert remove_statements(merged, ours) == {"Version": "2008-10-17", "Id": "x", "Statement": [theirs]}
    assert remove_statements(merge_statements(None, ours), ours) is None


def test_rules_of_apps_with_long_names_are_short_and_differ() -> None:
    names = {build_monitor_rule_name("A" * 79 + last) for last in "AB"} | {build_monitor_rule_name("App")}

    assert len(names) == 3
    assert all(len(name) <= 64 and name.startswith("distributed-something-") for name in names)


def test_china_has_arns_of_its_own() -> None:
    place = AwsAccount("111122223333", "cn-north-1", "aws-cn")
    for role in build_roles(place, BUCKETS):
        assert "arn:aws:" not in json.dumps(role.policies)
    logs = {"Service": "logs.cn-north-1.amazonaws.com.cn"}
    assert [one["Principal"] for one in build_log_export_statements(place, BUCKET)] == [logs, logs]
