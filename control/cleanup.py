"""Removes all that a run made, in the order that stops the costs first.

Every step is tried even when another fails, each several times; a step that finds nothing has nothing to do, so the
whole may be repeated at any point. What is another app's is never touched: names are compared whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from botocore.exceptions import ClientError

from control import cluster, fleet, logs, queue
from control.clients import Clients
from control.errors import AWSError, CloudError, code_of, explain
from control.monitorfile import MonitorFile

TRIES = 5
CLUSTER_TRIES = 30  # a cluster can go only after its machines, and those take minutes to end
PAUSE_SECONDS = 10.0
ALARMS_A_CALL = 100  # CloudWatch: names in one DeleteAlarms


class NotYet(Exception):
    """The step cannot be done now, but may be in a moment."""


@dataclass
class Report:
    """What was removed, what was kept on purpose (with the reason), and what could not be removed."""

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """What clean-up is told: the run, its dead-letter queue's name, and how long to pause between tries (seconds)."""

    monitor_file: MonitorFile
    dead_letter_queue: str
    pause: float = PAUSE_SECONDS


Step = Callable[[Clients, Run, Report], None]


def cleanup(clients: Clients, run: Run, sleep: Callable[[float], None]) -> Report:
    """Takes every step; never raises for what AWS says."""
    report = Report()
    for what, step in _steps(run.monitor_file):
        tries = CLUSTER_TRIES if step is _delete_cluster else TRIES
        _try(what, partial(step, clients, run, report), report, tries, run.pause, sleep)
    return report


def _steps(file: MonitorFile) -> Iterator[tuple[str, Step]]:
    yield f"service {file.service_name} (stopping its tasks)", _stop_service
    yield f"fleet {file.MONITOR_FLEET_ID}", _cancel_fleet
    yield f"service {file.service_name}", _delete_service
    yield f"alarms {file.MONITOR_APP_NAME}_i-…", _delete_alarms
    yield f"dashboard {file.MONITOR_APP_NAME}", _delete_dashboard
    yield "dead-letter queue", _delete_dead_letter_queue
    yield f"queue {file.MONITOR_QUEUE_NAME}", _delete_queue
    yield f"task definitions {file.task_family}", _deregister_task_definitions
    yield f"cluster {file.MONITOR_ECS_CLUSTER}", _delete_cluster
    yield "log groups", _keep_logs


def _try(
    what: str, step: Callable[[], None], report: Report, tries: int, pause: float, sleep: Callable[[float], None]
) -> None:
    reason = ""
    for attempt in range(tries):
        if attempt:
            sleep(pause)
        try:
            step()
            return
        except NotYet as error:
            reason = str(error)
        except AWSError as error:
            reason = str(explain(f"removing the {what}", error))
    report.left.append(f"{what}: {reason}")


def _stop_service(clients: Clients, run: Run, report: Report) -> None:
    cluster.stop_tasks(clients.ecs, run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.service_name)


def _cancel_fleet(clients: Clients, run: Run, report: Report) -> None:
    fleet_id = run.monitor_file.MONITOR_FLEET_ID
    try:
        found = fleet.cancel(clients.ec2, fleet_id)
    except CloudError as error:
        raise NotYet(str(error)) from None
    if found is not None:
        report.removed.append(f"fleet {fleet_id} and its {len(found.machines)} machines")


def _delete_service(clients: Clients, run: Run, report: Report) -> None:
    file = run.monitor_file
    if cluster.service_state(clients.ecs, file.MONITOR_ECS_CLUSTER, file.service_name) is not None:
        clients.ecs.delete_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.service_name, force=True)
        report.removed.append(f"service {file.service_name}")


