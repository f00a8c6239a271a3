"""The task definition that ECS starts containers from: image, size, log, and the environment that a worker reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed_something.aws.sqs import QueueUrls
from distributed_something.core.tags import build_ecs_tags, build_tags
from distributed_something.worker import build_machine_log_group

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


STOP_SECONDS = 110  # of the two minutes that a spot machine has left: ECS sends SIGTERM, then SIGKILL after this long
NO_ROLES: Mapping[str, str] = {}
MACHINE_ATTRIBUTE = "app"  # what a machine tells ECS about itself: whose it is


def build_task_definition(
    settings: Settings, queues: QueueUrls, run: str | None, owner: str = "", roles: Mapping[str, str] = NO_ROLES
) -> dict[str, Any]:
    """The request of RegisterTaskDefinition. No credentials in it: the container has a role (`find_task_roles`), or
    without one the machine's.

    `run`: the start of the run (`20261123T104500Z`), under which the workers put their records; None before a run.
    Its tags are the tasks' too.
    """
    environment = _build_environment(settings, queues) | ({"RUN": run} if run is not None else {})
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
                "awslogs-group": build_machine_log_group(settings.LOG_GROUP_NAME),
                "awslogs-region": settings.AWS_REGION,
                "awslogs-stream-prefix": settings.APP_NAME,
                "mode": "non-blocking",  # else a worker stands still while CloudWatch does
            },
        },
    } | _build_mount_permissions(settings)
    return {
        "family": settings.names.task_family,
        "requiresCompatibilities": ["EC2"],
        "containerDefinitions": [container],
        "tags": build_ecs_tags(build_tags(settings, owner, run)),
    } | dict(roles)


def _build_environment(settings: Settings, queues: QueueUrls) -> dict[str, str]:
    return settings.build_worker_environment() | {
        "AWS_DEFAULT_REGION": settings.AWS_REGION,  # what boto3 in a wrapped program reads; others read AWS_REGION
        "SQS_QUEUE_URL": queues.url,
        "SQS_DEAD_LETTER_QUEUE_URL": queues.dead_letter_url,
        "DOCKER_IMAGE": settings.DOCKERHUB_TAG,
        "STOP_SECONDS": str(STOP_SECONDS),
    }


def _build_mount_permissions(settings: Settings) -> dict[str, Any]:
    """What mounting the bucket needs, and nothing without it: one capability and one device, never `privileged`."""
    if not settings.MOUNT_S3:
        return {}
    fuse = {"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}
    return {"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}, "devices": [fuse]}}
