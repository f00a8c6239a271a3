"""ECS features that moto lacks, patched in: tasks that really run, list calls with filters, and rejected deletions.

Moto sets a service's running count to the desired count but starts no tasks. Here, moto's objects only store the state;
`services.py` simulates the scheduler.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecs.exceptions import ECSException, InvalidParameterException
from moto.ecs.models import Cluster, Container, EC2ContainerServiceBackend, Service, TaskDefinition
from moto.ecs.models import Task as MotoTask
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_api._internal import mock_random

from distributed_something.localcloud.emulators.moto_ec2 import MethodReplacer

_original_create_service = EC2ContainerServiceResponse.create_service
_original_init = EC2ContainerServiceBackend.__init__
_original_list_services = EC2ContainerServiceBackend.list_services
_original_update_service = EC2ContainerServiceBackend.update_service
_original_delete_cluster = EC2ContainerServiceBackend.delete_cluster

DEFAULT_MAXIMUM_PERCENT = 200
"""ECS's default for `maximumPercent`."""


class Task(MotoTask):
    """A task in moto's API that has a real worker. The worker's state replaces moto's scripted transitions."""

    def __init__(
        self, cluster: Cluster, definition: TaskDefinition, service: Service, machine_arn: str, backend: Any
    ) -> None:
        self.id = mock_random.uuid4().hex
        self.cluster_name = cluster.name
        self.cluster_arn = cluster.arn
        self.container_instance_arn = machine_arn
        self.desired_status = "RUNNING"
        self.task_definition_arn = definition.arn
        self.overrides = {"containerOverrides": [], "inferenceAcceleratorOverrides": []}
        self.containers = [build_running_container(definition)]
        self.started_by = str(service.deployments[0]["id"]) if service.deployments else ""
        self.tags = list_propagated_tags(service, definition)
        self.launch_type = "EC2"
        self.capacity_provider_name = None
        self.platform_version = None
        self.stopped_reason = ""
        self.stop_code: str | None = None
        self.resource_requirements = backend._calculate_task_resource_requirements(definition)
        self.region_name = cluster.region_name
        self._account_id = backend.account_id
        self._backend = backend
        self.attachments = []
        self.group = f"service:{service.name}"
        self.cpu = str(self.resource_requirements["CPU"])
        self.memory = str(self.resource_requirements["MEMORY"])
        self.connectivity = "CONNECTED"
        self.created_at = self.started_at = utcnow()
        self.stopping_at: datetime | None = None
        self.stopped_at: datetime | None = None
        self.protected_until = 0.0  # when its protection from scale-in and deployments ends, in seconds since the epoch
        self._status: str | None = "RUNNING"
        self.containers[0].task_arn = self.task_arn

    @property
    def status(self) -> str | None:
        return self._status

    @status.setter
    def status(self, value: str) -> None:
        self._status = value

    def advance(self) -> None:
        """Do nothing, because moto's scripted transitions do not apply."""

    def request_stop(self, reason: str, code: str) -> None:
        self.desired_status = "STOPPED"
        self.stopped_reason = reason
        self.stop_code = code
        self.stopping_at = utcnow()

    def mark_stopped(self, exit_code: int | None, reason: str | None = None) -> None:
        """Mark the task and its container as stopped. If the container did not start, `reason` says why."""
        self.desired_status = self.last_status = self.containers[0].last_status = "STOPPED"
        container: Any = self.containers[0]
        container.exitCode, container.reason = exit_code, reason
        self.connectivity = "DISCONNECTED"
        self.stopped_at = utcnow()


def list_propagated_tags(service: Service, definition: TaskDefinition) -> list[dict[str, str]]:
    """Return the tags that a service propagates to its tasks."""
    sources: dict[str, Any] = {"TASK_DEFINITION": definition.tags, "SERVICE": service.tags}
    return list(sources.get(service.propagate_tags) or [])


def build_running_container(definition: TaskDefinition) -> Any:
    """Return moto's representation of a task's container, marked as running."""
    container_class: Any = Container  # typed Any, because the class lacks some abstract CloudFormation methods
    container = container_class(definition)
    container.last_status = "RUNNING"
    container.health_status = "UNKNOWN"
    container.exitCode = None
    container.cpu = str(container.cpu)
    container.memory = str(container.memory) if container.memory else None
    return container


