"""The commands' requests to AWS, call by call. botocore's Stubber accepts only the calls that a test lists."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from distributed_something.aws.ec2_fleet import FleetState, find_active_fleet
from distributed_something.aws.ecs import ensure_service, ensure_task_definition
from distributed_something.aws.retry import RETRY_PAUSE_SECONDS, RETRY_SECONDS
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.cli.console import Console
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.monitor_file import MonitorFile, load_monitor_file
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.documents.run_start import RunStart
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.snapshot import RunCaches, RunSnapshot, observe_run
from distributed_something.run.run_context import RunContext
from distributed_something.run.setup import require_bucket, set_up_run
from distributed_something.run.start import start_run
from tests.support.fakes import (
    ANY,
    DEAD_URL,
    MISSING_QUEUE,
    MONITOR_FILE,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    ExactClients,
    FakeTime,
    expect_exact_calls,
)

DEAD_ARN = "arn:aws:sqs:us-east-1:123456789012:AppDead"
COMMON = {"MessageRetentionPeriod": "1209600", "SqsManagedSseEnabled": "true"}
QUEUE_SETTINGS = COMMON | {
    "VisibilityTimeout": "120",
    "ReceiveMessageWaitTimeSeconds": "20",
    "RedrivePolicy": json.dumps({"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": "4"}),
}
TAGS = [{"key": "app", "value": "App"}, {"key": "owner", "value": "lab"}]
TASK_OPTIONS = {
    "placementConstraints": [{"type": "memberOf", "expression": "attribute:app == App"}],
    "propagateTags": "TASK_DEFINITION",
    "availabilityZoneRebalancing": "DISABLED",
    "enableECSManagedTags": True,
    "deploymentConfiguration": {"minimumHealthyPercent": 0, "maximumPercent": 100},
}
FAMILY_ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/AppTask"
CLUSTER_QUERY = {"clusters": ["app-cluster"], "include": ["TAGS"]}
SERVICE_QUERY = {"cluster": "app-cluster", "services": ["AppService"]}
WRITE_PREFIXES = ("Create", "Put", "Update", "Set", "Register", "Request", "Modify", "Delete", "Cancel", "Tag")


def expect_missing_roles(aws: ExactClients) -> None:
    """Expect a lookup of the roles, which do not exist because setupAWS was never run."""
    for name in ("distributed-something-task", "distributed-something-execution"):
        aws.expect_error("iam.get_role", "NoSuchEntity", request={"RoleName": name})


def expect_account(aws: ExactClients, account: str = "123456789012") -> None:
    """Expect the lookup of the account: without roles, setup says so, except in the local cloud."""
    aws.expect_call("sts.get_caller_identity", {}, Account=account, Arn=f"arn:aws:iam::{account}:user/ann")


def test_a_task_definition_has_the_roles_and_a_changed_role_causes_a_new_revision(aws: ExactClients) -> None:
    roles = {"taskRoleArn": "arn:task", "executionRoleArn": "arn:execution"}
    request = build_task_definition(SETTINGS, QueueUrls(QUEUE_URL, DEAD_URL), RUN, "lab", roles)
    assert request["taskRoleArn"] == "arn:task"
    assert request["executionRoleArn"] == "arn:execution"
    registered = {"containerDefinitions": request["containerDefinitions"], "taskDefinitionArn": "arn:1", **roles}
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=registered)
    assert ensure_task_definition(aws.clients.ecs, request, FakeTime().sleep) == "arn:1"
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=registered)
    changed = request | {"taskRoleArn": "arn:other"}
    aws.expect_call("ecs.register_task_definition", changed, taskDefinition={"taskDefinitionArn": "arn:2"})
    assert ensure_task_definition(aws.clients.ecs, changed, FakeTime().sleep) == "arn:2"


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as emulated:
        yield emulated


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def list_writes(aws: ExactClients) -> list[str]:
    """Return the calls that change something in AWS."""
    return [call for call in aws.calls if call.partition(".")[2].startswith(WRITE_PREFIXES)]


def build_definition(run: str | None = None) -> dict[str, Any]:
    return build_task_definition(SETTINGS, QueueUrls(QUEUE_URL, DEAD_URL), run, "lab")


def describe_service(status: str = "ACTIVE", desired: int = 0, **fields: Any) -> dict[str, Any]:
    counts = {"desiredCount": desired, "runningCount": 0, "pendingCount": 0}
    return {"serviceName": "AppService", "status": status, **counts, **fields}


def describe_cluster() -> dict[str, Any]:
    return {"clusterName": "app-cluster", "status": "ACTIVE", "tags": TAGS, "activeServicesCount": 0,
            "registeredContainerInstancesCount": 0, "runningTasksCount": 0}  # fmt: skip


# setup


def expect_new_queues(aws: ExactClients) -> None:
    """Expect both queues to be created."""
    for name in ("AppDead", "AppQueue"):
        aws.expect_error("sqs.get_queue_url", MISSING_QUEUE, request={"QueueName": name})
    for name, url, attributes in (("AppDead", DEAD_URL, COMMON), ("AppQueue", QUEUE_URL, QUEUE_SETTINGS)):
        request = {"QueueName": name, "Attributes": attributes, "tags": {"app": "App", "owner": "lab"}}
        aws.expect_call("sqs.create_queue", request, QueueUrl=url)
        if name == "AppDead":
            expect_arn_lookup(aws)


def expect_arn_lookup(aws: ExactClients) -> None:
    """Expect a lookup of the dead-letter queue's ARN."""
    request = {"QueueUrl": DEAD_URL, "AttributeNames": ["QueueArn"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes={"QueueArn": DEAD_ARN})


def expect_existing_queues(aws: ExactClients, *, is_tagged: bool = True, **changed: str) -> None:
    """Expect both queues to be looked up. `changed`: the job queue's attributes that differ from the config."""
    tags = {"Tags": {"app": "App"}} if is_tagged else {}
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": DEAD_URL}, **tags)
    request = {"QueueUrl": DEAD_URL, "MaxResults": 1000}
    aws.expect_call("sqs.list_dead_letter_source_queues", request, queueUrls=[QUEUE_URL])
    request = {"QueueUrl": DEAD_URL, "AttributeNames": ["All"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes={**COMMON, "QueueArn": DEAD_ARN})
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, **tags)
    if not is_tagged:
        for url in (DEAD_URL, QUEUE_URL):
            aws.expect_call("sqs.tag_queue", {"QueueUrl": url, "Tags": {"app": "App", "owner": "lab"}})
    request = {"QueueUrl": QUEUE_URL, "AttributeNames": ["All"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes=QUEUE_SETTINGS | changed)


def expect_log_groups(aws: ExactClients, *, exist: bool, tags: dict[str, str] | None = None) -> None:
    """Expect both log groups to be created or updated. `tags`: the tags of existing groups; default: the app's tag."""
    for name in ("AppLogs", "AppLogs_perInstance"):
        request = {"logGroupName": name, "tags": {"app": "App", "owner": "lab"}}
        if exist:
            aws.expect_error("logs.create_log_group", "ResourceAlreadyExistsException", request=request)
            expect_tag_lookup(aws, name, {"app": "App"} if tags is None else tags)
        else:
            aws.expect_call("logs.create_log_group", request)
        aws.expect_call("logs.put_retention_policy", {"logGroupName": name, "retentionInDays": 60})


def expect_tag_lookup(aws: ExactClients, name: str, tags: dict[str, str]) -> None:
    """Expect a log group's tags to be looked up, and the tag `app` to be added if it is missing."""
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:{name}"
    groups = [{"logGroupName": f"{name}{end}", "arn": f"{arn}{end}:*"} for end in ("-older", "")]
    aws.expect_call("logs.describe_log_groups", {"logGroupNamePrefix": name}, logGroups=groups)
    aws.expect_call("logs.list_tags_for_resource", {"resourceArn": arn}, tags=tags)
    if "app" not in tags:
        aws.expect_call("logs.tag_resource", {"resourceArn": arn, "tags": {"app": "App", "owner": "lab"}})


def expect_new_cluster_and_task(aws: ExactClients) -> None:
    """Expect the cluster and the task definition to be created."""
    expect_missing_roles(aws)
    expect_account(aws)
    aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[])
    aws.expect_call("ecs.create_cluster", {"clusterName": "app-cluster", "tags": TAGS})
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[])  # setup checks whether a run is active
    aws.expect_error("ecs.describe_task_definition", "ClientException", request={"taskDefinition": "AppTask"})
    aws.expect_call(
        "ecs.register_task_definition", build_definition(), taskDefinition={"taskDefinitionArn": f"{FAMILY_ARN}:1"}
    )


