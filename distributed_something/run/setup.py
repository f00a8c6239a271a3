"""`run.py setup`: queues, log groups, cluster, task definition and a service without tasks. Costs nothing yet.

Every step makes what is missing and corrects what differs, so it can be repeated at any point, on a live run too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import ensure_log_groups
from distributed_something.aws.ecs import (
    describe_service,
    ensure_cluster,
    ensure_service,
    ensure_task_definition,
    find_task_roles,
)
from distributed_something.aws.sqs import ensure_queues
from distributed_something.aws.sts import resolve_owner
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.tags import build_tags
from distributed_something.core.text import format_row

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


def set_up_run(
    settings: Settings, clients: Clients, say: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    """Makes all that jobs and machines need before they come; raises CloudError where AWS refuses, and
    InputError where a queue is another app's."""
    owner = resolve_owner(settings, clients.sts)
    marks = build_tags(settings, owner)
    queues = ensure_queues(clients.sqs, settings, marks, sleep)
    say(format_row("queue", settings.SQS_QUEUE_NAME))
    say(format_row("for failed jobs", settings.SQS_DEAD_LETTER_QUEUE))
    for name, other in ensure_log_groups(clients.logs, settings, marks, sleep).items():
        say(format_row("log group", name) + (f" (of the app {other}: both write to it)" if other else ""))
    ensure_cluster(clients.ecs, settings.ECS_CLUSTER, marks)
    say(format_row("cluster", settings.ECS_CLUSTER))
    with translate_aws_errors("looking for a run that is under way"):
        run = find_active_run(settings, clients)
    wanted = build_task_definition(settings, queues, run, owner, find_task_roles(clients.iam))
    definition = ensure_task_definition(clients.ecs, wanted)
    say(format_row("task definition", definition.rsplit("/", 1)[-1]))
    say(format_row("image", settings.DOCKERHUB_TAG))
    ensure_service(clients.ecs, settings, definition, marks, sleep)
    say(format_row("service", settings.names.service))


def find_active_run(settings: Settings, clients: Clients) -> str | None:
    """The run whose tasks the service is to run now: a new task definition must keep it, or records would part."""
    service = describe_service(clients.ecs, settings.ECS_CLUSTER, settings.names.service)
    if service is None or service["status"] != "ACTIVE" or not service["desiredCount"]:
        return None
    described = clients.ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
    environment = described["taskDefinition"]["containerDefinitions"][0].get("environment", [])
    return next((pair.get("value") for pair in environment if pair.get("name") == "RUN"), None)
