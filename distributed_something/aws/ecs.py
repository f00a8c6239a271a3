"""The cluster, the task definition and the service in ECS."""

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
_DRAINING_PHRASE = "raining"  # «Draining» and «draining»; the code is that of any wrong value


def build_placement_constraints(app_name: str) -> list[Any]:
    """Where the service's tasks may run: on this app's machines alone. Tasks of other apps stay off those, as theirs
    demand their own; only a service that somebody else made in this cluster, without such a constraint, may come."""
    return [{"type": "memberOf", "expression": f"attribute:{MACHINE_ATTRIBUTE} == {app_name}"}]


def _build_service_options(app_name: str) -> dict[str, Any]:
    """What the service is told about its tasks, when it is made and (older ones) when a run starts.

    ECS would balance a service over the zones, unless told not to: start containers where there are fewer, and end
    others for them. Machines are where spot has some, and are to fall idle one by one. https://docs.aws.amazon.com/
    AmazonECS/latest/developerguide/service-rebalancing.html
    """
    return {
        "placementConstraints": build_placement_constraints(app_name),
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
        "availabilityZoneRebalancing": "DISABLED",
    }


def ensure_cluster(ecs: ECSClient, name: str, marks: Mapping[str, str]) -> None:
    """Makes the cluster, tagged as this app's own; an active one stays as it is, whosever it may be."""
    with translate_aws_errors(f"making the cluster {name}"):
        found = describe_cluster(ecs, name)
        if found is None or found["status"] != "ACTIVE":
            ecs.create_cluster(clusterName=name, tags=build_ecs_tags(marks))  # type: ignore[arg-type]


def describe_cluster(ecs: ECSClient, name: str) -> Any | None:
    """ECS's description of the cluster with its tags; None where there is none of this name."""
    found = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
    return next((one for one in found if one["clusterName"] == name), None)


def is_app_cluster(described: Any, app_name: str) -> bool:
    """Whether `setup` made this cluster for the app."""
    return parse_tags(described.get("tags")).get("app") == app_name


def ensure_task_definition(ecs: ECSClient, request: dict[str, Any]) -> str:
    """The ARN of a revision that says just this: the latest one if it does, else a new one."""
    with translate_aws_errors(f"registering the task definition {request['family']}"):
        latest = _describe_latest_definition(ecs, request["family"])
        if latest is not None and _is_same_definition(latest, request):
            return str(latest["taskDefinitionArn"])
        return ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"]


def ensure_service(
    ecs: ECSClient, settings: Settings, definition: str, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    """Makes the service with no tasks, or gives a live one the new task definition and leaves its size alone."""
    with translate_aws_errors(f"making the service {settings.names.service}"):
        status = _find_service_status(ecs, settings)
        if status == "ACTIVE":
            ecs.update_service(cluster=settings.ECS_CLUSTER, service=settings.names.service, taskDefinition=definition)
            return
        _create_service(ecs, settings, definition, marks, sleep)


def list_service_names(ecs: ECSClient, cluster: str) -> list[str]:
    """Return the names of all services of the cluster. Raises AWS's errors."""
    pages = ecs.get_paginator("list_services").paginate(cluster=cluster)
    return [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]


def describe_service(ecs: ECSClient, cluster: str, service: str, *, with_tags: bool = False) -> Any | None:
    """ECS's description of the service of exactly this name, whatever its status; None where there is none."""
    more: Any = {"include": ["TAGS"]} if with_tags else {}
    try:
        found = ecs.describe_services(cluster=cluster, services=[service], **more)["services"]
    except ClientError as error:
        if get_error_code(error) in ("ClusterNotFoundException", "ServiceNotFoundException"):
            return None
        raise
    return next((one for one in found if one["serviceName"] == service), None)


def start_tasks(ecs: ECSClient, settings: Settings, definition: str, desired: int) -> None:
    """Tells the service how many tasks it shall run, from which revision, and the rest that `setup` of an older version
    did not say. Tasks take the revision's tags."""
    with translate_aws_errors(f"starting the service {settings.names.service}"):
        ecs.update_service(
            cluster=settings.ECS_CLUSTER,
            service=settings.names.service,
            taskDefinition=definition,
            desiredCount=desired,
            **_build_service_options(settings.APP_NAME),
        )


def stop_tasks(ecs: ECSClient, cluster: str, service: str) -> None:
    """Lets the service run no task any more; one that is gone has none."""
    described = describe_service(ecs, cluster, service)
    if described is not None and described["status"] == "ACTIVE":
        ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def _create_service(
    ecs: ECSClient, settings: Settings, definition: str, marks: Mapping[str, str], sleep: Callable[[float], None]
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
                tags=build_ecs_tags(marks),  # type: ignore[arg-type]
                **_build_service_options(settings.APP_NAME),
            )
            return
        except ClientError as error:
            draining = get_error_code(error) == "InvalidParameterException" and _DRAINING_PHRASE in get_error_message(
                error
            )
            if not draining or attempt * pause >= DRAINING_WAIT_SECONDS:
                raise
            sleep(pause)  # a service that was deleted a moment ago still drains; its name is free after that


def _find_service_status(ecs: ECSClient, settings: Settings) -> str | None:
    found = describe_service(ecs, settings.ECS_CLUSTER, settings.names.service)
    return None if found is None else str(found["status"])


def _describe_latest_definition(ecs: ECSClient, family: str) -> Any | None:
    try:
        return ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    except ClientError as error:
        if get_error_code(error) in (
            "ClientException",
            "InvalidParameterException",
        ):  # ECS: «Unable to describe»: none yet
            return None
        raise


def _is_same_definition(latest: Any, request: dict[str, Any]) -> bool:
    """Whether the registered one agrees in all that is asked for; ECS adds defaults of its own."""
    registered, containers = latest.get("containerDefinitions", []), request["containerDefinitions"]
    same_roles = all(latest.get(key) == request.get(key) for key in ROLE_KEYS)
    if not same_roles or len(registered) != len(containers) or latest.get("status", "ACTIVE") != "ACTIVE":
        return False
    return all(_has_wanted_values(have, want) for have, want in zip(registered, containers, strict=True))


def _has_wanted_values(have: Any, want: Any) -> bool:
    """Whether all of `want` is in `have`; lists may have another order."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(_has_wanted_values(have.get(key), value) for key, value in want.items())
    if isinstance(want, list):
        return isinstance(have, list) and sorted(have, key=repr) == sorted(want, key=repr)
    return bool(have == want)


def find_task_roles(iam: IAMClient) -> dict[str, str]:
    """The roles of the containers, as RegisterTaskDefinition takes them: `taskRoleArn`, which the worker works with,
    and `executionRoleArn`, with which ECS pulls its image and opens its log.

    Empty where setupAWS was never run here, or where this login may not look: then containers go on with the role of
    their machine, as in the published version. Raises CloudError for any other refusal.
    """
    found = {}
    for key, name in (("taskRoleArn", TASK_ROLE), ("executionRoleArn", EXECUTION_ROLE)):
        with translate_aws_errors(f"looking for the role {name}"):
            try:
                found[key] = str(iam.get_role(RoleName=name)["Role"]["Arn"])
            except ClientError as error:
                if get_error_code(error) == "NoSuchEntity" or is_access_denied(error):
                    return {}
                raise
    return found