def expect_new_service(aws: ExactClients) -> None:
    """Expect the service to be created."""
    request = {"cluster": "app-cluster", "serviceName": "AppService", "taskDefinition": f"{FAMILY_ARN}:1",
               "desiredCount": 0, "launchType": "EC2", "tags": TAGS, **TASK_OPTIONS}  # fmt: skip
    aws.expect_call("ecs.create_service", request)


def expect_active_service(aws: ExactClients, registered: dict[str, Any], revision: int, desired: int) -> None:
    """Expect a lookup of the cluster, the service, and the task definition, which all exist.

    `registered`: the task definition's content. `desired`: the service's task count.
    """
    expect_missing_roles(aws)
    expect_account(aws)
    described = {"taskDefinitionArn": f"{FAMILY_ARN}:{revision}", "status": "ACTIVE", **registered}
    described.pop("tags")
    aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[describe_cluster()])
    running = describe_service(desired=desired, taskDefinition=described["taskDefinitionArn"])
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[running])
    if desired:
        request = {"taskDefinition": f"{FAMILY_ARN}:{revision}"}
        aws.expect_call("ecs.describe_task_definition", request, taskDefinition=described)
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=described)


def expect_service_update(aws: ExactClients, revision: int, desired: int = 0) -> None:
    """Expect a new deployment, which looks up the image's digest again, without a change of the task count."""
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service(desired=desired)])
    request = {
        "cluster": "app-cluster",
        "service": "AppService",
        "taskDefinition": f"{FAMILY_ARN}:{revision}",
        "deploymentConfiguration": {"minimumHealthyPercent": 0, "maximumPercent": 100},
        "forceNewDeployment": True,
    }
    aws.expect_call("ecs.update_service", request)


def expect_setup_lookup(aws: ExactClients, *, has_queue: bool = True, has_service: bool = True) -> None:
    """Expect setup to look up whether AWS finds everything that it has created."""
    aws.expect_call("s3.head_bucket", {"Bucket": SETTINGS.AWS_BUCKET})
    if has_queue:
        aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    else:
        aws.expect_error("sqs.get_queue_url", MISSING_QUEUE, request={"QueueName": "AppQueue"})
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    services = [describe_service(deployments=[], events=[])] if has_service else []
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=services)
    if not has_service:
        aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[describe_cluster()])


def run_setup(aws: ExactClients, time: FakeTime, print_progress: Callable[[str], None] = lambda text: None) -> None:
    """Run setup, which then finds everything that it has created."""
    expect_setup_lookup(aws)
    set_up_run(aws.clients, SETTINGS, print_progress, time.sleep)


def test_the_first_setup_creates_everything_without_waiting(aws: ExactClients, time: FakeTime) -> None:
    expect_new_queues(aws)
    expect_log_groups(aws, exist=False)
    expect_new_cluster_and_task(aws)
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[])
    expect_new_service(aws)
    run_setup(aws, time)
    assert time.slept == []


def test_setup_waits_until_aws_finds_what_it_has_created(aws: ExactClients, time: FakeTime) -> None:
    """The next command may follow at once: `retry` sends jobs to the queue that it has just created."""
    expect_new_queues(aws)
    expect_log_groups(aws, exist=False)
    expect_new_cluster_and_task(aws)
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[])
    expect_new_service(aws)
    expect_setup_lookup(aws, has_queue=False)
    expect_setup_lookup(aws, has_service=False)
    run_setup(aws, time)
    assert time.slept == list(RETRY_PAUSE_SECONDS[:2])


def test_the_task_definition_has_one_container_and_no_credentials() -> None:
    (container,) = build_definition(RUN)["containerDefinitions"]
    environment = {pair["name"]: pair["value"] for pair in container["environment"]}
    assert (container["name"], container["image"], container["memory"]) == ("App", "tests/app:1", 2000)
    assert (container["stopTimeout"], container["essential"]) == (110, True)
    assert container["logConfiguration"]["options"]["awslogs-group"] == "AppLogs_perInstance"
    assert container["logConfiguration"]["options"]["mode"] == "non-blocking"  # a worker never waits for its log
    assert environment["RUN"] == RUN
    assert environment["SQS_QUEUE_URL"] == QUEUE_URL
    assert not any("KEY" in name or "SECRET" in name or "TOKEN" in name for name in environment)


