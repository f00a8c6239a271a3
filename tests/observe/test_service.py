"""Tests for observing the app's service and its stopped tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.core.aws_errors import AWSEvent
from distributed_something.observe.service import (
    ServiceState,
    StoppedTask,
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
