"""The cluster, the task definition and the service in ECS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import tags
from control.errors import code_of, doing
from control.queue import Queues

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

    from control.settings import Settings

STOP_SECONDS = 110  # of the two minutes that a spot machine has left: ECS sends SIGTERM, then SIGKILL after this long
ROLES = ("taskRoleArn", "executionRoleArn")
NO_ROLES: Mapping[str, str] = {}
DRAINING_WAIT_SECONDS = 120
MACHINE_ATTRIBUTE = "app"  # what a machine tells ECS about itself: whose it is


@dataclass(frozen=True)
class ServiceState:
    """How many tasks the service wants and has."""

    desired: int
    running: int
    pending: int


def task_definition(
    settings: Settings, queues: Queues, run: str | None, owner: str = "", roles: Mapping[str, str] = NO_ROLES
) -> dict[str, Any]:
    """The request of RegisterTaskDefinition. No credentials in it: the container has a role (`iam.roles_of_tasks`), or
    without one the machine's.

    `run`: the start of the run (`20261123T104500Z`), under which the workers put their records; None before a run.
    Its tags are the tasks' too.
    """
    environment = _environment(settings, queues) | ({"RUN": run} if run is not None else {})
    container = {
        "name": settings.APP_NAME,
        "image": settings.DOCKERHUB_TAG,
        "cpu": settings.CPU_SHARES,
        "memory": settings.MEMORY,
        "essential": True,
        "stopTimeout": STOP_SECONDS,
        "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"{settings.LOG_GROUP_NAME}_perInstance",
                "awslogs-region": settings.AWS_REGION,
                "awslogs-stream-prefix": settings.APP_NAME,
                "mode": "non-blocking",  # else a worker stands still while CloudWatch does
            },
        },
    } | _rights(settings)
    return {
        "family": settings.task_family,
        "requiresCompatibilities": ["EC2"],
        "containerDefinitions": [container],
        "tags": tags.for_ecs(tags.of(settings, owner, run)),
    } | dict(roles)


def _environment(settings: Settings, queues: Queues) -> dict[str, str]:
    return settings.for_worker() | {
        "AWS_DEFAULT_REGION": settings.AWS_REGION,  # what boto3 in a wrapped program reads; others read AWS_REGION
        "SQS_QUEUE_URL": queues.url,
        "SQS_DEAD_LETTER_QUEUE_URL": queues.dead_letter_url,
        "DOCKER_IMAGE": settings.DOCKERHUB_TAG,
        "STOP_SECONDS": str(STOP_SECONDS),
    }


def _rights(settings: Settings) -> dict[str, Any]:
    """What mounting the bucket needs, and nothing without it: one capability and one device, never `privileged`."""
    if not settings.MOUNT_S3:
        return {}
    fuse = {"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}
    return {"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}, "devices": [fuse]}}


def placement(app_name: str) -> list[Any]:
    """Where the service's tasks may run: on this app's machines alone. Tasks of other apps stay off those, as theirs
    demand their own; only a service that somebody else made in this cluster, without such a constraint, may come."""
    return [{"type": "memberOf", "expression": f"attribute:{MACHINE_ATTRIBUTE} == {app_name}"}]


def _service_keys(app_name: str) -> dict[str, Any]:
    """What the service is told about its tasks, when it is made and (older ones) when a run starts.

    ECS would balance a service over the zones, unless told not to: start containers where there are fewer, and end
    others for them. Machines are where spot has some, and are to fall idle one by one. https://docs.aws.amazon.com/
    AmazonECS/latest/developerguide/service-rebalancing.html
    """
    return {
        "placementConstraints": placement(app_name),
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
        "availabilityZoneRebalancing": "DISABLED",
    }


def ensure_cluster(ecs: ECSClient, name: str, marks: Mapping[str, str]) -> None:
    """Makes the cluster, tagged as this app's own; an active one stays as it is, whosever it may be."""
    with doing(f"making the cluster {name}"):
        found = describe(ecs, name)
        if found is None or found["status"] != "ACTIVE":
            ecs.create_cluster(clusterName=name, tags=tags.for_ecs(marks))  # type: ignore[arg-type]


def describe(ecs: ECSClient, name: str) -> Any | None:
    """ECS's description of the cluster with its tags; None where there is none of this name."""
    found = ecs.describe_clusters(clusters=[name], include=["TAGS"])["clusters"]
    return next((one for one in found if one["clusterName"] == name), None)


def is_of(described: Any, app_name: str) -> bool:
    """Whether `setup` made this cluster for the app."""
    return any(tag.get("key") == "app" and tag.get("value") == app_name for tag in described.get("tags", []))