@pytest.mark.parametrize(
    ("machines", "tasks", "seconds"), [(1, 1, "60"), (300, 4, "60"), (301, 4, "61"), (2000, 5, "500")]
)
def test_all_containers_together_write_at_most_twenty_journals_a_second(
    machines: int, tasks: int, seconds: str
) -> None:
    settings = SETTINGS.model_copy(update={"CLUSTER_MACHINES": machines, "TASKS_PER_MACHINE": tasks})
    definition = build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), RUN)
    environment = definition["containerDefinitions"][0]["environment"]
    assert {"name": "JOURNAL_SECONDS", "value": seconds} in environment


def test_a_second_setup_makes_only_calls_that_do_not_change_anything(aws: ExactClients, time: FakeTime) -> None:
    expect_existing_queues(aws)
    expect_log_groups(aws, exist=True)
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    run_setup(aws, time)
    assert list_writes(aws) == ["logs.CreateLogGroup", "logs.PutRetentionPolicy"] * 2 + ["ecs.UpdateService"]


def test_only_a_queues_changed_settings_are_updated(aws: ExactClients, time: FakeTime) -> None:
    # The same policy, in the format that SQS returns.
    policy = QUEUE_SETTINGS["RedrivePolicy"].replace('"4"', "4").replace(" ", "")
    expect_existing_queues(aws, VisibilityTimeout="30", RedrivePolicy=policy)
    aws.expect_call("sqs.set_queue_attributes", {"QueueUrl": QUEUE_URL, "Attributes": {"VisibilityTimeout": "120"}})
    expect_log_groups(aws, exist=True)
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    run_setup(aws, time)


def test_existing_resources_without_the_tag_app_are_tagged_before_any_other_change(
    aws: ExactClients, time: FakeTime
) -> None:
    """Permissions depend on the tag. Log groups and dead-letter queues from the published version do not have it."""
    expect_existing_queues(aws, is_tagged=False, VisibilityTimeout="30")
    aws.expect_error("sqs.set_queue_attributes", "AccessDenied", "the tag is not known everywhere yet")
    aws.expect_call("sqs.set_queue_attributes", {"QueueUrl": QUEUE_URL, "Attributes": {"VisibilityTimeout": "120"}})
    expect_log_groups(aws, exist=True, tags={"lab": "north"})
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    run_setup(aws, time)
    assert time.slept == [1.0]
    assert aws.calls.index("logs.TagResource") < aws.calls.index("logs.PutRetentionPolicy")


def test_setup_raises_the_message_limit_of_queues_that_are_older_than_sqss_limit_of_one_mebibyte(
    aws: ExactClients, time: FakeTime
) -> None:
    expect_existing_queues(aws, MaximumMessageSize="262144")
    request = {"QueueUrl": QUEUE_URL, "Attributes": {"MaximumMessageSize": "1048576"}}
    aws.expect_call("sqs.set_queue_attributes", request)
    expect_log_groups(aws, exist=True)
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    run_setup(aws, time)


def test_denied_access_is_not_retried_if_the_resource_already_has_the_tag(aws: ExactClients, time: FakeTime) -> None:
    expect_missing_roles(aws)
    expect_existing_queues(aws, VisibilityTimeout="30")
    aws.expect_error("sqs.set_queue_attributes", "AccessDenied")
    with pytest.raises(CloudError, match="setting up the queue AppQueue: AccessDenied"):
        set_up_run(aws.clients, SETTINGS, lambda text: None, time.sleep)
    assert time.slept == []


def test_a_queue_of_another_app_is_reported_as_an_error_before_anything_is_changed(
    aws: ExactClients, time: FakeTime
) -> None:
    expect_missing_roles(aws)
    aws.expect_error("sqs.get_queue_url", MISSING_QUEUE, request={"QueueName": "AppDead"})
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, Tags={"app": "Other"})
    with pytest.raises(InputError, match="config: SQS_QUEUE_NAME: the queue AppQueue belongs to the app Other"):
        set_up_run(aws.clients, SETTINGS, lambda text: None, time.sleep)
    assert list_writes(aws) == []


@pytest.mark.parametrize(("account", "is_refused"), [("444455556666", True), ("123456789012", False)])
def test_a_dead_letter_queue_in_another_account_is_refused_except_in_the_local_cloud(
    aws: ExactClients, time: FakeTime, account: str, is_refused: bool
) -> None:
    settings = SETTINGS.model_copy(update={"dead_letter_account": "111122223333"})
    identity = {"Account": account, "Arn": f"arn:aws:iam::{account}:user/ann"}
    aws.expect_call("sts.get_caller_identity", {}, **identity)
    if is_refused:
        problem = (
            "config: SQS_DEAD_LETTER_QUEUE: the queue is in the account 111122223333, but you are logged in to 4444"
        )
        with pytest.raises(InputError, match=problem):
            set_up_run(aws.clients, settings, lambda text: None, time.sleep)
        assert aws.calls == ["sts.GetCallerIdentity"]
    else:
        expect_missing_roles(aws)
        aws.expect_error("sqs.get_queue_url", "AccessDenied")
        with pytest.raises(CloudError, match="looking for the queues"):
            set_up_run(aws.clients, settings, lambda text: None, time.sleep)


@pytest.mark.parametrize(
    ("code", "error", "problem"),
    [
        (
            "404",
            InputError,
            "AWS_BUCKET: the bucket app-bucket does not exist; create the bucket, or",
        ),
        ("301", CloudError, "the bucket is in another region than AWS_REGION"),
        ("403", None, ""),
    ],
)
def test_setup_begins_with_a_look_at_the_bucket(
    aws: ExactClients, code: str, error: type[Exception] | None, problem: str
) -> None:
    aws.expect_error("s3.head_bucket", code, request={"Bucket": "app-bucket"})
    if error is None:
        require_bucket(aws.clients, SETTINGS)
    else:
        with pytest.raises(error, match=problem):
            require_bucket(aws.clients, SETTINGS)


