"""An app's cluster, task definition, and service in ECS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.aws.task_definition import MACHINE_ATTRIBUTE
from distributed_something.core.errors import (
    CloudError,
    get_error_code,
    is_access_denied,
    translate_aws_errors,
)
from distributed_something.core.names import EXECUTION_ROLE, TASK_ROLE
from distributed_something.core.tags import build_ecs_tags, parse_tags

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iam import IAMClient

    from distributed_something.core.config_settings import Settings

# ECS does not find a new revision or a new service everywhere at once. The code is the same for every invalid request.
_NEW_DEFINITION_ERROR = ("ClientException", "TaskDefinition not found")
_NEW_SERVICE_CODE = "ServiceNotFoundException"
OPTIONAL_KEYS = {"linuxParameters", "resourceRequirements"}  # only in the definitions that need them
_TASK_ROLES = {"taskRoleArn": TASK_ROLE, "executionRoleArn": EXECUTION_ROLE}  # keyed as in RegisterTaskDefinition
# A service that was just deleted keeps its name while it drains. ECS's message contains "Draining" or "draining"; the
# code is the same for every invalid value.
_DRAINING_ERROR = ("InvalidParameterException", "raining")
_NEW_LINKED_ROLE_ERROR = ("InvalidParameterException", "service linked role")  # an account's first cluster or service
_NEW_ROLE_ERROR = ("ClientException", "Role is not valid")
# During a deployment, ECS stops idle containers first and then starts their successors, because full machines have no
# room for both. Busy containers are protected and stay. They count toward the maximum, so that there are never more
# protected containers than desired ones, for which ECS would refuse further protection.
DEPLOYMENT_OPTIONS: Any = {"minimumHealthyPercent": 0, "maximumPercent": 100}


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


def ensure_cluster(ecs: ECSClient, name: str, tags: Mapping[str, str], sleep: Callable[[float], None]) -> None:
    """Create the cluster with these tags. An active cluster stays unchanged, no matter who owns it.

    Raise CloudError if a call fails.
    """
    with translate_aws_errors(f"setting up the cluster {name}"):
        cluster = describe_cluster(ecs, name)
        if cluster is None or cluster["status"] != "ACTIVE":
            create: Any = partial(ecs.create_cluster, clusterName=name, tags=build_ecs_tags(tags))  # type: ignore[arg-type]
            retry_until_consistent(create, _NEW_LINKED_ROLE_ERROR, sleep=sleep)


def describe_cluster(ecs: ECSClient, name: str) -> Any | None:
    """Return ECS's description of the cluster, with its tags; None if it does not exist. AWS errors are not caught."""
    clusters = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
    return next((cluster for cluster in clusters if cluster["clusterName"] == name), None)


def is_app_cluster(cluster: Any, app_name: str) -> bool:
    """Return whether `setup` created this cluster for the app. `cluster`: see `describe_cluster`."""
    return parse_tags(cluster.get("tags")).get("app") == app_name


def ensure_task_definition(ecs: ECSClient, request: dict[str, Any], sleep: Callable[[float], None]) -> str:
    """Return the ARN of the latest revision; register a new revision first if the latest does not match the request.

    Retry while ECS cannot find a new role yet. Raise CloudError if a call fails.
    """
    with translate_aws_errors(f"registering the task definition {request['family']}"):
        latest = _describe_latest_definition(ecs, request["family"])
        if latest is not None and _is_same_definition(latest, request):
            return str(latest["taskDefinitionArn"])
        register = partial(ecs.register_task_definition, **request)
        response = retry_until_consistent(register, _NEW_ROLE_ERROR, sleep=sleep)
        return str(response["taskDefinition"]["taskDefinitionArn"])


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
            update: Any = partial(
                ecs.update_service,
                cluster=settings.ECS_CLUSTER,
                service=settings.names.service,
                taskDefinition=definition,
                deploymentConfiguration=DEPLOYMENT_OPTIONS,
                forceNewDeployment="@" not in settings.DOCKERHUB_TAG,
            )
            retry_until_consistent(update, _NEW_DEFINITION_ERROR, sleep=sleep)
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