def register_task_definition(ecs: ECSClient, request: dict[str, Any]) -> str:
    """The ARN of a revision that says just this: the latest one if it does, else a new one."""
    with doing(f"registering the task definition {request['family']}"):
        latest = _latest(ecs, request["family"])
        if latest is not None and _says(latest, request):
            return str(latest["taskDefinitionArn"])
        return ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"]


def ensure_service(
    ecs: ECSClient, settings: Settings, definition: str, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    """Makes the service with no tasks, or gives a live one the new task definition and leaves its size alone."""
    with doing(f"making the service {settings.service_name}"):
        status = _status(ecs, settings)
        if status == "ACTIVE":
            ecs.update_service(cluster=settings.ECS_CLUSTER, service=settings.service_name, taskDefinition=definition)
            return
        _create_service(ecs, settings, definition, marks, sleep)


def service_state(ecs: ECSClient, cluster: str, service: str) -> ServiceState | None:
    """The service's counts; None where cluster or service are not there (any more)."""
    found = describe_service(ecs, cluster, service)
    if found is None or found["status"] != "ACTIVE":
        return None
    return ServiceState(found["desiredCount"], found["runningCount"], found["pendingCount"])


def describe_service(ecs: ECSClient, cluster: str, service: str) -> Any | None:
    """ECS's description of the service of exactly this name, whatever its status; None where there is none."""
    try:
        found = ecs.describe_services(cluster=cluster, services=[service])["services"]
    except ClientError as error:
        if code_of(error) in ("ClusterNotFoundException", "ServiceNotFoundException"):
            return None
        raise
    return next((one for one in found if one["serviceName"] == service), None)


def start_tasks(ecs: ECSClient, settings: Settings, definition: str, desired: int) -> None:
    """Tells the service how many tasks it shall run, from which revision, and the rest that `setup` of an older version
    did not say. Tasks take the revision's tags."""
    with doing(f"starting the service {settings.service_name}"):
        ecs.update_service(
            cluster=settings.ECS_CLUSTER,
            service=settings.service_name,
            taskDefinition=definition,
            desiredCount=desired,
            **_service_keys(settings.APP_NAME),
        )


def stop_tasks(ecs: ECSClient, cluster: str, service: str) -> None:
    """Lets the service run no task any more; one that is gone has none."""
    if service_state(ecs, cluster, service) is not None:
        ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def _create_service(
    ecs: ECSClient, settings: Settings, definition: str, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> None:
    pause = 5.0
    for attempt in range(int(DRAINING_WAIT_SECONDS / pause) + 1):
        try:
            ecs.create_service(
                cluster=settings.ECS_CLUSTER,
                serviceName=settings.service_name,
                taskDefinition=definition,
                desiredCount=0,
                launchType="EC2",
                tags=tags.for_ecs(marks),  # type: ignore[arg-type]
                **_service_keys(settings.APP_NAME),
            )
            return
        except ClientError as error:
            draining = code_of(error) == "InvalidParameterException" and "raining" in str(error)
            if not draining or attempt * pause >= DRAINING_WAIT_SECONDS:
                raise
            sleep(pause)  # a service that was deleted a moment ago still drains; its name is free after that


def _status(ecs: ECSClient, settings: Settings) -> str | None:
    found = describe_service(ecs, settings.ECS_CLUSTER, settings.service_name)
    return None if found is None else str(found["status"])


def _latest(ecs: ECSClient, family: str) -> Any | None:
    try:
        return ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    except ClientError as error:
        if code_of(error) in ("ClientException", "InvalidParameterException"):  # ECS: «Unable to describe»: none yet
            return None
        raise


def _says(latest: Any, request: dict[str, Any]) -> bool:
    """Whether the registered one agrees in all that is asked for; ECS adds defaults of its own."""
    registered, containers = latest.get("containerDefinitions", []), request["containerDefinitions"]
    same_roles = all(latest.get(key) == request.get(key) for key in ROLES)
    if not same_roles or len(registered) != len(containers) or latest.get("status", "ACTIVE") != "ACTIVE":
        return False
    return all(_agrees(have, want) for have, want in zip(registered, containers, strict=True))


def _agrees(have: Any, want: Any) -> bool:
    """Whether all of `want` is in `have`; lists may have another order."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(_agrees(have.get(key), value) for key, value in want.items())
    if isinstance(want, list):
        return isinstance(have, list) and sorted(have, key=repr) == sorted(want, key=repr)
    return bool(have == want)