def test_a_log_group_of_another_app_keeps_its_tag_and_is_reported(aws: ExactClients, time: FakeTime) -> None:
    expect_existing_queues(aws)
    expect_log_groups(aws, exist=True, tags={"app": "Other"})
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    messages: list[str] = []
    run_setup(aws, time, messages.append)
    assert "log group       AppLogs (shared with the app Other)" in messages


def test_setup_says_so_if_containers_have_no_role_of_their_own(aws: ExactClients, time: FakeTime) -> None:
    expect_existing_queues(aws)
    expect_log_groups(aws, exist=True)
    expect_missing_roles(aws)
    expect_account(aws, "111122223333")
    definition = build_definition() | {"taskDefinitionArn": f"{FAMILY_ARN}:1", "status": "ACTIVE"}
    definition.pop("tags")
    aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[describe_cluster()])
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service(desired=0)])
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=definition)
    expect_service_update(aws, 1)
    messages: list[str] = []
    run_setup(aws, time, messages.append)
    assert any(message.startswith("role") and "none: containers use their machine's" in message for message in messages)


def test_setup_creates_nothing_if_it_may_not_look_up_the_roles(aws: ExactClients, time: FakeTime) -> None:
    aws.expect_error("iam.get_role", "AccessDenied", request={"RoleName": "distributed-something-task"})
    aws.expect_error("ecs.describe_task_definition", "ClientException", request={"taskDefinition": "AppTask"})
    with pytest.raises(CloudError, match="iam:GetRole") as caught:
        set_up_run(aws.clients, SETTINGS, lambda text: None, time.sleep)
    assert "\n" not in str(caught.value)
    assert list_writes(aws) == []


def test_setup_during_a_run_keeps_the_task_count_and_the_run(aws: ExactClients, time: FakeTime) -> None:
    expect_existing_queues(aws)
    expect_log_groups(aws, exist=True)
    older = build_definition(RUN)
    older["containerDefinitions"][0]["memory"] = 1000
    expect_active_service(aws, older, 4, desired=6)
    registered = {"taskDefinition": {"taskDefinitionArn": f"{FAMILY_ARN}:5"}}
    aws.expect_call("ecs.register_task_definition", build_definition(RUN), **registered)
    expect_service_update(aws, 5, desired=6)
    run_setup(aws, time)


@pytest.mark.parametrize(("image", "is_forced"), [("lab/app", True), ("lab/app:1", True), ("lab/app@sha256:0f", False)])
def test_setup_forces_a_deployment_unless_the_image_is_named_by_its_digest_and_cannot_change(
    aws: ExactClients, time: FakeTime, image: str, is_forced: bool
) -> None:
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service(desired=6)])
    aws.expect_call(
        "ecs.update_service",
        {
            "cluster": "app-cluster",
            "service": "AppService",
            "taskDefinition": "arn:1",
            "deploymentConfiguration": {"minimumHealthyPercent": 0, "maximumPercent": 100},
            "forceNewDeployment": is_forced,
        },
    )
    ensure_service(aws.clients.ecs, SETTINGS.model_copy(update={"DOCKERHUB_TAG": image}), "arn:1", {}, time.sleep)


def test_setup_waits_while_a_deleted_service_is_still_draining(aws: ExactClients, time: FakeTime) -> None:
    expect_new_queues(aws)
    expect_log_groups(aws, exist=False)
    expect_new_cluster_and_task(aws)
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service("DRAINING")])
    for _ in range(3):
        aws.expect_error(
            "ecs.create_service", "InvalidParameterException", "Unable to Start a service that is still Draining."
        )
    expect_new_service(aws)
    run_setup(aws, time)
    assert time.slept == list(RETRY_PAUSE_SECONDS[:3])


def test_setup_fails_if_a_deleted_service_drains_for_too_long(aws: ExactClients, time: FakeTime) -> None:
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service("DRAINING")])
    for _ in range(len(RETRY_PAUSE_SECONDS) + 1):
        aws.expect_error(
            "ecs.create_service", "InvalidParameterException", "Unable to Start a service that is still Draining."
        )
    with pytest.raises(CloudError, match="while setting up the service AppService"):
        ensure_service(aws.clients.ecs, SETTINGS, f"{FAMILY_ARN}:1", {"app": "App"}, time.sleep)
    assert sum(time.slept) == RETRY_SECONDS == 120


def test_setup_waits_until_the_name_of_a_deleted_queue_can_be_used_again(aws: ExactClients, time: FakeTime) -> None:
    """SQS no longer returns the URL of one deleted queue, but still returns the URL of the other."""
    aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    aws.expect_call("sqs.get_queue_url", QueueUrl=QUEUE_URL)
    aws.expect_error("sqs.list_queue_tags", MISSING_QUEUE)
    for _ in range(11):
        aws.expect_error("sqs.create_queue", "AWS.SimpleQueueService.QueueDeletedRecently")
    aws.expect_call("sqs.create_queue", QueueUrl=DEAD_URL)
    expect_arn_lookup(aws)
    aws.expect_call("sqs.create_queue", QueueUrl=QUEUE_URL)
    expect_log_groups(aws, exist=True)
    expect_active_service(aws, build_definition(), 1, desired=0)
    expect_service_update(aws, 1)
    run_setup(aws, time)
    assert sum(time.slept) == 60  # how long SQS blocks the name


# startCluster

FLEET: dict[str, Any] = {
    "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
    "TargetCapacity": 99,
    "LaunchSpecifications": [
        {
            "ImageId": "ami-0abc",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0abc", "Groups": ["sg-0abc"]}],
        }
    ],
}
TEMPLATE_KEYS = {
    "LaunchSpecifications": None,
    "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-0abc"}}],
}
FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
MONITOR_NAME = "AppSpotFleetRequestId.json"
LOOKUP_CALLS = ["ec2.DescribeSpotFleetRequests", "s3.HeadBucket", "sqs.GetQueueUrl", "sqs.GetQueueUrl",
                "ecs.DescribeServices"]  # fmt: skip


# The monitor file also says how the user types commands.
STARTED_FILE = replace(
    MONITOR_FILE, MONITOR_COMMAND="python run.py", MONITOR_FILE_PATH="MONITORFILE", MONITOR_FLEET_FILE="fleet.json"
)