def patch_moto_ecs(replace: MethodReplacer) -> None:
    """Patch moto with the functions in this module. Call this once per process."""
    replace(EC2ContainerServiceBackend, list_tasks, stop_task, list_services, update_service, delete_cluster)
    replace(EC2ContainerServiceBackend, __init__=initialize_ecs_backend)
    replace(EC2ContainerServiceResponse, list_container_instances, create_service, get_task_protection)


def create_service(self: EC2ContainerServiceResponse) -> ActionResult:
    """Create a service with its placement constraints and deployment options, which moto's own CreateService drops."""
    result: Any = _original_create_service(self)
    service = result.result["service"]
    service.placement_constraints = self._get_param("placementConstraints") or []
    service.deployment_configuration = self._get_param("deploymentConfiguration") or {}
    service.enable_ecs_managed_tags = bool(self._get_param("enableECSManagedTags"))
    return ActionResult(result.result)


def get_task_protection(self: EC2ContainerServiceResponse) -> ActionResult:
    """Return which tasks are protected from scale-in. A task that has ended is listed among the failures."""
    backend: Any = self.ecs_backend
    known = backend.tasks.get(backend._get_cluster(self._get_param("cluster", "default")).name, {})
    running = {task.id: task for task in known.values() if task.desired_status == "RUNNING"}
    protected: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for arn in self._get_param("tasks", []):
        task = running.get(get_arn_name(arn))
        if task is None:
            failures.append({"arn": arn, "reason": "MISSING"})
            continue
        protected_until = getattr(task, "protected_until", 0.0)  # moto's own tasks are never protected
        is_protected = time.time() < protected_until
        expiration = {"expirationDate": datetime.fromtimestamp(protected_until, UTC)} if is_protected else {}
        protected.append({"taskArn": task.task_arn, "protectionEnabled": is_protected, **expiration})
    return ActionResult({"protectedTasks": protected, "failures": failures})


def get_maximum_percent(service: Any) -> int:
    """Return how many tasks of a service may run during a deployment, as a percentage of the desired count."""
    options = getattr(service, "deployment_configuration", None) or {}
    return int(options.get("maximumPercent", DEFAULT_MAXIMUM_PERCENT))


def list_placement_expressions(service: Any) -> list[str]:
    """Return the expressions that restrict which machines a service's tasks can run on."""
    constraints = getattr(service, "placement_constraints", None) or []
    return [constraint.get("expression", "") for constraint in constraints if constraint.get("type") == "memberOf"]


def initialize_ecs_backend(self: Any, *args: Any, **kwargs: Any) -> None:
    _original_init(self, *args, **kwargs)
    self.container_instances = defaultdict(dict)  # otherwise moto raises KeyError for a cluster without machines


def list_tasks(
    self: Any,
    cluster_str: str | None = None,
    container_instance: str | None = None,
    family: str | None = None,
    started_by: str | None = None,
    service_name: str | None = None,
    desiredStatus: str | None = None,
) -> list[Any]:
    """Return a cluster's tasks that match all filters; by default, only running tasks.

    Moto's own method matches clusters by substring, ignores the service, and always lists stopped tasks.
    """
    cluster = self._get_cluster(cluster_str or "default")
    filters: list[tuple[str | None, Callable[[Any], str]]] = [
        (desiredStatus or "RUNNING", lambda task: task.desired_status),
        (get_arn_name(service_name), lambda task: task.group.removeprefix("service:")),
        (get_arn_name(container_instance), lambda task: get_arn_name(task.container_instance_arn) or ""),
        (family, lambda task: task.task_definition_arn.split("/")[-1].split(":")[0]),
        (started_by, lambda task: task.started_by),
    ]
    tasks = self.tasks.get(cluster.name, {}).values()
    return [task for task in tasks if all(value is None or value == get_value(task) for value, get_value in filters)]


def get_arn_name(arn: str | None) -> str | None:
    """Return the last part of an ARN. Return a plain name unchanged."""
    return arn.split("/")[-1] if arn else None


def stop_task(self: Any, cluster_str: str, task_str: str, reason: str | None) -> Any:
    tasks = self.tasks.get(self._get_cluster(cluster_str).name, {})
    task = next((task for task in tasks.values() if task.id == get_arn_name(task_str)), None)
    if task is None:
        raise InvalidParameterException("The referenced task was not found.")
    if task.desired_status == "RUNNING":
        task.request_stop(reason or "Task stopped by user", "UserInitiated")
    return task


