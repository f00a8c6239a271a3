"""Tests for observing the app's service and its stopped tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.core.aws_errors import AWSEvent
from distributed_something.observe.service import (
    ServiceState,
    StoppedTask,
    count_protected_tasks,
    list_stopped_tasks,
    observe_service,
    parse_service_events,
    parse_service_state,
)
from tests.support.fakes import START, ExactClients, expect_exact_calls

QUERY = {"cluster": "app-cluster", "services": ["AppService"]}
SERVICE = {"serviceName": "AppService", "status": "ACTIVE", "desiredCount": 6, "runningCount": 4, "pendingCount": 1}
AT_START = datetime.fromtimestamp(START, UTC)


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as stubbed_aws:
        yield stubbed_aws


def test_an_active_service_has_task_counts(aws: ExactClients) -> None:
    aws.expect_call("ecs.describe_services", QUERY, services=[SERVICE])
    assert observe_service(aws.clients.ecs, "app-cluster", "AppService") == ServiceState(6, 4, 1)


@pytest.mark.parametrize("code", ["ClusterNotFoundException", "ServiceNotFoundException"])
def test_a_missing_cluster_or_service_has_no_state(aws: ExactClients, code: str) -> None:
    aws.expect_error("ecs.describe_services", code)
    assert observe_service(aws.clients.ecs, "app-cluster", "AppService") is None


@pytest.mark.parametrize("status", ["DRAINING", "INACTIVE"])
def test_a_deleted_service_has_no_state_and_no_events(status: str) -> None:
    deleted = SERVICE | {"status": status, "events": [{"createdAt": AT_START, "message": "it drains"}]}
    assert parse_service_state(deleted) is None
    assert parse_service_events(deleted) == ()


def test_service_events_have_a_time() -> None:
    active = SERVICE | {"events": [{"createdAt": AT_START, "message": "unable to place a task"}]}
    assert parse_service_events(active) == (AWSEvent(START, "service", "unable to place a task"),)


def list_tasks(aws: ExactClients, *tasks: dict[str, Any]) -> tuple[StoppedTask, ...]:
    arns = [f"task-{number}" for number in range(len(tasks))]
    aws.expect_call("ecs.list_tasks", None, taskArns=arns)
    if tasks:
        aws.expect_call("ecs.describe_tasks", {"cluster": "app-cluster", "tasks": arns}, tasks=list(tasks))
    return list_stopped_tasks(aws.clients.ecs, "app-cluster", "AppService")


def test_a_stopped_task_has_all_its_reasons_and_nonzero_exit_codes(aws: ExactClients) -> None:
    containers = [{"exitCode": 137, "reason": "OutOfMemoryError"}, {"exitCode": 0}, {"reason": "not started"}]
    task = {"stoppedAt": AT_START, "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container",
            "containers": containers}  # fmt: skip
    reasons = "Essential container; OutOfMemoryError; not started"
    assert list_tasks(aws, task) == (StoppedTask(START, "EssentialContainerExited", reasons, (137,)),)


def test_missing_values_in_a_stopped_task_become_empty(aws: ExactClients) -> None:
    assert list_tasks(aws, {}) == (StoppedTask(0.0, "", ""),)


def test_if_no_tasks_have_stopped_none_are_looked_up(aws: ExactClients) -> None:
    assert list_tasks(aws) == ()


@pytest.mark.parametrize("code", ["ClusterNotFoundException", "ServiceNotFoundException"])
def test_a_missing_service_has_no_stopped_tasks(aws: ExactClients, code: str) -> None:
    aws.expect_error("ecs.list_tasks", code)
    assert list_stopped_tasks(aws.clients.ecs, "app-cluster", "AppService") == ()


# Protection from scale-in


def expect_task_pages(aws: ExactClients, *counts: int) -> list[list[str]]:
    """Expect pages with this many running tasks of the service, and return their ARNs."""
    pages = [[f"arn:{page}-{number}" for number in range(count)] for page, count in enumerate(counts)]
    query: dict[str, Any] = {"cluster": "app-cluster", "serviceName": "AppService", "maxResults": 100}
    for number, arns in enumerate(pages):
        more = {"nextToken": f"page {number + 1}"} if number + 1 < len(pages) else {}
        token = {"nextToken": f"page {number}"} if number else {}
        aws.expect_call("ecs.list_tasks", query | token, taskArns=arns, **more)
    return pages


def describe_protection(arn: str, *, enabled: bool) -> dict[str, Any]:
    return {"taskArn": arn, "protectionEnabled": enabled} | ({"expirationDate": AT_START} if enabled else {})


def test_protected_tasks_are_counted_on_all_pages_with_100_tasks_a_call(aws: ExactClients) -> None:
    first, second, third = expect_task_pages(aws, 100, 100, 30)
    for batch, enabled in ((first, True), (second, False), (third, True)):
        response = [describe_protection(arn, enabled=enabled) for arn in batch]
        request = {"cluster": "app-cluster", "tasks": batch}
        aws.expect_call("ecs.get_task_protection", request, protectedTasks=response, failures=[])
    assert count_protected_tasks(aws.clients.ecs, "app-cluster", "AppService") == 130


def test_a_task_that_has_ended_is_not_protected_but_one_that_ecs_cannot_look_up_may_be(aws: ExactClients) -> None:
    expect_task_pages(aws, 3)
    failures = [{"arn": "arn:0-0", "reason": "MISSING"}, {"arn": "arn:0-1", "reason": "TASK_NOT_VALID"}]
    protected = [describe_protection("arn:0-2", enabled=True)]
    aws.expect_call("ecs.get_task_protection", None, protectedTasks=protected, failures=failures)
    assert count_protected_tasks(aws.clients.ecs, "app-cluster", "AppService") == 2


def test_a_service_without_tasks_has_no_protected_ones(aws: ExactClients) -> None:
    expect_task_pages(aws, 0)
    assert count_protected_tasks(aws.clients.ecs, "app-cluster", "AppService") == 0


@pytest.mark.parametrize("call", ["ecs.list_tasks", "ecs.get_task_protection"])
def test_without_the_permission_the_number_of_protected_tasks_is_unknown(aws: ExactClients, call: str) -> None:
    """Roles that an older setupAWS made do not have it."""
    if call != "ecs.list_tasks":
        expect_task_pages(aws, 1)
    aws.expect_error(call, "AccessDeniedException")
    assert count_protected_tasks(aws.clients.ecs, "app-cluster", "AppService") is None


def test_other_errors_are_not_hidden(aws: ExactClients) -> None:
    aws.expect_error("ecs.list_tasks", "ThrottlingException")
    with pytest.raises(ClientError, match="ThrottlingException"):
        count_protected_tasks(aws.clients.ecs, "app-cluster", "AppService")