class Starter:
    """startCluster in its own project folder, with methods that expect the requests of each phase."""

    def __init__(self, aws: ExactClients, folder: Path) -> None:
        self.aws, self.folder, self.time = aws, folder, FakeTime()
        self.path = folder / "files" / MONITOR_NAME

    def start(self, check_account: Callable[[], None] = lambda: None, **changed: Any) -> MonitorFile:
        content = {key: value for key, value in (copy.deepcopy(FLEET) | changed).items() if value is not None}
        context = RunContext(self.aws.clients, SETTINGS, Console(), Clock(self.time.now, self.time.sleep))
        return start_run(context, Path("fleet.json"), content, self.folder, check_account=check_account)

    def expect_fleets(self, *fleets: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(fleets))

    def expect_desired_tasks(self, desired: int) -> None:
        self.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service(desired=desired)])

    def expect_setup_lookup(self) -> None:
        self.aws.expect_call("s3.head_bucket", {"Bucket": "app-bucket"})
        self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
        self.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service()])

    def expect_task_registration(self) -> None:
        expect_missing_roles(self.aws)
        self.aws.expect_error("ecs.describe_task_definition", "ClientException")
        registered = {"taskDefinition": {"taskDefinitionArn": f"{FAMILY_ARN}:2"}}
        self.aws.expect_call("ecs.register_task_definition", build_definition(RUN), **registered)

    def expect_fleet_request(self, *errors: tuple[str, str], **template_data: Any) -> None:
        """Expect all requests up to and including the fleet request.

        `errors`: EC2's errors before it accepts the fleet. `template_data`: the content of the
        Fleet file's launch template, if it has one.
        """
        self.expect_fleets()
        self.expect_setup_lookup()
        if template_data:
            self.expect_template_lookup(**template_data)
        self.expect_task_registration()
        self.expect_new_template(template_data.get("ImageId", "ami-0abc"))
        request = {"SpotFleetRequestConfig": build_fleet_request()}
        if template_data:
            del request["SpotFleetRequestConfig"]["LaunchTemplateConfigs"][0]["Overrides"][0]["SubnetId"]
        for code, message in errors:
            self.aws.expect_error("ec2.request_spot_fleet", code, message, request)
        self.aws.expect_call("ec2.request_spot_fleet", request, SpotFleetRequestId=FLEET_ID)

    def expect_template_lookup(self, **content: Any) -> None:
        request = {"LaunchTemplateId": "lt-0abc", "Versions": ["$Default"]}
        versions = [{"LaunchTemplateData": content}]
        self.aws.expect_call("ec2.describe_launch_template_versions", request, LaunchTemplateVersions=versions)

    def expect_new_template(self, image: str = "ami-0abc") -> None:
        name = f"App-{RUN}"
        tags = [{"ResourceType": "launch-template", "Tags": RUN_TAGS}]
        request = {"LaunchTemplateName": name, "ClientToken": name, "LaunchTemplateData": build_template(image),
                   "TagSpecifications": tags}  # fmt: skip
        self.aws.expect_call("ec2.create_launch_template", request, LaunchTemplate={"LaunchTemplateId": "lt-run"})

    def expect_monitor_file_copy(self) -> None:
        for key in (f"monitors/{MONITOR_NAME}", f"runs/App/{RUN}/monitor_file.json"):
            request = {"Bucket": "app-bucket", "Key": key, "Body": ANY}
            self.aws.expect_call("s3.put_object", request)

    def expect_copy_lookup(self, app_copy: MonitorFile | None = None, run_copy: MonitorFile | None = None) -> None:
        """Expect the copies of a lost monitor file to be read, until one belongs to the active fleet."""
        for key, file in ((f"monitors/{MONITOR_NAME}", app_copy), (f"runs/App/{RUN}/monitor_file.json", run_copy)):
            request = {"Bucket": "app-bucket", "Key": key}
            if file is None:
                self.aws.expect_error("s3.get_object", "NoSuchKey", request=request)
                continue
            self.aws.expect_call("s3.get_object", request, Body=build_body(json.dumps(asdict(file)).encode()))
            if file.MONITOR_FLEET_ID == MONITOR_FILE.MONITOR_FLEET_ID:
                return

    def expect_run_start(self, history: dict[str, Any] | None = None) -> None:
        """Expect the run's history to be begun, or continued if a start that was interrupted has saved one."""
        request = {"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/monitor.json"}
        if history is None:
            self.aws.expect_error("s3.get_object", "NoSuchKey", request=request)
            self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
            expect_message_counts(self.aws, QUEUE_URL, 9, 0, CreatedTimestamp=str(int(START) - 1200))
            self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
            expect_message_counts(self.aws, DEAD_URL, 2, 0)
            expect_submission(self.aws, 7, since=START - 1203)
            prefixes = [{"Prefix": f"runs/App/{name}/"} for name in ("submissions", "20261101T000000Z", RUN)]
            runs = {"Bucket": "app-bucket", "Prefix": "runs/App/", "Delimiter": "/"}
            self.aws.expect_call("s3.list_objects_v2", runs, CommonPrefixes=prefixes)
        else:
            self.aws.expect_call("s3.get_object", request, Body=build_body(json.dumps(history).encode()))
        self.aws.expect_call("s3.put_object", {**request, "Body": ANY})

    def expect_fleet_cancellation(self) -> None:
        request = {"SpotFleetRequestIds": [FLEET_ID], "TerminateInstances": True}
        self.aws.expect_call("ec2.cancel_spot_fleet_requests", request)


RUN_TAGS = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": RUN}, {"Key": "owner", "Value": "lab"}]
USER_DATA = (
    "#!/bin/bash\n"
    "cat >> /etc/ecs/ecs.config <<'EOF'\n"
    "ECS_CLUSTER=app-cluster\n"
    'ECS_INSTANCE_ATTRIBUTES={"app":"App"}\n'
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
    "ECS_CONTAINER_STOP_TIMEOUT=110s\n"
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m\n"
    "EOF\n"
)


def build_template(image: str) -> dict[str, Any]:
    """Return the run's complete launch template."""
    tags = [{"Key": "Name", "Value": "AppWorker"}, *RUN_TAGS]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 30}
    return {
        "ImageId": image,
        "UserData": base64.b64encode(USER_DATA.encode()).decode(),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0abc"], "AssociatePublicIpAddress": True}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }


def build_fleet_request() -> dict[str, Any]:
    """Return the complete fleet request: the Fleet file's keys, and the keys that the config determines."""
    return {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
        "IamFleetRole": FLEET["IamFleetRole"],
        "TargetCapacity": 3,
        "SpotPrice": "0.1",
        "ValidUntil": datetime.fromtimestamp(START, UTC) + timedelta(days=7),
        "ClientToken": f"App-{RUN}",
        "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": RUN_TAGS}],
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": f"App-{RUN}", "Version": "1"},
                "Overrides": [{"InstanceType": "m5.large", "SubnetId": "subnet-0abc"}],
            }
        ],
    }