def list_services(self: Any, *args: Any, **kwargs: Any) -> list[str]:
    """Return the ARNs of all services except deleted ones, as ECS does."""
    deleted = {service.arn for service in self.services.values() if service.status == "INACTIVE"}
    return [arn for arn in _original_list_services(self, *args, **kwargs) if arn not in deleted]


def update_service(self: Any, properties: dict[str, Any]) -> Service:
    """Update a service without changing its counts, and resolve a task definition family to its newest revision.

    Moto's own method sets the running count to the desired count and stores a family without its revision. Another
    revision begins a new deployment, as `forceNewDeployment` does.
    """
    if properties.get("task_definition"):
        properties["task_definition"] = self.describe_task_definition(properties["task_definition"]).arn
    service = self._get_service(properties.get("cluster", "default"), str(get_arn_name(properties["service"])))
    if service.status != "ACTIVE":
        raise ECSException("ServiceNotActiveException", "Service was not ACTIVE.")
    if properties.get("task_definition") not in (None, service.task_definition):
        properties["force_new_deployment"] = True
    counts = service.running_count, service.pending_count
    updated = _original_update_service(self, properties)
    updated.running_count, updated.pending_count = counts
    return updated


def delete_cluster(self: Any, cluster_str: str) -> Cluster:
    """Delete a cluster. As in ECS, this fails if the cluster is in use, which reveals a cleanup in the wrong order."""
    name = self._get_cluster(cluster_str).name
    if any(service.cluster_name == name and service.status == "ACTIVE" for service in self.services.values()):
        problem = "The Cluster cannot be deleted while Services are active."
        raise ECSException("ClusterContainsServicesException", problem)
    if self.container_instances.get(name):
        raise ECSException(
            "ClusterContainsContainerInstancesException",
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        )
    return _original_delete_cluster(self, name)


def list_container_instances(self: EC2ContainerServiceResponse) -> ActionResult:
    """Return the container instances that match the filter. Moto ignores filters and lists busy machines as idle."""
    cluster, status = self._get_param("cluster", "default"), self._get_param("status")
    backend: Any = self.ecs_backend
    arns = backend.list_container_instances(cluster, status=status)
    instances = backend.container_instances[backend._get_cluster(cluster).name]
    expression = self._get_param("filter") or ""
    matching = [
        arn for arn in arns if is_expression_true(expression, build_query_attributes(instances[get_arn_name(arn)]))
    ]
    return ActionResult({"containerInstanceArns": matching})


def build_query_attributes(machine: Any) -> dict[str, str]:
    """Return the attributes of a container instance that the cluster query language can refer to."""
    attributes = {f"attribute:{name}": str(value) for name, value in machine.attributes.items()}
    return {
        "runningTasksCount": str(machine.running_tasks_count),
        "pendingTasksCount": str(machine.pending_tasks_count),
        "ec2InstanceId": str(machine.ec2_instance_id),
        "agentConnected": str(machine.agent_connected).lower(),
        **attributes,
    }


def is_expression_true(expression: str, attributes: dict[str, str]) -> bool:
    """Return whether an expression in the cluster query language is true for the attributes.

    Only `NAME == VALUE`, `NAME != VALUE`, and `NAME in [VALUE, …]`, joined by `and`, are supported. Raise
    InvalidParameterException for other expressions.
    """
    terms = [term for term in re.split(r"\s+and\s+", expression.strip()) if term]
    return all(is_term_true(term, attributes) for term in terms)


def is_term_true(term: str, attributes: dict[str, str]) -> bool:
    if listed := re.fullmatch(r"\(?([\w:.-]+)\s+in\s+\[(.*?)\]\)?", term.strip()):
        return attributes.get(listed[1]) in [value.strip(" '\"") for value in listed[2].split(",")]
    match = re.fullmatch(r"\(?([\w:.-]+)\s*(==|!=)\s*['\"]?([^'\")]*)['\"]?\)?", term.strip())
    if match is None:
        raise InvalidParameterException(f"The local cloud does not support this filter: {term}")
    name, operator, value = match.groups()
    return (attributes.get(name) == value.strip()) == (operator == "==")
