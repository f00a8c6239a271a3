"""The cluster, the task definition, and the service in ECS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.task_definition import MACHINE_ATTRIBUTE
from distributed_something.core.errors import get_error_code, get_error_message, is_access_denied, translate_aws_errors
from distributed_something.core.names import EXECUTION_ROLE, TASK_ROLE
from distributed_something.core.tags import build_ecs_tags, parse_tags

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iam import IAMClient

    from distributed_something.core.config_settings import Settings

ROLE_KEYS = ("taskRoleArn", "executionRoleArn")
DRAINING_WAIT_SECONDS = 120
# Part of ECS's message, which contains "Draining" or "draining". The error code is the same for every invalid value.
_DRAINING_PHRASE = "raining"


def build_placement_constraints(app_name: str) -> list[Any]:
    """Return the constraints that limit the service's tasks to instances of this app.

    Other apps' tasks have the same constraint for their own instances. Only a service without one, which somebody else
    created in the cluster, may place tasks on ours.
    """
    return [{"type": "memberOf", "expression": f"attribute:{MACHINE_ATTRIBUTE} == {app_name}"}]


def _build_service_options(app_name: str) -> dict[str, Any]:
    """Return the service's options for its tasks, which are set at its creation and again at the start of a run.

    Rebalancing over zones is disabled, because ECS would stop tasks in one zone to start others elsewhere. Instances
    are in the zones that have spot capacity, and should become idle one by one.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-rebalancing.html
    """
    return {
        "placementConstraints": build_placement_constraints(app_name),
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
        "availabilityZoneRebalancing": "DISABLED",
    }


def ensure_cluster(ecs: ECSClient, name: str, tags: Mapping[str, str]) -> None:
    """Create the cluster with these tags. An active cluster does not change, whoever owns it. Raise CloudError."""
    with translate_aws_errors(f"setting up the cluster {name}"):
        cluster = describe_cluster(ecs, name)
        if cluster is None or cluster["status"] != "ACTIVE":
            ecs.create_cluster(clusterName=name, tags=build_ecs_tags(tags))  # type: ignore[arg-type]


def describe_cluster(ecs: ECSClient, name: str) -> Any | None:
    """Return ECS's description of the cluster with its tags; None if it does not exist. Raise AWS's errors."""
    clusters = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
    return next((cluster for cluster in clusters if cluster["clusterName"] == name), None)


def is_app_cluster(cluster: Any, app_name: str) -> bool:
    """Return whether `setup` created this cluster for the app. `cluster`: see `describe_cluster`."""
    return parse_tags(cluster.get("tags")).get("app") == app_name


def ensure_task_definition(ecs: ECSClient, request: dict[str, Any]) -> str:
    """Return the ARN of the latest revision if it equals the request, and otherwise of a new one. Raise CloudError."""
    with translate_aws_errors(f"registering the task definition {request['family']}"):
        latest = _describe_latest_definition(ecs, request["family"])
        if latest is not None and _is_same_definition(latest, request):
            return str(latest["taskDefinitionArn"])
        return ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"]


def ensure_service(
    ecs: ECSClient, settings: Settings, definition: str, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    """Create the service without tasks, or set the task definition of an active service and keep its number of tasks.

    `definition`: the ARN of the revision. Raise CloudError if ECS refuses.
    """
    with translate_aws_errors(f"setting up the service {settings.names.service}"):
        status = _find_service_status(ecs, settings)
        if status == "ACTIVE":
            ecs.update_service(cluster=settings.ECS_CLUSTER, service=settings.names.service, taskDefinition=definition)
            return
        _create_service(ecs, settings, definition, tags, sleep)


def list_service_names(ecs: ECSClient, cluster: str) -> list[str]:
    """Return the names of all services of the cluster. Raise AWS's errors."""
    pages = ecs.get_paginator("list_services").paginate(cluster=cluster)
    return [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]


def describe_service(ecs: ECSClient, cluster: str, service: str, *, with_tags: bool = False) -> Any | None:
    """Return ECS's description of the service, whatever its status; None if it does not exist. Raise AWS's errors."""
    options: Any = {"include": ["TAGS"]} if with_tags else {}
    try:
        services = ecs.describe_services(cluster=cluster, services=[service], **options)["services"]
    except ClientError as error:
        if get_error_code(error) in ("ClusterNotFoundException", "ServiceNotFoundException"):
            return None
        raise
    return next((described for described in services if described["serviceName"] == service), None)