def start_tasks(
    ecs: ECSClient, settings: Settings, definition: str, desired: int, sleep: Callable[[float], None]
) -> None:
    """Set the service's task count to `desired` and its task definition to the revision `definition`.

    Retry while ECS cannot find the new revision or a new service yet.
    The tasks get the revision's tags. The deployment is forced, so that ECS looks up the image's digest even if the
    revision is the same, as it is if an interrupted start is continued; no containers are running yet. Also set the
    options that `setup` did not set in older versions. Raise CloudError if the call fails.
    """
    with translate_aws_errors(f"starting the service {settings.names.service}"):
        update: Any = partial(
            ecs.update_service,
            cluster=settings.ECS_CLUSTER,
            service=settings.names.service,
            taskDefinition=definition,
            desiredCount=desired,
            forceNewDeployment=True,
            **_build_service_options(settings.APP_NAME),
        )
        retry_until_consistent(update, _NEW_DEFINITION_ERROR, _NEW_SERVICE_CODE, sleep=sleep)


def stop_tasks(ecs: ECSClient, cluster: str, service: str) -> None:
    """Set the service's task count to 0 if the service is active. AWS errors are not caught."""
    described = describe_service(ecs, cluster, service)
    if described is not None and described["status"] == "ACTIVE":
        ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def _create_service(
    ecs: ECSClient, settings: Settings, definition: str, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    create: Any = partial(
        ecs.create_service,
        cluster=settings.ECS_CLUSTER,
        serviceName=settings.names.service,
        taskDefinition=definition,
        desiredCount=0,
        launchType="EC2",
        tags=build_ecs_tags(tags),  # type: ignore[arg-type]
        **_build_service_options(settings.APP_NAME),
    )
    expected = _DRAINING_ERROR, _NEW_LINKED_ROLE_ERROR, _NEW_DEFINITION_ERROR, "ClusterNotFoundException"
    retry_until_consistent(create, *expected, sleep=sleep)


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
    """Return whether the latest revision has all requested values.

    It may have others, because ECS adds defaults, but none of OPTIONAL_KEYS: a container that still asked for a GPU
    would never start on a machine without one.
    """
    registered, containers = latest.get("containerDefinitions", []), request["containerDefinitions"]
    has_same_roles = all(latest.get(key) == request.get(key) for key in _TASK_ROLES)
    if not has_same_roles or len(registered) != len(containers) or latest.get("status", "ACTIVE") != "ACTIVE":
        return False
    return all(
        _has_requested_values(actual, requested)
        and not any(actual.get(key) for key in OPTIONAL_KEYS - requested.keys())
        for actual, requested in zip(registered, containers, strict=True)
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


def find_task_roles(iam: IAMClient, ecs: ECSClient, family: str) -> dict[str, str]:
    """Return the ARNs of the containers' roles in the form that RegisterTaskDefinition expects.

    The worker uses `taskRoleArn`. ECS uses `executionRoleArn` to pull the image and write the log. Return an empty
    dictionary if setupAWS was never run: containers then use their instance's role, as in the published version. If the
    user is not allowed to look up the roles, return those of the latest task definition in the `family`, which exist.
    Raise CloudError if it has none, if only one of the roles exists, or if a call fails.
    """
    try:
        roles = {key: _find_role_arn(iam, name) for key, name in _TASK_ROLES.items()}
    except CloudError as error:
        if not isinstance(error.__cause__, ClientError) or not is_access_denied(error.__cause__):
            raise
        registered = _find_registered_roles(ecs, family)
        if not registered:
            raise _explain_denied_lookup(error) from error.__cause__
        return registered
    missing = [name for key, name in _TASK_ROLES.items() if roles[key] is None]
    if len(missing) == 1:
        raise CloudError(f"the role {missing[0]} does not exist, although setupAWS creates it", "run setupAWS again")
    return {key: arn for key, arn in roles.items() if arn is not None}


def _explain_denied_lookup(error: CloudError) -> CloudError:
    """Return the error with the permission that the user lacks, and why setup cannot do without it."""
    problem = f"{error.problem}; without the permission iam:GetRole, containers would get no role"
    return CloudError(problem, f"{error.remedy} (setupAWS --policies prints it)", action=error.action, code=error.code)


def _find_role_arn(iam: IAMClient, name: str) -> str | None:
    with translate_aws_errors(f"looking for the role {name}"):
        response = none_if_missing(lambda: iam.get_role(RoleName=name), "NoSuchEntity")
    return None if response is None else str(response["Role"]["Arn"])


def _find_registered_roles(ecs: ECSClient, family: str) -> dict[str, str]:
    """Return the roles of the latest task definition; an empty dictionary if it does not have both of ours."""
    with translate_aws_errors(f"looking for the task definition {family}"):
        latest = _describe_latest_definition(ecs, family) or {}
    roles = {key: str(latest.get(key, "")) for key in _TASK_ROLES}
    return roles if all(roles[key].endswith(f":role/{name}") for key, name in _TASK_ROLES.items()) else {}