@pytest.fixture
def starter(aws: ExactClients, tmp_path: Path) -> Starter:
    return Starter(aws, tmp_path)


def describe_fleet(app: str = "App", state: str = "active", run: str = RUN) -> dict[str, Any]:
    config = {"IamFleetRole": "role", "TargetCapacity": 3}
    tags = [{"Key": "app", "Value": app}, {"Key": "run", "Value": run}]
    return {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": state, "SpotFleetRequestConfig": config,
            "CreateTime": datetime.fromtimestamp(START + 4, UTC), "Tags": tags}  # fmt: skip


def test_start_requests_the_fleet_then_writes_the_monitor_file_then_starts_tasks(starter: Starter) -> None:
    starter.expect_fleet_request()
    starter.expect_monitor_file_copy()
    starter.expect_run_start()
    request = {"cluster": "app-cluster", "service": "AppService", "taskDefinition": f"{FAMILY_ARN}:2",
               "desiredCount": 6, "forceNewDeployment": True, **TASK_OPTIONS}  # fmt: skip
    starter.aws.expect_call("ecs.update_service", request)
    assert starter.start() == STARTED_FILE
    assert load_monitor_file(starter.path) == STARTED_FILE
    assert starter.aws.calls == [
        *LOOKUP_CALLS, "iam.GetRole", "iam.GetRole", "ecs.DescribeTaskDefinition", "ecs.RegisterTaskDefinition",
        "ec2.CreateLaunchTemplate", "ec2.RequestSpotFleet", "s3.PutObject", "s3.PutObject",
        *["s3.GetObject", *["sqs.GetQueueUrl", "sqs.GetQueueAttributes"] * 2, "s3.ListObjectsV2"],
        "s3.GetObject", "s3.ListObjectsV2", "s3.PutObject", "ecs.UpdateService",
    ]  # fmt: skip


TEMPLATE_DATA: dict[str, Any] = {
    "ImageId": "ami-of-template",
    "BlockDeviceMappings": build_template("")["BlockDeviceMappings"],
    "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0abc"]}],
}


def test_the_run_gets_its_own_copy_of_the_fleet_files_launch_template(starter: Starter) -> None:
    starter.expect_fleet_request(**TEMPLATE_DATA)
    starter.expect_monitor_file_copy()
    starter.expect_run_start()
    starter.aws.expect_call("ecs.update_service")
    assert starter.start(**TEMPLATE_KEYS).MONITOR_FLEET_ID == FLEET_ID


@pytest.mark.parametrize(
    "error",
    [
        ("InvalidLaunchTemplateName.NotFoundException", "no such template"),
        ("InvalidLaunchTemplateId.VersionNotFound", "no such version"),
        (
            "InvalidSpotFleetRequestConfig",
            f"The specified launch template, with template name App-{RUN}, does not exist",
        ),
    ],
)
def test_the_fleet_request_is_retried_until_ec2_finds_the_template(starter: Starter, error: tuple[str, str]) -> None:
    starter.expect_fleet_request(error, error)
    starter.expect_monitor_file_copy()
    starter.expect_run_start()
    starter.aws.expect_call("ecs.update_service")
    assert starter.start() == STARTED_FILE
    assert starter.time.slept == [1.0, 2.0]


def test_the_launch_template_is_deleted_if_ec2_rejects_the_fleet(starter: Starter) -> None:
    starter.expect_fleets()
    starter.expect_setup_lookup()
    starter.expect_task_registration()
    starter.expect_new_template()
    starter.aws.expect_error("ec2.request_spot_fleet", "InvalidSpotFleetRequestConfig")
    starter.aws.expect_call("ec2.delete_launch_template", {"LaunchTemplateId": "lt-run"})
    with pytest.raises(CloudError, match="InvalidSpotFleetRequestConfig"):
        starter.start()
    assert starter.time.slept == []


def test_an_unusable_launch_template_causes_an_input_error_and_nothing_is_created(starter: Starter) -> None:
    starter.expect_fleets()
    starter.expect_setup_lookup()
    starter.expect_template_lookup(UserData=base64.b64encode(b"#cloud-config\n").decode())
    with pytest.raises(
        InputError, match=r"lt-0abc version \$Default: its user data is not a shell script; begin it with #!/bin/bash"
    ):
        starter.start(**TEMPLATE_KEYS)
    assert list_writes(starter.aws) == []


def test_an_invalid_fleet_file_is_reported_before_any_call_to_aws(starter: Starter) -> None:
    for invalid in (
        {"IamFleetRole": "arn:aws:iam::FILL_IN_ACCOUNT_ID:role/x"},
        {"LaunchSpecifications": [*FLEET["LaunchSpecifications"]] * 2},
        {"AllocationStrategy": "cheapest"},
        {"NoSuchKey": 1},
    ):
        with pytest.raises(InputError, match=r"fleet\.json"):
            starter.start(**invalid)
    assert starter.aws.calls == []


def test_start_ends_before_any_call_if_the_account_check_fails(starter: Starter) -> None:
    def fail_check() -> None:
        raise SystemExit(2)

    with pytest.raises(SystemExit):
        starter.start(check_account=fail_check)
    assert starter.aws.calls == []


def test_nothing_is_started_if_the_bucket_does_not_exist(starter: Starter) -> None:
    starter.expect_fleets()
    starter.aws.expect_error("s3.head_bucket", "404", request={"Bucket": "app-bucket"})
    starter.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    starter.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    starter.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service()])
    with pytest.raises(InputError) as caught:
        starter.start()
    assert str(caught.value) == (
        "config: the bucket app-bucket does not exist; create the bucket, or correct AWS_BUCKET; then run setup: "
        "python run.py setup"
    )
    assert list_writes(starter.aws) == []