def start_tasks(ecs: ECSClient, settings: Settings, definition: str, desired: int) -> None:
    """Let the service run `desired` tasks of the revision `definition`, whose tags they get.

    Also set the options that an older version's `setup` did not set. Raise CloudError if ECS refuses.
    """
    with translate_aws_errors(f"starting the service {settings.names.service}"):
        ecs.update_service(
            cluster=settings.ECS_CLUSTER,
            service=settings.names.service,
            taskDefinition=definition,
            desiredCount=desired,
            **_build_service_options(settings.APP_NAME),
        )


def stop_tasks(ecs: ECSClient, cluster: str, service: str) -> None:
    """Set the service's number of tasks to 0, unless the service does not exist. Raise AWS's errors."""
    described = describe_service(ecs, cluster, service)
    if described is not None and described["status"] == "ACTIVE":
        ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def _create_service(
    ecs: ECSClient, settings: Settings, definition: str, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    pause = 5.0
    for attempt in range(int(DRAINING_WAIT_SECONDS / pause) + 1):
        try:
            ecs.create_service(
                cluster=settings.ECS_CLUSTER,
                serviceName=settings.names.service,
                taskDefinition=definition,
                desiredCount=0,
                launchType="EC2",
                tags=build_ecs_tags(tags),  # type: ignore[arg-type]
                **_build_service_options(settings.APP_NAME),
            )
            return
        except ClientError as error:
            has_draining_phrase = _DRAINING_PHRASE in get_error_message(error)
            is_draining = get_error_code(error) == "InvalidParameterException" and has_draining_phrase
            if not is_draining or attempt * pause >= DRAINING_WAIT_SECONDS:
                raise
            sleep(pause)  # a service that was just deleted keeps its name while it drains


def _find_service_status(ecs: ECSClient, settings: Settings) -> str | None:
    service = describe_service(ecs, settings.ECS_CLUSTER, settings.names.service)
    return None if service is None else str(service["status"])


def _describe_latest_definition(ecs: ECSClient, family: str) -> Any | None:
    try:
        return ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    except ClientError as error:
        # With these codes, ECS says "Unable to describe task definition": there is none yet.
        if get_error_code(error) in ("ClientException", "InvalidParameterException"):
            return None
        raise


def _is_same_definition(latest: Any, request: dict[str, Any]) -> bool:
    """Return whether the latest revision has all requested values. It may have more, because ECS adds defaults."""
    registered, containers = latest.get("containerDefinitions", []), request["containerDefinitions"]
    has_same_roles = all(latest.get(key) == request.get(key) for key in ROLE_KEYS)
    if not has_same_roles or len(registered) != len(containers) or latest.get("status", "ACTIVE") != "ACTIVE":
        return False
    return all(
        _has_requested_values(actual, requested) for actual, requested in zip(registered, containers, strict=True)
    )


def _has_requested_values(actual: Any, requested: Any) -> bool:
    """Return whether `actual` contains all that is in `requested`. The order of lists does not matter."""
    if isinstance(requested, dict):
        return isinstance(actual, dict) and all(
            _has_requested_values(actual.get(key), value) for key, value in requested.items()
        )
    if isinstance(requested, list):
        return isinstance(actual, list) and sorted(actual, key=repr) == sorted(requested, key=repr)
    return bool(actual == requested)


def find_task_roles(iam: IAMClient) -> dict[str, str]:
    """Return the ARNs of the roles of containers, as RegisterTaskDefinition takes them.

    The worker uses `taskRoleArn`. ECS uses `executionRoleArn` to pull the image and to open the log. Return an empty
    dictionary if setupAWS was never run, or if you may not look up the roles. Containers then use the role of their
    instance, as in the published version. Raise CloudError for any other refusal.
    """
    roles = {}
    for key, name in (("taskRoleArn", TASK_ROLE), ("executionRoleArn", EXECUTION_ROLE)):
        with translate_aws_errors(f"looking for the role {name}"):
            try:
                roles[key] = str(iam.get_role(RoleName=name)["Role"]["Arn"])
            except ClientError as error:
                if get_error_code(error) == "NoSuchEntity" or is_access_denied(error):
                    return {}
                raise
    return roles
