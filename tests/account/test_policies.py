"""The policies: valid, within AWS's limits, sufficient for every call, and as small as possible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import parliament
import pytest

from distributed_something.account.bucket_key import BucketKey
from distributed_something.account.policies import (
    build_fleet_policy,
    build_instance_policy,
    build_log_export_statements,
    build_monitor_bucket_policy,
    build_monitor_policy,
    build_task_bucket_policy,
    build_task_policy,
    build_topic_policy,
)
from distributed_something.account.policy_documents import PolicyDocument, merge_statements, remove_statements
from distributed_something.account.setup_aws import Buckets, build_roles
from distributed_something.account.user_policies import build_administrator_policy, build_control_policies
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.core.names import EXPORT_PREFIX, AwsAccount, build_monitor_rule_name
from distributed_something.run.cleanup.export_logs import build_export_prefix
from tests.support import permissions
from tests.support.fakes import MONITOR_FILE
from tests.support.permissions import is_allowed

ACCOUNT = AwsAccount("111122223333", "us-east-1")
BUCKET = "app-bucket"
BUCKETS = Buckets(BUCKET, read=("public-images",), write=("results-bucket",))
MAX_ROLE_CHARACTERS = 10_240  # IAM's limit for all inline policies of a role, without white space
MAX_MANAGED_CHARACTERS = 6_144  # IAM's limit for a managed policy, without white space
# The packages that send requests for users. setupAWS is the package `account`, and containers run `worker`.
COMMANDS = ("aws", "diagnose", "fleet", "jobs", "observe", "project", "results", "run")
# `check` uses them too
ACCOUNT_FILES = [permissions.PACKAGE / "account" / name for name in ("bucket_key.py", "topic/find_topic.py")]
AUTO_MONITOR = "distributed_something.run.auto_monitor"
SETUP_AWS = "distributed_something.account.setup_aws"
TASK = [build_task_policy(ACCOUNT), build_task_bucket_policy(ACCOUNT, BUCKET, write=True)]
TOPIC = ACCOUNT.topic()
MONITOR = [build_monitor_policy(ACCOUNT), build_monitor_bucket_policy(ACCOUNT, BUCKET), build_topic_policy(TOPIC)]
KEY, SOURCE_KEY = (f"arn:aws:kms:us-east-1:111122223333:key/{number:036}" for number in (1, 2))
KEYS = [BucketKey(BUCKET, KEY), BucketKey("public-images", SOURCE_KEY), BucketKey("results-bucket", problem="hidden")]
CONTROL = list(build_control_policies(ACCOUNT, BUCKETS.all, [KEY, SOURCE_KEY], TOPIC).values())
QUEUE = "arn:aws:sqs:us-east-1:111122223333:AppQueue"
LOGS = "arn:aws:logs:us-east-1:111122223333:log-group:App:log-stream:job"
MACHINE = "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0"
TEMPLATE = "arn:aws:ec2:us-east-1:111122223333:launch-template/lt-0123456789abcdef0"
VOLUME = "arn:aws:ec2:us-east-1:111122223333:volume/vol-0123456789abcdef0"
ALARM = "arn:aws:cloudwatch:us-east-1:111122223333:alarm:App_i-0123456789abcdef0"
ECS = "arn:aws:ecs:us-east-1:111122223333"
ECR = "arn:aws:ecr:us-east-1:111122223333:repository/worker"
APP: dict[str, Any] = {"aws__ResourceTag___app": "App"}


# Permissions whose names match no call in the source, with the reason why they are granted.
_TAGGED_AT_CREATION = ("ec2:CreateTags", "ecs:TagResource", "logs:TagResource", "events:TagResource", "iam:TagRole",
                     "iam:TagInstanceProfile", "lambda:TagResource", "cloudwatch:TagResource",
                     "sns:TagResource")  # fmt: skip
_BY_AWS = {
    "lambda:ListTags": "GetFunction needs it to return tags",
    "ec2:RunInstances": "a Spot Fleet calls it on the user's behalf",
    "iam:PassRole": "needed to pass roles to services",
    "ecs:GetTaskProtection": "ECS's agent calls it with the task's role",
    "ecs:UpdateTaskProtection": "ECS's agent calls it with the task's role",
    "logs:CreateLogStream": "Lambda calls it with the auto-monitor's role",
    "logs:PutLogEvents": "Lambda calls it with the auto-monitor's role",
    "kms:Decrypt": "S3 calls it on the caller's behalf",
    "kms:GenerateDataKey": "S3 calls it on the caller's behalf",
}
# What each policy must allow for calls that are not in the source, because the user or AWS makes them.
_RUN_LOGS = (
    ("logs:CreateLogStream", LOGS, APP), ("logs:PutLogEvents", LOGS, APP),
)  # fmt: skip
_IMAGE = (
    ("ecr:GetAuthorizationToken", "*", {}), ("ecr:BatchGetImage", ECR, {}),
    ("ecr:GetDownloadUrlForLayer", ECR, {}), ("ecr:BatchCheckLayerAvailability", ECR, {}),
)  # fmt: skip
_RULE = "arn:aws:events:us-east-1:111122223333:rule/distributed-something-App"
REQUIRED: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "ecsInstanceRole/distributed-something": (
        ("ecs:DiscoverPollEndpoint", "*", {}),
        *((f"ecs:{call}", f"{ECS}:cluster/default", {}) for call in (
            "RegisterContainerInstance", "DeregisterContainerInstance", "SubmitTaskStateChange",
            "SubmitContainerStateChange", "SubmitAttachmentStateChanges")),
        *((f"ecs:{call}", f"{ECS}:container-instance/default/0123", {}) for call in (
            "Poll", "StartTelemetrySession", "UpdateContainerInstancesState")),
        *_IMAGE, *_RUN_LOGS,
    ),
    "distributed-something-execution/distributed-something": (*_IMAGE, *_RUN_LOGS),
    "aws-ec2-spot-fleet-tagging-role/distributed-something": (
        ("ec2:DescribeImages", "*", {}), ("ec2:DescribeSubnets", "*", {}), ("ec2:DescribeInstanceStatus", "*", {}),
        ("ec2:RequestSpotInstances", "arn:aws:ec2:us-east-1:111122223333:spot-instances-request/sir-1", {}),
        ("ec2:RunInstances", MACHINE, {}), ("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1", {}),
        ("ec2:RunInstances", TEMPLATE, {}),
        ("ec2:CreateTags", MACHINE, {}), ("ec2:CreateTags", VOLUME, {}),
        ("ec2:TerminateInstances", MACHINE, {"ec2__ResourceTag___aws__ec2spot__fleet-request-id": "sfr-1"}),
        ("iam:PassRole", ACCOUNT.role("ecsInstanceRole"), {"iam__PassedToService": "ec2.amazonaws.com"}),
    ),
    "distributed-something-task/distributed-something": (
        *_RUN_LOGS,
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
        *((action, key, {}) for action in ("kms:Decrypt", "kms:GenerateDataKey") for key in (KEY, SOURCE_KEY)),
        *((f"events:{call}", _RULE, {}) for call in ("PutRule", "PutTargets", "TagResource", "DeleteRule")),
        ("lambda:GetFunction", ACCOUNT.function, {}),
    ),
    "distributed-something-machines": (
        ("ecs:TagResource", f"{ECS}:cluster/default", {"ecs__CreateAction": "CreateCluster"}),
        *(("ec2:CreateTags", made, {"ec2__CreateAction": "RunInstances"}) for made in (MACHINE, VOLUME)),
        ("ec2:CreateTags", TEMPLATE, {"ec2__CreateAction": "CreateLaunchTemplate"}),
        ("ec2:RunInstances", TEMPLATE, {}),
        *(("iam:PassRole", ACCOUNT.role(role), {"iam__PassedToService": f"{service}.amazonaws.com"})
          for role, service in (
              ("distributed-something-task", "ecs-tasks"), ("distributed-something-execution", "ecs-tasks"),
              ("ecsInstanceRole", "ec2"), ("aws-ec2-spot-fleet-tagging-role", "spotfleet"))),
        ("servicequotas:GetServiceQuota", "*", {}),
    ),
    "distributed-something-monitor/distributed-something-app-bucket": (
        ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/{EXPORT_PREFIX}/App/1/task/stream.gz", {}),
    ),
    **{f"distributed-something-{role}/distributed-something-{BUCKET}-key": (
        ("kms:Decrypt", KEY, {}), ("kms:GenerateDataKey", KEY, {})) for role in ("task", "monitor")},
    "distributed-something-task/distributed-something-public-images-key": (("kms:Decrypt", SOURCE_KEY, {}),),
    "administrator": (
        ("iam:PassRole", ACCOUNT.role("distributed-something-monitor"),
         {"iam__PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", ACCOUNT.role("ecsInstanceRole"), {}),
    ),
}  # fmt: skip
WITHOUT_A_CALL = {*_TAGGED_AT_CREATION, *_BY_AWS}


def build_all_documents() -> dict[str, PolicyDocument]:
    """Return every policy document, keyed by role/policy or by the name of a managed policy."""
    role_policies = {
        f"{role.name}/{name}": document
        for role in build_roles(ACCOUNT, BUCKETS, KEYS)
        for name, document in role.policies.items()
    }
    return (
        role_policies
        | build_control_policies(ACCOUNT, BUCKETS.all, [KEY, SOURCE_KEY], TOPIC)
        | {"administrator": build_administrator_policy(ACCOUNT, BUCKETS.all)}
        | {"topic": build_topic_policy(TOPIC)}
    )


def iter_statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, document in build_all_documents().items():
        yield from ((name, statement) for statement in document["Statement"])


def list_actions(documents: list[PolicyDocument]) -> set[str]:
    return {action for document in documents for statement in document["Statement"] for action in statement["Action"]}


def list_needed_actions() -> set[str]:
    """Return the permissions that the calls in the source need."""
    return set(permissions.find_permissions(permissions.list_source_files(*COMMANDS, "account", "worker")))


def count_characters(document: PolicyDocument) -> int:
    return len("".join(json.dumps(document, separators=(",", ":")).split()))


# Validity and limits


@pytest.mark.parametrize("name", build_all_documents())
def test_parliament_has_no_findings(name: str) -> None:
    findings = parliament.analyze_policy_string(json.dumps(build_all_documents()[name])).findings

    # Administrators may write bucket policies, so they could grant themselves access. We trust them.
    allowed = {"RESOURCE_POLICY_PRIVILEGE_ESCALATION"} if name == "administrator" else set()
    texts = [f"{finding.issue}: {finding.detail}" for finding in findings if finding.issue not in allowed]
    # Its data say that ListTasks can be limited to resources, which AWS does only for calls with a container instance.
    assert [text for text in texts if text != "RESOURCE_STAR: ['ecs:ListTasks']"] == []


@pytest.mark.parametrize(
    "name", ["distributed-something-monitor/distributed-something", "distributed-something-machines"]
)
def test_listing_the_tasks_of_a_service_is_allowed_on_any_resource(name: str) -> None:
    """AWS authorizes ListTasks on `*` unless the call names a container instance."""
    statements = build_all_documents()[name]["Statement"]
    assert [each["Resource"] for each in statements if "ecs:ListTasks" in each["Action"]] == ["*"]


def test_inline_policies_are_within_the_limit_with_six_buckets_that_have_the_longest_names() -> None:
    names = tuple(f"{number}{'b' * 62}" for number in range(5))
    keys = [BucketKey(name, KEY) for name in (f"9{'b' * 62}", *names)]
    for role in build_roles(ACCOUNT, Buckets(f"9{'b' * 62}", write=names), keys):
        assert sum(count_characters(document) for document in role.policies.values()) <= MAX_ROLE_CHARACTERS, role.name


def test_user_and_administrator_policies_are_within_the_limit_with_ten_buckets() -> None:
    keys = [f"arn:aws:kms:us-gov-west-1:111122223333:key/{number:036}" for number in range(10)]
    for name, document in build_control_policies(
        ACCOUNT, [f"{number:063}" for number in range(10)], keys, TOPIC
    ).items():
        assert count_characters(document) <= MAX_MANAGED_CHARACTERS, name
    assert (
        count_characters(build_administrator_policy(ACCOUNT, [f"{number:063}" for number in range(10)]))
        <= MAX_MANAGED_CHARACTERS
    )


def test_no_action_has_a_wildcard() -> None:
    for name, statement in iter_statements():
        assert not [action for action in statement["Action"] if "*" in action], f"{name}: {statement['Sid']}"


def test_no_statement_repeats_another_statement_in_its_policy() -> None:
    for name, document in build_all_documents().items():
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(sids)) == len(sids), name
        grants = [
            (action, resource, json.dumps(statement.get("Condition")))
            for statement in document["Statement"]
            for action in statement["Action"]
            for resource in (
                [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
            )
        ]
        assert len(set(grants)) == len(grants), name


def test_resources_are_limited_to_the_account_unless_they_are_public() -> None:
    for name, statement in iter_statements():
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for resource in resources:
            is_public = resource.startswith(("arn:aws:s3:::", "arn:aws:ssm:*:*:parameter/aws/service/",
                                          "arn:aws:ec2:*:*:image/", "arn:aws:ec2:*:*:snapshot/"))  # fmt: skip
            # Another account can own and share these.
            is_public |= resource in {f"arn:aws:ec2:*:*:{kind}/*" for kind in ("subnet", "security-group", "vpc")}
            assert resource == "*" or is_public or ":111122223333:" in resource, f"{name}: {statement['Sid']}"


# The policies are sufficient


def list_actions_of_setup_aws() -> dict[str, str]:
    """Return the permissions that the package `account` and the modules it calls need."""
    return permissions.find_permissions(
        permissions.list_source_files("account")
    ) | permissions.find_reachable_permissions(SETUP_AWS)


def test_users_have_the_permissions_for_every_call_the_commands_make() -> None:
    needed = permissions.find_permissions([*permissions.list_source_files(*COMMANDS), *ACCOUNT_FILES])

    assert len(needed) > 30, "the search no longer finds the calls"
    assert {action: where for action, where in needed.items() if action not in list_actions(CONTROL)} == {}


def test_administrators_have_the_permissions_for_every_call_setup_aws_makes() -> None:
    needed = list_actions_of_setup_aws()

    granted = list_actions([build_administrator_policy(ACCOUNT, BUCKETS.all)])
    assert len(needed) > 25, "the search no longer finds the calls"
    assert {action: where for action, where in needed.items() if action not in granted} == {}


def test_the_auto_monitor_has_the_permissions_for_every_call_it_can_make() -> None:
    needed = permissions.find_reachable_permissions(AUTO_MONITOR)

    assert len(needed) > 30, "the search no longer finds the calls"
    assert {action: where for action, where in needed.items() if action not in list_actions(MONITOR)} == {}


def test_containers_have_the_permissions_for_every_call_the_worker_makes() -> None:
    needed = permissions.find_permissions(permissions.list_source_files("worker"))

    assert {"sqs:ReceiveMessage", "s3:PutObject", "logs:PutLogEvents"} <= needed.keys(), (
        "the search no longer finds the calls"
    )
    assert {action: where for action, where in needed.items() if action not in list_actions(TASK)} == {}


@pytest.mark.parametrize(
    ("name", "action", "resource", "context"), [(name, *request) for name in REQUIRED for request in REQUIRED[name]]
)
def test_a_policy_allows_the_calls_that_are_not_in_the_source(
    name: str, action: str, resource: str, context: dict[str, Any]
) -> None:
    assert is_allowed([build_all_documents()[name]], action, resource, **context)


def test_no_statement_can_be_removed() -> None:
    needed_by_code = list_needed_actions()
    for name, document in build_all_documents().items():
        bucket_actions = (
            {"s3:ListBucket", "s3:GetObject", "s3:PutObject"} if "-bucket" in name or "images" in name else set()
        )
        needed = list_actions([document]) & (needed_by_code | bucket_actions)
        for statement in document["Statement"]:
            remaining = [kept for kept in document["Statement"] if kept is not statement]
            reduced = [document | {"Statement": remaining}]
            required = REQUIRED.get(name, ())
            is_required = not all(
                is_allowed(reduced, action, resource, **context) for action, resource, context in required
            )
            assert is_required or needed - list_actions(reduced), f"{name}: nothing needs {statement['Sid']}"


@pytest.mark.long
@pytest.mark.parametrize("owner", ["a user", "setupAWS", "the auto-monitor", "a container"])
def test_every_granted_permission_is_needed(owner: str) -> None:
    granted, needed = {
        "a user": (CONTROL, permissions.find_permissions([*permissions.list_source_files(*COMMANDS), *ACCOUNT_FILES])),
        "setupAWS": ([build_administrator_policy(ACCOUNT, [BUCKET])], list_actions_of_setup_aws()),
        "the auto-monitor": (MONITOR, permissions.find_reachable_permissions(AUTO_MONITOR)),
        "a container": (TASK, permissions.find_permissions(permissions.list_source_files("worker"))),
    }[owner]

    assert list_actions(granted) - needed.keys() - WITHOUT_A_CALL == set()


@pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "SendMessage"])
def test_a_worker_may_use_queues_that_have_the_tag_app(action: str) -> None:
    assert is_allowed(TASK, f"sqs:{action}", QUEUE, **APP)


def test_a_worker_may_only_send_jobs_to_a_queue_that_several_apps_share() -> None:
    shared = {"aws__ResourceTag___app": "shared"}
    assert is_allowed(TASK, "sqs:SendMessage", QUEUE, **shared)
    for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"):
        assert not is_allowed(TASK, f"sqs:{action}", QUEUE, **shared), action


@pytest.mark.parametrize("action", ["DeleteQueue", "SetQueueAttributes", "PurgeQueue", "ReceiveMessage", "SendMessage"])
def test_nobody_may_change_delete_or_empty_a_queue_that_several_apps_share(action: str) -> None:
    for documents in (MONITOR, CONTROL):
        assert not is_allowed(documents, f"sqs:{action}", QUEUE, aws__ResourceTag___app="shared")


@pytest.mark.parametrize("tags", [{}, APP, {"aws__ResourceTag___app": "shared"}])
def test_everyone_may_see_who_uses_a_dead_letter_queue(tags: dict[str, Any]) -> None:
    for action in ("GetQueueAttributes", "GetQueueUrl", "ListDeadLetterSourceQueues", "ListQueueTags"):
        assert is_allowed(CONTROL, f"sqs:{action}", QUEUE, **tags)
        assert is_allowed(MONITOR, f"sqs:{action}", QUEUE, **tags)


def test_the_auto_monitor_may_not_receive_messages_and_users_only_those_of_an_apps_own_queue() -> None:
    """`submitJob --replace` receives and deletes the jobs that wait."""
    assert list_actions(MONITOR) & {"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"} == set()
    assert "sqs:ChangeMessageVisibility" not in list_actions(CONTROL)
    assert is_allowed(CONTROL, "sqs:ReceiveMessage", QUEUE, **APP)
    assert not is_allowed(CONTROL, "sqs:ReceiveMessage", QUEUE, aws__ResourceTag__app="shared")


def test_a_user_may_tag_an_untagged_queue_as_shared() -> None:
    assert is_allowed(CONTROL, "sqs:TagQueue", QUEUE, aws__TagKeys=["app"])


def test_a_worker_may_write_logs_alarms_task_protection_and_objects() -> None:
    assert is_allowed(TASK, "logs:PutLogEvents", LOGS, **APP)
    terminate_action = "arn:aws:automate:us-east-1:ec2:terminate"
    assert is_allowed(TASK, "cloudwatch:PutMetricAlarm", ALARM, cloudwatch__AlarmActions=[terminate_action])
    task = "arn:aws:ecs:us-east-1:111122223333:task/default/0123"
    assert is_allowed(TASK, "ecs:UpdateTaskProtection", task)
    assert is_allowed(TASK, "s3:PutObject", f"arn:aws:s3:::{BUCKET}/runs/App/x.json")
    assert is_allowed(TASK, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")


def test_the_auto_monitor_may_use_a_runs_objects() -> None:
    keys = MONITOR_FILE.keys
    for action, key in (
        ("s3:GetObject", build_monitor_file_key(MONITOR_FILE.MONITOR_APP_NAME)),
        ("s3:GetObject", f"{keys.jobs}job.json"),
        ("s3:GetObject", keys.history),
        ("s3:PutObject", keys.history),
        ("s3:PutObject", keys.closed),
    ):
        assert is_allowed(MONITOR, action, f"arn:aws:s3:::{BUCKET}/{key}"), (action, key)
    assert not is_allowed(MONITOR, "s3:GetObject", f"arn:aws:s3:::{BUCKET}/images/x")


def test_a_user_may_keep_and_find_a_runs_monitor_file() -> None:
    file = f"arn:aws:s3:::{BUCKET}/{MONITOR_FILE.keys.monitor_file}"
    assert is_allowed(CONTROL, "s3:PutObject", file)
    assert is_allowed(CONTROL, "s3:GetObject", file)
    assert is_allowed(CONTROL, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")


def test_s3_reports_that_a_missing_object_does_not_exist() -> None:
    """S3 returns 404 instead of 403 only to callers who may list the bucket without a condition on the prefix."""
    for documents in (MONITOR, TASK, CONTROL):
        assert is_allowed(documents, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")


def test_the_log_export_writes_under_the_prefix_that_the_bucket_policy_allows() -> None:
    assert build_export_prefix(MONITOR_FILE).startswith(f"{EXPORT_PREFIX}/")


def test_aws_reports_that_a_missing_queue_or_service_does_not_exist() -> None:
    """A resource that does not exist has no tags. If the policy had a tag condition, AWS would return AccessDenied."""
    for documents in (CONTROL, MONITOR):
        assert is_allowed(documents, "sqs:GetQueueUrl", QUEUE)
        assert is_allowed(
            documents, "ecs:DescribeServices", "arn:aws:ecs:us-east-1:111122223333:service/default/AppService"
        )


def test_a_user_may_create_resources_only_with_our_tag_keys() -> None:
    assert is_allowed(CONTROL, "sqs:CreateQueue", QUEUE, aws__TagKeys=["app"])
    assert not is_allowed(CONTROL, "sqs:CreateQueue", QUEUE, aws__TagKeys=["app", "cost-center"])
    fleet = "arn:aws:ec2:us-east-1:111122223333:spot-fleet-request/sfr-1"
    assert is_allowed(CONTROL, "ec2:RequestSpotFleet", fleet)
    assert is_allowed(CONTROL, "ec2:CreateTags", fleet, ec2__CreateAction="RequestSpotFleet")


# What the policies must not allow


@pytest.mark.parametrize(
    "action",
    ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage", "sqs:DeleteQueue", "sqs:SetQueueAttributes"],
)
def test_nobody_may_use_a_queue_without_the_tag_app(action: str) -> None:
    for documents in (TASK, MONITOR, CONTROL):
        assert not is_allowed(documents, action, QUEUE)


@pytest.mark.parametrize("action", ["ec2:TerminateInstances", "ec2:CancelSpotFleetRequests", "ecs:DeleteCluster"])
def test_nobody_may_delete_resources_without_the_tag_app(action: str) -> None:
    resources = (MACHINE, "arn:aws:ec2:us-east-1:111122223333:spot-fleet-request/sfr-1",
                 "arn:aws:ecs:us-east-1:111122223333:cluster/default")  # fmt: skip
    for documents in (MONITOR, CONTROL):
        assert any(is_allowed(documents, action, resource, **APP) for resource in resources)
        assert not any(is_allowed(documents, action, resource) for resource in resources)


def test_a_worker_may_not_delete_objects_or_use_other_buckets() -> None:
    assert not [action for action in list_actions(TASK) if action.startswith("s3:Delete")]
    assert not is_allowed(TASK, "s3:GetObject", "arn:aws:s3:::another-bucket/x")
    read_only = [build_task_bucket_policy(ACCOUNT, "public-images", write=False)]
    assert is_allowed(read_only, "s3:GetObject", "arn:aws:s3:::public-images/x")
    assert not is_allowed(read_only, "s3:PutObject", "arn:aws:s3:::public-images/x")


def test_roles_may_use_only_the_keys_of_their_buckets_and_only_as_they_use_the_buckets() -> None:
    documents = build_all_documents()
    task = [document for name, document in documents.items() if name.startswith("distributed-something-task/")]
    monitor = [document for name, document in documents.items() if name.startswith("distributed-something-monitor/")]
    assert is_allowed(task, "kms:Decrypt", SOURCE_KEY)
    assert not is_allowed(task, "kms:GenerateDataKey", SOURCE_KEY)  # SOURCE_BUCKET is only read
    assert not is_allowed(monitor, "kms:Decrypt", SOURCE_KEY)
    other_key = KEY.replace("key/0", "key/9")
    for policies in (task, monitor, CONTROL):
        assert is_allowed(policies, "kms:GenerateDataKey", KEY)
        assert not is_allowed(policies, "kms:Decrypt", other_key)


def test_the_auto_monitor_may_start_the_log_export_but_not_read_or_write_anything_else() -> None:
    exported = f"arn:aws:s3:::{BUCKET}/{build_export_prefix(MONITOR_FILE)}/x"
    assert is_allowed(MONITOR, "s3:PutObject", exported)
    assert not is_allowed(MONITOR, "s3:GetObject", exported)
    assert not is_allowed(MONITOR, "s3:PutObject", f"arn:aws:s3:::{BUCKET}/exportedlogsx/a")
    assert not is_allowed(MONITOR, "s3:PutObject", f"arn:aws:s3:::{BUCKET}/results/a")


def test_a_workers_alarm_can_only_terminate_an_instance() -> None:
    other_alarm = ALARM.replace("App_i-", "Billing")
    for alarm, alarm_action in (
        (ALARM, "arn:aws:sns:us-east-1:111122223333:topic"),
        (ALARM, "arn:aws:lambda:us-east-1:1:f"),
        (other_alarm, "arn:aws:automate:us-east-1:ec2:terminate"),
    ):
        assert not is_allowed(TASK, "cloudwatch:PutMetricAlarm", alarm, cloudwatch__AlarmActions=[alarm_action])


def test_a_worker_has_no_ec2_permissions() -> None:
    assert not [action for action in list_actions(TASK) if action.startswith("ec2:")]


def test_a_user_may_add_versions_only_to_launch_templates_with_the_tag_app() -> None:
    assert is_allowed(CONTROL, "ec2:CreateLaunchTemplateVersion", TEMPLATE, **APP)
    assert not is_allowed(CONTROL, "ec2:CreateLaunchTemplateVersion", TEMPLATE)


def test_only_a_user_may_pass_roles_and_only_to_the_services_that_assume_them() -> None:
    assert "iam:PassRole" not in list_actions(TASK) | list_actions(MONITOR) | list_actions(
        [build_instance_policy(ACCOUNT)]
    )
    role = ACCOUNT.role("distributed-something-task")
    assert is_allowed(CONTROL, "iam:PassRole", role, iam__PassedToService="ecs-tasks.amazonaws.com")
    assert not is_allowed(CONTROL, "iam:PassRole", role, iam__PassedToService="lambda.amazonaws.com")
    monitor = ACCOUNT.role("distributed-something-monitor")
    assert not is_allowed(CONTROL, "iam:PassRole", monitor, iam__PassedToService="ec2.amazonaws.com")


def test_a_fleet_may_terminate_only_instances_that_fleets_started() -> None:
    fleet = [build_fleet_policy(ACCOUNT)]
    assert not is_allowed(fleet, "ec2:TerminateInstances", MACHINE, **APP)
    tag = {"ec2:ResourceTag/aws:ec2spot:fleet-request-id".replace("/", "___").replace(":", "__"): "sfr-1"}
    assert is_allowed(fleet, "ec2:TerminateInstances", MACHINE, **tag)


@pytest.mark.parametrize("kind", ["subnet/subnet-1", "security-group/sg-1"])
@pytest.mark.parametrize(
    "name", ["aws-ec2-spot-fleet-tagging-role/distributed-something", "distributed-something-machines"]
)
def test_machines_may_start_in_a_network_that_another_account_shares(name: str, kind: str) -> None:
    documents = [build_all_documents()[name]]
    assert is_allowed(documents, "ec2:RunInstances", f"arn:aws:ec2:us-east-1:999988887777:{kind}")
    assert not is_allowed(documents, "ec2:RunInstances", "arn:aws:ec2:us-east-1:999988887777:launch-template/lt-1")


def test_a_user_may_create_a_security_group_in_a_network_that_another_account_shares() -> None:
    vpc, group = (
        f"arn:aws:ec2:us-east-1:{name}" for name in ("999988887777:vpc/vpc-1", "111122223333:security-group/sg-1")
    )
    for resource in (vpc, group):
        assert is_allowed(CONTROL, "ec2:CreateSecurityGroup", resource)


def test_a_user_may_open_only_security_groups_that_fleet_file_created() -> None:
    group = "arn:aws:ec2:us-east-1:111122223333:security-group/sg-1"
    ours = {"aws__ResourceTag___made-by": "distributed-something"}
    for action in ("ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"):
        assert is_allowed(CONTROL, action, group, **ours)
        assert not is_allowed(CONTROL, action, group)


def test_session_manager_is_an_option_that_gives_machines_five_permissions() -> None:
    without, with_it = build_roles(ACCOUNT, BUCKETS)[0], build_roles(ACCOUNT, BUCKETS, session_manager=True)[0]
    (name,) = with_it.policies.keys() - without.policies.keys()
    assert name == "distributed-something-session-manager"
    assert sorted(list_actions([with_it.policies[name]])) == [
        "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
    ]  # fmt: skip
    assert build_roles(ACCOUNT, BUCKETS)[1:] == build_roles(ACCOUNT, BUCKETS, session_manager=True)[1:]


def test_a_fleet_may_tag_every_kind_of_resource_that_a_launch_template_may_tag() -> None:
    """If the role is not allowed to set one of the tags, no instance starts.

    The kinds are from EC2's API reference, LaunchTemplateTagSpecificationRequest.
    """
    for kind in ("instance", "volume", "network-interface", "spot-instances-request"):
        arn = f"arn:aws:ec2:us-east-1:111122223333:{kind}/x-1"
        assert is_allowed([build_fleet_policy(ACCOUNT)], "ec2:CreateTags", arn), kind


def test_the_log_export_may_write_only_for_this_account_and_under_its_prefix() -> None:
    acl_statement, write_statement = build_log_export_statements(ACCOUNT, BUCKET)

    assert acl_statement["Principal"] == write_statement["Principal"] == {"Service": "logs.us-east-1.amazonaws.com"}
    assert (acl_statement["Action"], acl_statement["Resource"]) == ("s3:GetBucketAcl", "arn:aws:s3:::app-bucket")
    assert write_statement["Action"] == "s3:PutObject"
    assert write_statement["Resource"] == "arn:aws:s3:::app-bucket/exportedlogs/*"
    for statement in (acl_statement, write_statement):
        assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == "111122223333"
        assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": "arn:aws:logs:us-east-1:111122223333:log-group:*"}


# Documents, names, and partitions


def test_other_statements_are_kept_when_ours_are_merged_and_removed() -> None:
    ours = build_log_export_statements(ACCOUNT, BUCKET)
    other = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}

    merged = merge_statements({"Version": "2008-10-17", "Id": "x", "Statement": other}, ours)

    assert merged == {"Version": "2008-10-17", "Id": "x", "Statement": [other, *ours]}
    assert merge_statements(merged, ours) == merged
    assert remove_statements(merged, ours) == {"Version": "2008-10-17", "Id": "x", "Statement": [other]}
    assert remove_statements(merge_statements(None, ours), ours) is None


def test_apps_with_long_names_have_short_and_unique_rule_names() -> None:
    names = {build_monitor_rule_name("A" * 79 + last) for last in "AB"} | {build_monitor_rule_name("App")}

    assert len(names) == 3
    assert all(len(name) <= 64 and name.startswith("distributed-something-") for name in names)


def test_policies_in_china_use_the_arns_and_service_names_for_china() -> None:
    account = AwsAccount("111122223333", "cn-north-1", "aws-cn")
    for role in build_roles(account, BUCKETS):
        assert "arn:aws:" not in json.dumps(role.policies)
    logs = {"Service": "logs.cn-north-1.amazonaws.com.cn"}
    assert [statement["Principal"] for statement in build_log_export_statements(account, BUCKET)] == [logs, logs]
