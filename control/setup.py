"""`run.py setup`: queues, log groups, cluster, task definition and a service without tasks. Costs nothing yet.

Every step makes what is missing and corrects what differs, so it can be repeated at any point, on a live run too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from control import cluster, iam, logs, queue, tags
from control.clients import Clients
from control.errors import doing

if TYPE_CHECKING:
    from control.settings import Settings


def setup(settings: Settings, clients: Clients, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Makes all that jobs and machines need before they come; raises CloudError where AWS refuses, and
    InputError where a queue is another app's."""
    owner = tags.owner_of(settings, clients.sts)
    marks = tags.of(settings, owner)
    queues = queue.ensure(clients.sqs, settings, marks, sleep)
    say(f"queue           {settings.SQS_QUEUE_NAME}")
    say(f"for failed jobs {settings.SQS_DEAD_LETTER_QUEUE}")
    for name, other in logs.ensure(clients.logs, settings, marks, sleep).items():
        say(f"log group       {name}" + (f" (of the app {other}: both write to it)" if other else ""))
    cluster.ensure_cluster(clients.ecs, settings.ECS_CLUSTER, marks)
    say(f"cluster         {settings.ECS_CLUSTER}")
    with doing("looking for a run that is under way"):
        run = run_under_way(settings, clients)
    wanted = cluster.task_definition(settings, queues, run, owner, iam.roles_of_tasks(clients.iam))
    definition = cluster.register_task_definition(clients.ecs, wanted)
    say(f"task definition {definition.rsplit('/', 1)[-1]}")
    say(f"image           {settings.DOCKERHUB_TAG}")
    cluster.ensure_service(clients.ecs, settings, definition, marks, sleep)
    say(f"service         {settings.service_name}")


def run_under_way(settings: Settings, clients: Clients) -> str | None:
    """The run whose tasks the service is to run now: a new task definition must keep it, or records would part."""
    service = cluster.describe_service(clients.ecs, settings.ECS_CLUSTER, settings.service_name)
    if service is None or service["status"] != "ACTIVE" or not service["desiredCount"]:
        return None
    described = clients.ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
    environment = described["taskDefinition"]["containerDefinitions"][0].get("environment", [])
    return next((pair.get("value") for pair in environment if pair.get("name") == "RUN"), None)