def _delete_alarms(clients: Clients, run: Run, report: Report) -> None:
    ours = re.compile(re.escape(run.monitor_file.MONITOR_APP_NAME) + r"_i-[0-9a-f]+")
    pages = clients.cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"{run.monitor_file.MONITOR_APP_NAME}_i-"
    )
    names = [alarm["AlarmName"] for page in pages for alarm in page.get("MetricAlarms", [])]
    names = [name for name in names if ours.fullmatch(name)]
    for first in range(0, len(names), ALARMS_A_CALL):
        clients.cloudwatch.delete_alarms(AlarmNames=names[first : first + ALARMS_A_CALL])
    if names:
        report.removed.append(f"{len(names)} alarms")


def _delete_dashboard(clients: Clients, run: Run, report: Report) -> None:
    name = run.monitor_file.MONITOR_APP_NAME
    pages = clients.cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=name)
    if not any(entry["DashboardName"] == name for page in pages for entry in page.get("DashboardEntries", [])):
        return
    if run.monitor_file.CLEAN_DASHBOARD:
        clients.cloudwatch.delete_dashboards(DashboardNames=[name])
        report.removed.append(f"dashboard {name}")
    else:
        report.kept.append(f"dashboard {name} (CLEAN_DASHBOARD is 'False')")


def _delete_dead_letter_queue(clients: Clients, run: Run, report: Report) -> None:
    """Before the queue itself: while that one lives, a repeated clean-up still finds the other's name in it."""
    url = queue.find(clients.sqs, run.dead_letter_queue)
    if url is None:
        return
    jobs = queue.counts(clients.sqs, url).jobs
    sources = clients.sqs.list_dead_letter_source_queues(QueueUrl=url).get("queueUrls", [])
    others = [one for one in sources if one.rsplit("/", 1)[-1] != run.monitor_file.MONITOR_QUEUE_NAME]
    if jobs or others:
        why = f"it holds {jobs} failed jobs" if jobs else "other queues use it"
        report.kept.append(f"dead-letter queue {run.dead_letter_queue} ({why})")
        return
    clients.sqs.delete_queue(QueueUrl=url)
    report.removed.append(f"dead-letter queue {run.dead_letter_queue}")


def _delete_queue(clients: Clients, run: Run, report: Report) -> None:
    url = queue.find(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    if url is not None:
        clients.sqs.delete_queue(QueueUrl=url)
        report.removed.append(f"queue {run.monitor_file.MONITOR_QUEUE_NAME}")


def _deregister_task_definitions(clients: Clients, run: Run, report: Report) -> None:
    family, count = run.monitor_file.task_family, 0
    pages = clients.ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
    for arn in [arn for page in pages for arn in page["taskDefinitionArns"]]:
        if arn.rsplit("/", 1)[-1].rsplit(":", 1)[0] == family:
            clients.ecs.deregister_task_definition(taskDefinition=arn)
            count += 1
    if count:
        report.removed.append(f"{count} task definitions {family}")


def _delete_cluster(clients: Clients, run: Run, report: Report) -> None:
    """Only a cluster that `setup` made for this app (its tag says so) and that nothing uses any more."""
    name, app = run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.MONITOR_APP_NAME
    found = cluster.describe(clients.ecs, name)
    if found is None or found["status"] != "ACTIVE":
        return
    if not cluster.is_of(found, app):
        report.kept.append(f"cluster {name} (it was there before this app)")
        return
    pages = clients.ecs.get_paginator("list_services").paginate(cluster=name)
    services = [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]
    if any(service != run.monitor_file.service_name for service in services):
        report.kept.append(f"cluster {name} (other services use it)")
        return
    if found["registeredContainerInstancesCount"] or found["runningTasksCount"]:
        raise NotYet("its machines are still ending")
    try:
        clients.ecs.delete_cluster(cluster=name)
    except ClientError as error:
        if not code_of(error).startswith("ClusterContains"):
            raise
        raise NotYet("its machines are still ending") from None
    report.removed.append(f"cluster {name}")


def _keep_logs(clients: Clients, run: Run, report: Report) -> None:
    for name in logs.group_names(run.monitor_file.MONITOR_LOG_GROUP_NAME):
        report.kept.append(f"log group {name} ({logs.RETENTION_DAYS} days)")