def test_nothing_is_started_before_setup(starter: Starter) -> None:
    """Everything that is missing is named at once, with the command that creates it."""
    starter.expect_fleets()
    starter.aws.expect_call("s3.head_bucket")
    starter.aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    starter.aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    starter.aws.expect_error("ecs.describe_services", "ClusterNotFoundException")
    starter.aws.expect_call("ecs.describe_clusters", {"clusters": ["app-cluster"], "include": ["TAGS"]}, clusters=[])
    with pytest.raises(InputError) as caught:
        starter.start()
    assert str(caught.value) == (
        "config: the queue AppQueue, the dead-letter queue AppDead, the cluster app-cluster and the service AppService "
        "do not exist; run setup first: python run.py setup"
    )
    assert list_writes(starter.aws) == []


def test_the_fleet_is_canceled_if_the_monitor_file_cannot_be_written(starter: Starter) -> None:
    starter.expect_fleet_request()
    starter.expect_fleet_cancellation()
    (starter.folder / "files").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="files"):
        starter.start()
    assert starter.aws.calls[-1] == "ec2.CancelSpotFleetRequests"


def test_the_fleet_is_canceled_if_the_monitor_file_cannot_be_copied_to_s3(starter: Starter) -> None:
    starter.expect_fleet_request()
    starter.aws.expect_error("s3.put_object", "AccessDenied")
    starter.expect_fleet_cancellation()
    with pytest.raises(CloudError, match="copying the monitor file"):
        starter.start()


def test_the_fleet_is_canceled_if_the_service_cannot_be_started(starter: Starter) -> None:
    """Otherwise, the machines would cost money without doing anything while the monitor waits for the jobs to end."""
    starter.expect_fleet_request()
    starter.expect_monitor_file_copy()
    starter.expect_run_start()
    starter.aws.expect_error("ecs.update_service", "AccessDeniedException")
    starter.expect_fleet_cancellation()
    with pytest.raises(CloudError, match="starting the service AppService"):
        starter.start()


def test_the_error_contains_the_id_of_a_fleet_that_cannot_be_canceled(starter: Starter) -> None:
    starter.expect_fleet_request()
    starter.aws.expect_error("s3.put_object", "AccessDenied")
    starter.aws.expect_error("ec2.cancel_spot_fleet_requests", "UnauthorizedOperation")
    with pytest.raises(CloudError, match=f"{FLEET_ID}, WHICH COSTS MONEY UNTIL YOU CANCEL IT"):
        starter.start()


def test_a_second_start_is_rejected_but_restores_a_lost_monitor_file(starter: Starter) -> None:
    starter.expect_fleets(describe_fleet("Another"), describe_fleet(state="cancelled"), describe_fleet())
    starter.expect_desired_tasks(6)
    starter.expect_copy_lookup()
    starter.expect_monitor_file_copy()
    with pytest.raises(InputError, match=r"is already running \(cleanup ends it\); to watch it, type: python run"):
        starter.start()
    assert load_monitor_file(starter.path) == MONITOR_FILE
    starter.expect_fleets(describe_fleet())
    starter.expect_desired_tasks(6)
    with pytest.raises(InputError, match="is already running"):
        starter.start()
    assert list_writes(starter.aws) == ["s3.PutObject", "s3.PutObject"]


OTHER_RUN_FILE = replace(MONITOR_FILE, MONITOR_FLEET_ID="sfr-other")
SAVED_FILE = replace(MONITOR_FILE, MONITOR_QUEUE_NAME="QueueOfAnOlderConfig", MONITOR_CHEAPEST=True)


@pytest.mark.parametrize(
    ("app_copy", "run_copy"), [(SAVED_FILE, None), (OTHER_RUN_FILE, SAVED_FILE), (None, SAVED_FILE)]
)
def test_a_lost_monitor_file_is_restored_from_its_copy_because_the_config_may_have_changed(
    starter: Starter, app_copy: MonitorFile | None, run_copy: MonitorFile | None
) -> None:
    starter.expect_fleets(describe_fleet())
    starter.expect_desired_tasks(6)
    starter.expect_copy_lookup(app_copy, run_copy)
    starter.expect_monitor_file_copy()
    with pytest.raises(InputError, match="is already running"):
        starter.start()
    assert load_monitor_file(starter.path) == SAVED_FILE


