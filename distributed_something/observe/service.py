"""Observation of the app's ECS service: its task counts, its events, and its stopped tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.ecs import describe_service
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.core.errors import is_access_denied
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

TASKS_PER_CALL = 100  # ECS limit for ListTasks, DescribeTasks, and GetTaskProtection


@dataclass(frozen=True)
class ServiceState:
    """How many tasks the service should run, is running, and is starting."""

    desired: int
    running: int
    pending: int


@dataclass(frozen=True)
class StoppedTask:
    """A stopped task.

    `at`: seconds since 1970. `kind`: ECS's stop code. `message`: the reasons that ECS reports for the task and its
    containers. `exit_codes`: the nonzero exit codes of its containers, or 0 if all were 0. `id`: ECS's ID, which is
    part of the name of the task's log stream.
    """

    at: float
    kind: str
    message: str
    exit_codes: tuple[int, ...] = ()
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class ActiveTask:
    """A task that is starting or running. `has_image`: whether its machine has pulled the image."""

    id: str
    has_image: bool
    is_running: bool


def observe_service(ecs: ECSClient, cluster: str, service: str) -> ServiceState | None:
    """Return the service's task counts; None if the cluster or service does not exist.

    Other AWS errors are not caught.
    """
    return parse_service_state(describe_service(ecs, cluster, service))


def parse_service_state(described: Mapping[str, Any] | None) -> ServiceState | None:
    """Return the task counts in ECS's description of a service; None if the service is not active."""
    if described is None or described.get("status") != "ACTIVE":
        return None
    return ServiceState(described["desiredCount"], described["runningCount"], described["pendingCount"])


def parse_service_events(described: Mapping[str, Any] | None) -> tuple[AWSEvent, ...]:
    """Return the events in ECS's description of a service; none if the service is not active."""
    if described is None or described.get("status") != "ACTIVE":
        return ()
    events = described.get("events", ())
    return tuple(AWSEvent(convert_to_seconds(event["createdAt"]), "service", event["message"]) for event in events)


def list_active_tasks(ecs: ECSClient, cluster: str, service: str) -> tuple[ActiveTask, ...]:
    """Return up to 100 tasks of the service that are starting or running. AWS errors are not caught."""
    tasks = _describe_tasks(ecs, cluster, service, "RUNNING")
    return tuple(
        ActiveTask(
            _parse_task_id(task),
            has_image=task.get("pullStoppedAt") is not None or task.get("lastStatus") == "RUNNING",
            is_running=task.get("lastStatus") == "RUNNING",
        )
        for task in tasks
    )


def list_stopped_tasks(ecs: ECSClient, cluster: str, service: str) -> tuple[StoppedTask, ...]:
    """Return up to 100 stopped tasks of the service. ECS lists them for about an hour. AWS errors are not caught."""
    return tuple(map(_build_stopped_task, _describe_tasks(ecs, cluster, service, "STOPPED")))


def _describe_tasks(ecs: ECSClient, cluster: str, service: str, desired: Any) -> Any:
    """Return up to 100 tasks of the service; none if the cluster or service does not exist."""
    missing_errors = (ecs.exceptions.ClusterNotFoundException, ecs.exceptions.ServiceNotFoundException)
    try:
        pages = ecs.get_paginator("list_tasks").paginate(
            cluster=cluster, serviceName=service, desiredStatus=desired,
            PaginationConfig={"PageSize": TASKS_PER_CALL, "MaxItems": TASKS_PER_CALL},
        )  # fmt: skip
        arns = [arn for page in pages for arn in page["taskArns"]]  # a page may be empty or incomplete
    except missing_errors:
        return ()
    return ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else ()


def count_protected_tasks(ecs: ECSClient, cluster: str, service: str) -> int | None:
    """Return how many of the service's tasks are protected from scale-in; None if the caller may not look.

    Roles that an older setupAWS made lack the permission. This takes two calls per 100 tasks. Other AWS errors are not
    caught.
    """
    try:
        pages = ecs.get_paginator("list_tasks").paginate(
            cluster=cluster, serviceName=service, PaginationConfig={"PageSize": TASKS_PER_CALL}
        )
        arns = [arn for page in pages for arn in page["taskArns"]]
        return sum(_count_protected(ecs, cluster, batch) for batch in split_into_batches(arns, TASKS_PER_CALL))
    except ClientError as error:
        if is_access_denied(error):
            return None
        raise


def _count_protected(ecs: ECSClient, cluster: str, arns: list[str]) -> int:
    """Return how many of these tasks are protected. ECS reports tasks that it cannot look up inside a success.

    MISSING means that the task has ended in the meantime. After any other failure, the task may be protected.
    """
    response = ecs.get_task_protection(cluster=cluster, tasks=arns)
    unknown = [failure for failure in response.get("failures", ()) if failure.get("reason") != "MISSING"]
    return sum(bool(task.get("protectionEnabled")) for task in response.get("protectedTasks", ())) + len(unknown)


def convert_to_seconds(at: Any) -> float:
    """Return a time from AWS in seconds since 1970; 0 if it is missing."""
    return at.timestamp() if isinstance(at, datetime) else 0.0


def _build_stopped_task(task: Mapping[str, Any]) -> StoppedTask:
    containers = task.get("containers", ())
    reasons = [str(task.get("stoppedReason", "")), *(str(container.get("reason", "")) for container in containers)]
    known = [int(container["exitCode"]) for container in containers if container.get("exitCode") is not None]
    codes = tuple(filter(None, known)) or tuple(known[:1])
    reason = "; ".join(dict.fromkeys(filter(None, reasons)))  # ECS often repeats the container's reason for the task
    at, kind = convert_to_seconds(task.get("stoppedAt")), str(task.get("stopCode", ""))
    return StoppedTask(at, kind, reason, codes, _parse_task_id(task))


def _parse_task_id(task: Mapping[str, Any]) -> str:
    return str(task.get("taskArn", "")).rsplit("/", 1)[-1]
