"""An app's cluster, task definition, and service in ECS."""

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
# During a deployment, ECS stops idle containers first and then starts their successors, because full machines have no
# room for both. Busy containers are protected and stay. They count toward the maximum, so that there are never more
# protected containers than desired ones, for which ECS would refuse further protection.
DEPLOYMENT_OPTIONS: Any = {"minimumHealthyPercent": 0, "maximumPercent": 100}
# Part of ECS's message, which contains "Draining" or "draining". The error code is the same for every invalid value.
_DRAINING_PHRASE = "raining"


def build_placement_constraints(app_name: str) -> list[Any]:
    """Return the constraints that limit the service's tasks to this app's instances.

    Other apps' services are limited to their own instances in the same way. Only a service that somebody else created
    in the cluster, without such a constraint, can place tasks on our instances.
    """
    return [{"type": "memberOf", "expression": f"attribute:{MACHINE_ATTRIBUTE} == {app_name}"}]


def _build_service_options(app_name: str) -> dict[str, Any]:
    """Return the options for the service's tasks, which are set when the service is created and when a run starts.

    Rebalancing across zones is disabled, because ECS would stop tasks in one zone to start tasks in another. Instances
    run wherever spot capacity is available, and should become idle one by one.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-rebalancing.html
    """
    return {
        "placementConstraints": build_placement_constraints(app_name),
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
        "availabilityZoneRebalancing": "DISABLED",
        "deploymentConfiguration": DEPLOYMENT_OPTIONS,
    }


def ensure_cluster(ecs: ECSClient, name: str, tags: Mapping[str, str]) -> None:
    """Create the cluster with these tags. An active cluster stays unchanged, no matter who owns it.

    Raise CloudError if a call fails.
    """
    with translate_aws_errors(f"setting up the cluster {name}"):
        cluster = describe_cluster(ecs, name)
        if cluster is None or cluster["status"] != "ACTIVE":
            ecs.create_cluster(clusterName=name, tags=build_ecs_tags(tags))  # type: ignore[arg-type]


def describe_cluster(ecs: ECSClient, name: str) -> Any | None:
    """Return ECS's description of the cluster, with its tags; None if it does not exist. AWS errors are not caught."""
    clusters = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
    return next((cluster for cluster in clusters if cluster["clusterName"] == name), None)


def is_app_cluster(cluster: Any, app_name: str) -> bool:
    """Return whether `setup` created this cluster for the app. `cluster`: see `describe_cluster`."""
    return parse_tags(cluster.get("tags")).get("app") == app_name


def ensure_task_definition(ecs: ECSClient, request: dict[str, Any]) -> str:
    """Return the ARN of the latest revision; register a new revision first if the latest does not match the request.

    Raise CloudError if a call fails.
    """
    with translate_aws_errors(f"registering the task definition {request['family']}"):
        latest = _describe_latest_definition(ecs, request["family"])
        if latest is not None and _is_same_definition(latest, request):
            return str(latest["taskDefinitionArn"])
        return ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"]


def ensure_service(
    ecs: ECSClient, settings: Settings, definition: str, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    """Create the service with no tasks, or deploy the task definition to an active service and keep its task count.

    The deployment is forced even if the revision is the same, because the image may have changed: within a deployment,
    ECS uses the digest that the image's tag had at the beginning. Only an image that is named by its digest cannot
    change. `definition`: the ARN of the task definition's revision. Raise CloudError if a call fails.
    """
    with translate_aws_errors(f"setting up the service {settings.names.service}"):
        status = _find_service_status(ecs, settings)
        if status == "ACTIVE":
            ecs.update_service(
                cluster=settings.ECS_CLUSTER,
                service=settings.names.service,
                taskDefinition=definition,
                deploymentConfiguration=DEPLOYMENT_OPTIONS,
                forceNewDeployment="@" not in settings.DOCKERHUB_TAG,
            )
            return
        _create_service(ecs, settings, definition, tags, sleep)


def list_service_names(ecs: ECSClient, cluster: str) -> list[str]:
    """Return the names of all services in the cluster. AWS errors are not caught."""
    pages = ecs.get_paginator("list_services").paginate(cluster=cluster)
    return [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]


def describe_service(ecs: ECSClient, cluster: str, service: str, *, with_tags: bool = False) -> Any | None:
    """Return ECS's description of the service, regardless of its status; None if it does not exist.

    Other AWS errors are not caught.
    """
    options: Any = {"include": ["TAGS"]} if with_tags else {}
    try:
        services = ecs.describe_services(cluster=cluster, services=[service], **options)["services"]
    except ClientError as error:
        if get_error_code(error) in ("ClusterNotFoundException", "ServiceNotFoundException"):
            return None
        raise
    return next((described for described in services if described["serviceName"] == service), None)


def start_tasks(ecs: ECSClient, settings: Settings, definition: str, desired: int) -> None:
    """Set the service's task count to `desired` and its task definition to the revision `definition`.

    The tasks get the revision's tags. The deployment is forced, so that ECS looks up the image's digest even if the
    revision is the same, as it is if an interrupted start is continued; no containers are running yet. Also set the
    options that `setup` did not set in older versions. Raise CloudError if the call fails.
    """
    with translate_aws_errors(f"starting the service {settings.names.service}"):
        ecs.update_service(
            cluster=settings.ECS_CLUSTER,
            service=settings.names.service,
            taskDefinition=definition,
            desiredCount=desired,
            forceNewDeployment=True,
            **_build_service_options(settings.APP_NAME),
        )


def stop_tasks(ecs: ECSClient, cluster: str, service: str) -> None:
    """Set the service's task count to 0 if the service is active. AWS errors are not caught."""
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
        # These codes come with the message "Unable to describe task definition", which means that none exists yet.
        if get_error_code(error) in ("ClientException", "InvalidParameterException"):
            return None
        raise


def _is_same_definition(latest: Any, request: dict[str, Any]) -> bool:
    """Return whether the latest revision has all requested values. It may have others, because ECS adds defaults."""
    registered, containers = latest.get("containerDefinitions", []), request["containerDefinitions"]
    has_same_roles = all(latest.get(key) == request.get(key) for key in ROLE_KEYS)
    if not has_same_roles or len(registered) != len(containers) or latest.get("status", "ACTIVE") != "ACTIVE":
        return False
    return all(
        _has_requested_values(actual, requested) for actual, requested in zip(registered, containers, strict=True)
    )


def _has_requested_values(actual: Any, requested: Any) -> bool:
    """Return whether `actual` contains everything in `requested`. The order of lists does not matter."""
    if isinstance(requested, dict):
        return isinstance(actual, dict) and all(
            _has_requested_values(actual.get(key), value) for key, value in requested.items()
        )
    if isinstance(requested, list):
        return isinstance(actual, list) and sorted(actual, key=repr) == sorted(requested, key=repr)
    return bool(actual == requested)


def find_task_roles(iam: IAMClient) -> dict[str, str]:
    """Return the ARNs of the containers' roles in the form that RegisterTaskDefinition expects.

    The worker uses `taskRoleArn`. ECS uses `executionRoleArn` to pull the image and write the log. Return an empty
    dictionary if setupAWS was never run, or if the user is not allowed to look up the roles. Containers then use their
    instance's role, as in the published version. Raise CloudError if a call fails for any other reason.
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
