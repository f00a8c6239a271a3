"""distributed_something.observe.service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.ecs import ServiceState
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.observe.evidence import MAX_STOPPED_TASKS, DiagnosisSubject, convert_to_seconds


def build_service_evidence(described: Any) -> dict[str, Any]:
    if described is None or described.get("status") != "ACTIVE":
        return {}
    counts = ServiceState(described["desiredCount"], described["runningCount"], described["pendingCount"])
    told = [
        AWSEvent(convert_to_seconds(one["createdAt"]), "service", one["message"]) for one in described.get("events", ())
    ]
    return {"service": counts, "told": tuple(told)}


def list_stopped_tasks(clients: Clients, subject: DiagnosisSubject) -> tuple[AWSEvent, ...]:
    wanted: Any = {"cluster": subject.cluster, "serviceName": subject.service, "desiredStatus": "STOPPED"}
    try:
        arns = clients.ecs.list_tasks(**wanted, maxResults=MAX_STOPPED_TASKS)["taskArns"]
    except (clients.ecs.exceptions.ClusterNotFoundException, clients.ecs.exceptions.ServiceNotFoundException):
        return ()
    tasks: Any = clients.ecs.describe_tasks(cluster=subject.cluster, tasks=arns)["tasks"] if arns else ()
    return tuple(
        AWSEvent(convert_to_seconds(task.get("stoppedAt")), str(task.get("stopCode", "")), _format_stop_reason(task))
        for task in tasks
    )


def _format_stop_reason(task: Mapping[str, Any]) -> str:
    """Why a task stopped, in ECS's words, with its containers' reasons and exit codes."""
    parts = [str(task.get("stoppedReason", ""))]
    for container in task.get("containers", ()):
        parts.append(str(container.get("reason", "")))
        if container.get("exitCode"):
            parts.append(f"exit code {container['exitCode']}")
    return "; ".join(part for part in parts if part)