@pytest.mark.parametrize("run", ["nightly", "", RUN])
def test_a_fleet_with_the_apps_tag_but_without_a_runs_start_is_not_ours(aws: ExactClients, run: str) -> None:
    """If such a fleet's id were written to a monitor file, the monitor would cancel the fleet."""
    aws.expect_call("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=[describe_fleet(run=run)])
    assert (find_active_fleet(aws.clients.ec2, "App") is not None) == (run == RUN)


def test_a_start_that_was_killed_before_it_started_tasks_can_be_continued(starter: Starter) -> None:
    starter.expect_fleets(describe_fleet())
    starter.expect_desired_tasks(0)
    starter.expect_setup_lookup()
    starter.expect_task_registration()
    starter.expect_monitor_file_copy()
    starter.expect_run_start()
    request = {"cluster": "app-cluster", "service": "AppService", "taskDefinition": f"{FAMILY_ARN}:2",
               "desiredCount": 6, "forceNewDeployment": True, **TASK_OPTIONS}  # fmt: skip
    starter.aws.expect_call("ecs.update_service", request)
    assert starter.start() == STARTED_FILE
    assert {"ec2.RequestSpotFleet", "ec2.CreateLaunchTemplate"}.isdisjoint(starter.aws.calls)


def test_a_run_that_the_monitor_is_ending_is_not_continued(starter: Starter) -> None:
    """When MAX_COST is reached or no jobs remain, the monitor sets the service's and the fleet's targets to 0.

    Workers then no longer start jobs, so additional containers would only cost money.
    """
    ending_fleet = describe_fleet()
    ending_fleet["SpotFleetRequestConfig"]["TargetCapacity"] = 0
    starter.expect_fleets(ending_fleet)
    starter.expect_desired_tasks(0)
    starter.expect_copy_lookup()
    starter.expect_monitor_file_copy()
    with pytest.raises(InputError, match=r"is already running \(cleanup ends it\); to watch it, type: python run"):
        starter.start()


# monitor: one observation


def expect_fleet_lookup(aws: ExactClients) -> None:
    """Expect a lookup of the fleet, which has two instances."""
    request: dict[str, Any] = {"SpotFleetRequestIds": [FLEET_ID]}
    aws.expect_call("ec2.describe_spot_fleet_requests", request, SpotFleetRequestConfigs=[describe_fleet()])
    instances = [{"InstanceId": f"i-{number}", "InstanceType": "m5.large"} for number in range(2)]
    request = {"SpotFleetRequestId": FLEET_ID, "MaxResults": 1000}
    aws.expect_call("ec2.describe_spot_fleet_instances", request, ActiveInstances=instances)


def expect_message_counts(
    aws: ExactClients, url: str, waiting: int, running: int, delayed: int = 0, **attributes: str
) -> None:
    """Expect a lookup of a queue's message counts."""
    prefix = "ApproximateNumberOfMessages"
    values = {prefix: str(waiting), f"{prefix}NotVisible": str(running), f"{prefix}Delayed": str(delayed)}
    request = {"QueueUrl": url, "AttributeNames": [*values, "CreatedTimestamp", "RedrivePolicy"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes=values | attributes)


def expect_no_pauses(aws: ExactClients) -> None:
    """Expect a call that lists the paused machines, and return an empty list."""
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/machines/"}, Contents=[])


def expect_submission(aws: ExactClients, count: int, since: float) -> None:
    """Expect lookups of the submissions since this time: there is one, with this number of jobs."""
    prefix, time = "runs/App/submissions/", "20261123T103000.000Z"
    document = SubmissionDocument("App", "AppQueue", time, "job.json", "digest", count, count)
    request = {"Bucket": "app-bucket", "Prefix": prefix, "StartAfter": f"{prefix}{build_submission_time(since)}"}
    aws.expect_call(
        "s3.list_objects_v2",
        request,
        Contents=[
            {"Key": f"{prefix}{time}.json", "ETag": '"etag"', "LastModified": datetime.fromtimestamp(START, UTC)}
        ],
    )
    body = build_body(build_submission(document))
    aws.expect_call("s3.get_object", {"Bucket": "app-bucket", "Key": f"{prefix}{time}.json"}, Body=body)


def build_body(content: bytes) -> StreamingBody:
    return StreamingBody(BytesIO(content), len(content))


def expect_journals(aws: ExactClients, **done: int) -> None:
    """Expect a listing of the journals, and requests for the first line of each container's newest one.

    `done`: the number of done jobs by container.
    """
    prefix = f"runs/App/{RUN}/attempts/"
    names = ["busy-1", *[f"{container}-2" for container in done]]  # the first object has the container's older totals
    contents = [{"Key": f"{prefix}{name}.jsonl", "ETag": f'"{name}"'} for name in names]
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": prefix}, Contents=contents)
    for container, count in done.items():
        request = {"Bucket": "app-bucket", "Key": f"{prefix}{container}-2.jsonl", "Range": "bytes=0-4095"}
        line = json.dumps({"container": container, "machine": "i-0", "done": count, "failed": 20, "running": 3})
        aws.expect_call("s3.get_object", request, Body=build_body(f"{line}\n".encode()))


RUN_START = RunStart(submissions_since=START - 900, other_jobs=5, dead_letters=0)


def test_an_observation_takes_fifteen_calls_for_any_number_of_jobs_and_machines(aws: ExactClients) -> None:
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    expect_message_counts(aws, QUEUE_URL, 1_000_000, 7, 3, RedrivePolicy=QUEUE_SETTINGS["RedrivePolicy"])
    expect_journals(aws, busy=1_999_000)
    expect_submission(aws, 3_000_000, since=START - 900)
    expect_fleet_lookup(aws)
    aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[describe_service(desired=6)])
    expect_no_pauses(aws)
    request = {"cluster": "app-cluster", "filter": "runningTasksCount == 0", "maxResults": 100}
    aws.expect_call("ecs.list_container_instances", request, containerInstanceArns=["a", "b"])
    common = {"registeredAt": datetime.fromtimestamp(START, UTC), "status": "ACTIVE", "pendingTasksCount": 2}
    instances = [
        common | {"ec2InstanceId": instance, "containerInstanceArn": arn, "runningTasksCount": 0}
        for instance, arn in (("i-0", "a"), ("i-of-another-app", "b"))
    ]
    request = {"cluster": "app-cluster", "containerInstances": ["a", "b"]}
    aws.expect_call("ecs.describe_container_instances", request, containerInstances=instances)
    since = datetime.fromtimestamp(START, UTC)
    prices = [
        {"InstanceType": "m5.large", "SpotPrice": price, "AvailabilityZone": f"us-east-1{zone}", "Timestamp": since}
        for zone, price in (("a", "0.03"), ("b", "0.05"))
    ]
    request = {"InstanceTypes": ["m5.large"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": since,
               "MaxResults": 1000}  # fmt: skip
    aws.expect_call("ec2.describe_spot_price_history", request, SpotPriceHistory=prices)
    for kind in ("error", "information"):  # because the fleet has too few machines
        request = {"SpotFleetRequestId": FLEET_ID, "StartTime": since, "EventType": kind, "MaxResults": 1000}
        aws.expect_call("ec2.describe_spot_fleet_request_history", request, HistoryRecords=[])
    snapshot = observe_run(aws.clients, MONITOR_FILE, RUN_START, RunCaches(aws.clients.s3, MONITOR_FILE), START)
    assert snapshot.problems == ()
    assert snapshot.queue == QueueCounts(1_000_003, 7)
    assert snapshot.totals == RunTotals(done=1_999_000, failed=20, running=3, containers=1, machines=1, unended=1)
    assert (snapshot.submitted, snapshot.running, snapshot.waiting) == (3_000_005, 3, 1_000_007)
    assert snapshot.fleet == FleetState("active", 3, ("i-0", "i-1"), ("m5.large", "m5.large"))
    assert snapshot.idle_instances == (ContainerInstance("i-0", "a", 2, START, is_connected=False),)
    assert snapshot.hourly == pytest.approx(0.08)
    assert len(aws.calls) == 15


def test_an_observation_of_deleted_resources_is_empty(aws: ExactClients) -> None:
    aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/attempts/"}, Contents=[])
    aws.expect_error("ec2.describe_spot_fleet_requests", "InvalidSpotFleetRequestId.NotFound")
    aws.expect_error("ecs.describe_services", "ClusterNotFoundException")
    expect_no_pauses(aws)
    snapshot = observe_run(aws.clients, MONITOR_FILE, None, RunCaches(aws.clients.s3, MONITOR_FILE), START)
    assert snapshot == RunSnapshot(START, None, RunTotals(), None, None, None)
