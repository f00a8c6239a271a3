"""The task definition that ECS starts tasks from: image, size, log, and the worker's environment variables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed_something.aws.sqs import QueueUrls
from distributed_something.core.tags import build_ecs_tags, build_tags
from distributed_something.worker import build_machine_log_group

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# ECS sends SIGTERM, and SIGKILL this much later. A spot instance is terminated two minutes after its interruption
# notice.
STOP_SECONDS = 110
NO_ROLES: Mapping[str, str] = {}
# How often a container writes its journal to S3: at most once in MIN_JOURNAL_SECONDS, and so rarely that all containers
# together write at most MAX_JOURNAL_WRITES_PER_SECOND. These writes then cost at most $0.36 per hour (S3 Standard in
# us-east-1: $0.005 per 1,000 PUT requests) and stay far below the 3,500 per second that S3 allows for one prefix.
MIN_JOURNAL_SECONDS, MAX_JOURNAL_WRITES_PER_SECOND = 60, 20
MACHINE_ATTRIBUTE = "app"  # the attribute that tells ECS which app an instance belongs to


def build_task_definition(
    settings: Settings, queues: QueueUrls, run: str | None, owner: str = "", roles: Mapping[str, str] = NO_ROLES
) -> dict[str, Any]:
    """Return the request for RegisterTaskDefinition.

    The request contains no credentials: the container has its own role (see `find_task_roles`) or uses its instance's
    role. Tasks get the definition's tags. `run`: the run's name, such as `20261123T104500Z`, which is part of its
    records' keys; None before a run.
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
                "mode": "non-blocking",  # otherwise a worker would wait whenever CloudWatch is slow
            },
        },
    }
    container |= _build_gpu_requirement(settings) | _build_mount_permissions(settings)
    return {
        "family": settings.names.task_family,
        "requiresCompatibilities": ["EC2"],
        "containerDefinitions": [container],
        "tags": build_ecs_tags(build_tags(settings, owner, run)),
    } | dict(roles)


def _build_environment(settings: Settings, queues: QueueUrls) -> dict[str, str]:
    return settings.build_worker_environment() | {
        "AWS_DEFAULT_REGION": settings.AWS_REGION,  # for boto3 in the wrapped program; other SDKs read AWS_REGION
        "SQS_QUEUE_URL": queues.url,
        "SQS_DEAD_LETTER_QUEUE_URL": queues.dead_letter_url,
        "DOCKER_IMAGE": settings.DOCKERHUB_TAG,
        "STOP_SECONDS": str(STOP_SECONDS),
        "JOURNAL_SECONDS": str(choose_journal_seconds(settings)),
    }


def choose_journal_seconds(settings: Settings) -> int:
    """Return how often, in seconds, each container may write its journal."""
    containers = settings.CLUSTER_MACHINES * settings.TASKS_PER_MACHINE
    return max(MIN_JOURNAL_SECONDS, math.ceil(containers / MAX_JOURNAL_WRITES_PER_SECOND))


def _build_gpu_requirement(settings: Settings) -> dict[str, Any]:
    """Return the number of GPUs that ECS gives to a container alone; without it, a container sees no GPU.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-gpu-specifying.html
    """
    return {"resourceRequirements": [{"type": "GPU", "value": str(settings.GPUS)}]} if settings.GPUS else {}


def _build_mount_permissions(settings: Settings) -> dict[str, Any]:
    """Return the permissions that MOUNT_S3 needs: one capability and one device, never `privileged`.

    Return an empty dictionary if MOUNT_S3 is off.
    """
    if not settings.MOUNT_S3:
        return {}
    fuse = {"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}
    return {"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}, "devices": [fuse]}}
