"""Each error that AWS returns for a while after a change: the call is repeated until AWS accepts it.

The codes and messages are AWS's. Nothing waits: the clock advances only when the code sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.account.bucket import plan_bucket_policy, plan_lifecycle_rule
from distributed_something.account.lambda_function import (
    plan_monitor_function,
    plan_monitor_log_group,
    plan_monitor_permission,
)
from distributed_something.account.roles import RoleSpec, plan_instance_profile, plan_role
from distributed_something.account.setup_aws import apply_step
from distributed_something.aws.cloudwatch_logs import ensure_log_groups
from distributed_something.aws.ec2_fleet import cancel_new_fleet, create_fleet
from distributed_something.aws.ecs import ensure_cluster, ensure_service, ensure_task_definition, start_tasks
from distributed_something.aws.sqs import ensure_queues
from distributed_something.core.errors import CloudError
from distributed_something.core.names import AwsAccount
from distributed_something.observe.containers import find_log_tail
from distributed_something.observe.machines import list_container_instances
from distributed_something.observe.service import list_stopped_tasks
from distributed_something.run.schedule import delete_rule_by_name, ensure_monitor_rule
from tests.support.fakes import (
    DEAD_URL,
    MONITOR_FILE,
    QUEUE_URL,
    SETTINGS,
    ExactClients,
    FakeTime,
    expect_exact_calls,
)

ACCOUNT = AwsAccount("123456789012", "us-east-1")
FLEET = "sfr-0123abcd"
DENIED = "AccessDeniedException"
NEW_FLEET_ROLE = "Parameter: SpotFleetRequestConfig.IamFleetRole is invalid."
WEAK_FLEET_ROLE = (
    "The provided SpotFleetRequestConfig.IamFleetRole does not have permission to call ec2:DescribeSubnets."
)
NEW_PROFILE = "Value (ecsInstanceRole) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile"
LINKED_ROLE = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as clients:
        yield clients


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


Refuse = Callable[[], None]  # expects the call that AWS refuses for a while


def create_example_fleet(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    refuse()
    create_fleet(aws.clients.ec2, {"IamFleetRole": "r", "TargetCapacity": 1}, time.sleep)


def register_example(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("ecs.describe_task_definition", "ClientException", "Unable to describe task definition.")
    refuse()
    ensure_task_definition(aws.clients.ecs, {"family": "f", "containerDefinitions": []}, time.sleep)


def create_example_cluster(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_call("ecs.describe_clusters", clusters=[])
    refuse()
    ensure_cluster(aws.clients.ecs, "c", {"app": "App"}, time.sleep)


def create_example_service(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_call("ecs.describe_services", services=[])
    refuse()
    ensure_service(aws.clients.ecs, SETTINGS, "arn:1", {"app": "App"}, time.sleep)


def start_example_tasks(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    refuse()
    start_tasks(aws.clients.ecs, SETTINGS, "arn:1", 2, time.sleep)


def update_example_service(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    counts = {"desiredCount": 0, "runningCount": 0, "pendingCount": 0}
    aws.expect_call("ecs.describe_services", services=[{"serviceName": "AppService", "status": "ACTIVE", **counts}])
    refuse()
    ensure_service(aws.clients.ecs, SETTINGS, "arn:1", {"app": "App"}, time.sleep)


def create_example_role(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("iam.get_role", "NoSuchEntity")
    aws.expect_call("iam.create_role", Role=build_role())
    refuse()
    apply_step(plan_role(aws.clients.iam, RoleSpec("r", "lambda.amazonaws.com", {"p": {}}), time.sleep))


def create_example_profile(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("iam.get_instance_profile", "NoSuchEntity")
    profile = {"Path": "/", "InstanceProfileName": "r", "InstanceProfileId": "A" * 16, "Arn": ACCOUNT.profile("r")}
    aws.expect_call("iam.create_instance_profile", InstanceProfile=profile | {"CreateDate": "2026-11-23", "Roles": []})
    refuse()
    apply_step(plan_instance_profile(aws.clients.iam, "r", time.sleep))


def create_example_function(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("lambda_.get_function", "ResourceNotFoundException")
    refuse()
    apply_step(plan_monitor_function(aws.clients, ACCOUNT, b"zip", time.sleep))


def allow_example_rules(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("lambda_.get_function", "ResourceNotFoundException")  # not visible yet
    aws.expect_error("lambda_.get_policy", "ResourceNotFoundException")
    refuse()
    apply_step(plan_monitor_permission(aws.clients, ACCOUNT, time.sleep))


def create_example_monitor_log(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_call("logs.describe_log_groups", logGroups=[])
    aws.expect_call("logs.create_log_group")
    refuse()
    apply_step(plan_monitor_log_group(aws.clients, time.sleep))


def create_example_logs(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_call("logs.create_log_group")
    refuse()
    aws.expect_call("logs.create_log_group")
    aws.expect_call("logs.put_retention_policy")
    ensure_log_groups(aws.clients.logs, SETTINGS, {"app": "App"}, time.sleep)


def put_example_policy(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("s3.get_bucket_policy", "NoSuchBucketPolicy")
    refuse()
    apply_step(plan_bucket_policy(aws.clients, ACCOUNT, "b", time.sleep))


def put_example_rules(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_error("s3.get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
    refuse()
    apply_step(plan_lifecycle_rule(aws.clients, "b", time.sleep))


def put_example_rule(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    refuse()
    ensure_monitor_rule(aws.clients, MONITOR_FILE, ACCOUNT, {"app": "App"}, time.sleep)


def put_example_targets(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    aws.expect_call("events.put_rule")
    put_example_rule(aws, time, refuse)


def cancel_example_fleet(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    refuse()
    cancel_new_fleet(aws.clients.ec2, FLEET, time.sleep)


def create_example_queues(aws: ExactClients, time: FakeTime, refuse: Refuse) -> None:
    for _ in range(2):
        aws.expect_error("sqs.get_queue_url", "QueueDoesNotExist")
    refuse()
    arn = {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:AppDead"}
    aws.expect_call("sqs.get_queue_attributes", Attributes=arn)
    aws.expect_call("sqs.create_queue", QueueUrl=QUEUE_URL)
    ensure_queues(aws.clients.sqs, SETTINGS, {"app": "App"}, time.sleep)


def build_role() -> dict[str, Any]:
    return {"Path": "/", "RoleName": "r", "RoleId": "A" * 16, "Arn": ACCOUNT.role("r"), "CreateDate": "2026-11-23"}


@pytest.mark.parametrize(
    ("act", "call", "code", "message", "response"),
    [
        (create_example_fleet, "ec2.request_spot_fleet", "InvalidSpotFleetRequestConfig", NEW_FLEET_ROLE,
         {"SpotFleetRequestId": FLEET}),
        (create_example_fleet, "ec2.request_spot_fleet", "InvalidSpotFleetRequestConfig", WEAK_FLEET_ROLE,
         {"SpotFleetRequestId": FLEET}),
        (create_example_fleet, "ec2.request_spot_fleet", "InvalidParameterValue", NEW_PROFILE,
         {"SpotFleetRequestId": FLEET}),
        (create_example_fleet, "ec2.request_spot_fleet", "InvalidGroup.NotFound", "", {"SpotFleetRequestId": FLEET}),
        (cancel_example_fleet, "ec2.cancel_spot_fleet_requests", "InvalidSpotFleetRequestId.NotFound", "", {}),
        (cancel_example_fleet, "ec2.cancel_spot_fleet_requests", "UnauthorizedOperation", "", {}),
        (register_example, "ecs.register_task_definition", "ClientException", "Role is not valid",
         {"taskDefinition": {"taskDefinitionArn": "arn:1"}}),
        (create_example_cluster, "ecs.create_cluster", "InvalidParameterException", LINKED_ROLE, {}),
        (create_example_service, "ecs.create_service", "InvalidParameterException", LINKED_ROLE, {}),
        (create_example_service, "ecs.create_service", "ClusterNotFoundException", "Cluster not found.", {}),
        (create_example_service, "ecs.create_service", "ClientException", "TaskDefinition not found.", {}),
        (update_example_service, "ecs.update_service", "ClientException", "TaskDefinition not found.", {}),
        (start_example_tasks, "ecs.update_service", "ClientException", "TaskDefinition not found.", {}),
        (start_example_tasks, "ecs.update_service", "ServiceNotFoundException", "Service not found.", {}),
        (create_example_role, "iam.put_role_policy", "NoSuchEntity", "", {}),
        (create_example_role, "iam.put_role_policy", "ConcurrentModification", "", {}),
        (create_example_role, "iam.put_role_policy", "EntityTemporarilyUnmodifiable", "", {}),
        (create_example_profile, "iam.add_role_to_instance_profile", "NoSuchEntity", "", {}),
        (create_example_function, "lambda_.create_function", "InvalidParameterValueException",
         "The role defined for the function cannot be assumed by Lambda.", {}),
        (allow_example_rules, "lambda_.add_permission", "ResourceNotFoundException", "", {}),
        (allow_example_rules, "lambda_.add_permission", "ResourceConflictException", "", {}),
        (create_example_monitor_log, "logs.put_retention_policy", "ResourceNotFoundException", "", {}),
        (create_example_monitor_log, "logs.put_retention_policy", "OperationAbortedException", "", {}),
        (put_example_policy, "s3.put_bucket_policy", "OperationAborted", "", {}),
        (put_example_rules, "s3.put_bucket_lifecycle_configuration", "OperationAborted", "", {}),
        (put_example_rule, "events.put_rule", "ConcurrentModificationException", "", {}),
        (put_example_targets, "events.put_targets", "ResourceNotFoundException", "", {}),
        (put_example_targets, "events.put_targets", "ConcurrentModificationException", "", {}),
        (create_example_queues, "sqs.create_queue", "AWS.SimpleQueueService.QueueDeletedRecently", "",
         {"QueueUrl": DEAD_URL}),
    ],
)  # fmt: skip
def test_a_call_that_aws_refuses_for_a_while_is_repeated(
    aws: ExactClients, time: FakeTime, act: Callable[[ExactClients, FakeTime, Refuse], None], call: str, code: str,
    message: str, response: dict[str, Any],
) -> None:  # fmt: skip
    def refuse() -> None:
        for _ in range(2):
            aws.expect_error(call, code, message)
        aws.expect_call(call, **response)
        if call == "events.put_rule":
            aws.expect_call("events.put_targets")

    act(aws, time, refuse)
    assert time.slept == [1.0, 2.0]


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "OperationAbortedException", DENIED])
def test_a_new_log_group_gets_its_retention_once_its_tag_and_name_are_known(
    aws: ExactClients, time: FakeTime, code: str
) -> None:
    """The permission to set the retention depends on the tag with which the group was created a moment ago."""

    def refuse() -> None:
        for _ in range(2):
            aws.expect_error("logs.put_retention_policy", code)
        aws.expect_call("logs.put_retention_policy")

    create_example_logs(aws, time, refuse)
    assert time.slept == [1.0, 2.0]


@pytest.mark.parametrize(
    ("code", "message"),
    [("InvalidSpotFleetRequestConfig", "SpotPrice is too low"), ("UnauthorizedOperation", NEW_FLEET_ROLE)],
)
def test_an_error_that_lasts_is_reported_at_once(aws: ExactClients, time: FakeTime, code: str, message: str) -> None:
    aws.expect_error("ec2.request_spot_fleet", code, message)
    with pytest.raises(CloudError, match=code):
        create_example_fleet(aws, time, lambda: None)
    assert time.slept == []


def test_a_cancellation_that_reports_its_failure_inside_a_success_is_repeated(
    aws: ExactClients, time: FakeTime
) -> None:
    error = {"Code": "fleetRequestIdDoesNotExist", "Message": "none"}
    failure = {"SpotFleetRequestId": FLEET, "Error": error}
    aws.expect_call("ec2.cancel_spot_fleet_requests", UnsuccessfulFleetRequests=[failure])
    aws.expect_call("ec2.cancel_spot_fleet_requests")
    cancel_new_fleet(aws.clients.ec2, FLEET, time.sleep)
    aws.expect_call(
        "ec2.cancel_spot_fleet_requests",
        UnsuccessfulFleetRequests=[failure | {"Error": error | {"Code": "unexpectedError"}}],
    )
    with pytest.raises(ClientError, match="unexpectedError"):
        cancel_new_fleet(aws.clients.ec2, FLEET, time.sleep)
    assert time.slept == [1.0]


def test_a_target_that_fails_inside_a_success_is_put_again(aws: ExactClients, time: FakeTime) -> None:
    entry = {"TargetId": "auto-monitor", "ErrorCode": "ConcurrentModificationException", "ErrorMessage": "Try again."}

    def fail(entry: dict[str, str]) -> None:
        aws.expect_call("events.put_rule")
        aws.expect_call("events.put_targets", FailedEntryCount=1, FailedEntries=[entry])

    fail(entry)
    aws.expect_call("events.put_targets", FailedEntryCount=0, FailedEntries=[])
    put_example_rule(aws, time, lambda: None)
    assert time.slept == [1.0]
    fail(entry | {"ErrorCode": "InternalException"})
    with pytest.raises(CloudError, match="InternalException"):
        put_example_rule(aws, time, lambda: None)


def test_a_rule_is_not_deleted_if_its_target_could_not_be_removed(aws: ExactClients) -> None:
    entry = {"TargetId": "auto-monitor", "ErrorCode": "ConcurrentModificationException", "ErrorMessage": "Try again."}
    aws.expect_call("events.remove_targets", FailedEntryCount=1, FailedEntries=[entry])
    with pytest.raises(ClientError, match="ConcurrentModificationException"):
        delete_rule_by_name(aws.clients, "distributed-something-App")


# Lists


def test_an_empty_page_of_a_list_does_not_end_it(aws: ExactClients) -> None:
    request = {"cluster": "c", "maxResults": 3}
    aws.expect_call("ecs.list_container_instances", request, containerInstanceArns=[], nextToken="t")
    aws.expect_call("ecs.list_container_instances", request | {"nextToken": "t"}, containerInstanceArns=["arn:1"])
    described = {"containerInstanceArn": "arn:1", "ec2InstanceId": "i-1"}
    aws.expect_call("ecs.describe_container_instances", containerInstances=[described])
    assert [instance.instance for instance in list_container_instances(aws.clients.ecs, "c", 3)] == ["i-1"]

    request = {"cluster": "c", "serviceName": "s", "desiredStatus": "STOPPED", "maxResults": 100}
    aws.expect_call("ecs.list_tasks", request, taskArns=[], nextToken="t")
    aws.expect_call("ecs.list_tasks", request | {"nextToken": "t"}, taskArns=["arn:2"])
    aws.expect_call("ecs.describe_tasks", {"cluster": "c", "tasks": ["arn:2"]}, tasks=[{"stopCode": "UserInitiated"}])
    assert len(list_stopped_tasks(aws.clients.ecs, "c", "s")) == 1


def test_an_empty_page_of_a_log_stream_is_followed_by_older_ones(aws: ExactClients) -> None:
    streams = [{"logStreamName": "App/App/1", "lastEventTimestamp": 1000}]
    aws.expect_call("logs.describe_log_streams", logStreams=streams)
    request = {"logGroupName": "AppLogs_perInstance", "logStreamName": "App/App/1", "limit": 5}
    aws.expect_call("logs.get_log_events", request | {"startFromHead": False}, events=[], nextBackwardToken="b")
    aws.expect_call("logs.get_log_events", request | {"nextToken": "b"}, events=[{"message": "last line\n"}])
    tail = find_log_tail(aws.clients.logs, "AppLogs", "App")
    assert tail is not None
    assert tail.lines == ("last line",)
