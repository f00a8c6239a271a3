"""Removes all that a run made, in the order that stops the costs first.

Every step is tried even when another fails, each several times; a step that finds nothing has nothing to do, so the
whole may be repeated at any point, and from any computer. What is another app's is never touched: names and tags are
compared whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import LOG_RETENTION_DAYS, build_log_group_names
from distributed_something.aws.ec2_fleet import cancel_fleet
from distributed_something.aws.ecs import describe_cluster, is_app_cluster, observe_service, stop_tasks
from distributed_something.aws.sqs import (
    find_queue,
    is_missing_queue_error,
    observe_counts_and_creation,
    observe_queue_counts,
)
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error, get_error_code
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.core.text import format_count
from distributed_something.observe.resources import (
    Resource,
    ResourceState,
    iter_app_dashboards,
    iter_app_task_definitions,
    iter_idle_alarms,
    iter_tagged_fleets,
    iter_tagged_machines,
    iter_tagged_templates,
    iter_tagged_volumes,
)
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.schedule import delete_rule_by_name, delete_run_rule
from distributed_something.worker import split_into_batches

MAX_STEP_ATTEMPTS = 5
MAX_CLUSTER_ATTEMPTS = 30  # a cluster can go only after its machines, and those take minutes to end
STEP_PAUSE_SECONDS = 10.0
ALARMS_PER_CALL = 100  # CloudWatch: names in one DeleteAlarms
MACHINES_PER_CALL = 100  # EC2: TerminateInstances takes 1,000 and asks for smaller batches

NEXT_BATCH_MESSAGE = (
    "queue {queue}, and what else is named after {app}: they are the next batch's, sent since this run ended"
)


class StepNotReadyError(Exception):
    """The step cannot be done now, but may be in a moment."""


@dataclass(frozen=True)
class CleanupRequest:
    """What clean-up is told: the run, its dead-letter queue's name, how long to pause between tries (seconds).

    `whole_app`: every fleet and machine of the app goes, not only the run's. `failed_too`: a dead-letter queue goes
    with the failed jobs in it. Without `patient` every step is tried once: for a caller that comes again by itself.
    `keep_rule`: what wakes that caller stays, until it has done all that it has to do. `ended`: when no job of the run
    was left (seconds since 1970); a batch that comes later under the same names keeps what has them.
    """

    monitor_file: MonitorFile
    dead_letter_queue: str
    pause: float = STEP_PAUSE_SECONDS
    whole_app: bool = False
    failed_too: bool = False
    patient: bool = True
    keep_rule: bool = False
    ended: float | None = None


CleanupStep = Callable[[Clients, CleanupRequest, CleanupReport], None]


def delete_run_resources(clients: Clients, run: CleanupRequest, sleep: Callable[[float], None]) -> CleanupReport:
    """Takes every step; never raises for what AWS says."""
    report = CleanupReport()
    for what, step in _iter_steps(run.monitor_file):
        tries = (MAX_CLUSTER_ATTEMPTS if step is _delete_cluster else MAX_STEP_ATTEMPTS) if run.patient else 1
        _retry_step(what, partial(_run_step, step, clients, run, report), report, tries, run.pause, sleep)
    return report


def _has_next_batch(clients: Clients, run: CleanupRequest) -> bool:
    """Whether the names of a run that has ended are the next batch's by now: the queue was made later, or has jobs
    again. Raises AWS's errors."""
    if run.ended is None:
        return False
    url = find_queue(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    if url is None:
        return False
    try:
        counts, made = observe_counts_and_creation(clients.sqs, url)
    except ClientError as error:
        if is_missing_queue_error(error):
            return False  # deleted less than a minute ago: SQS still gives its URL
        raise
    return made > run.ended or counts.jobs > 0


def _iter_steps(file: MonitorFile) -> Iterator[tuple[str, CleanupStep]]:
    yield f"service {file.names.service} (stopping its tasks)", _stop_service
    yield f"fleet {file.MONITOR_FLEET_ID}", _cancel_run_fleet
    yield f"other fleets of {file.MONITOR_APP_NAME}", _cancel_other_fleets
    yield f"machines of {file.MONITOR_APP_NAME}", _terminate_machines
    yield f"service {file.names.service}", _delete_service
    yield f"alarms {file.MONITOR_APP_NAME}_i-…", _delete_app_alarms
    yield f"dashboard {file.MONITOR_APP_NAME}", _delete_dashboard
    yield "dead-letter queue", _delete_dead_letter_queue
    yield f"queue {file.MONITOR_QUEUE_NAME}", _delete_queue
    yield f"task definitions {file.names.task_family}", _deregister_task_definitions
    yield f"launch templates {file.MONITOR_APP_NAME}-…", _delete_launch_templates
    yield f"volumes of {file.MONITOR_APP_NAME}", _delete_volumes
    yield f"cluster {file.MONITOR_ECS_CLUSTER}", _delete_cluster
    yield "log groups", _report_kept_logs
    yield f"rule {build_monitor_rule_name(file.MONITOR_APP_NAME)}", _delete_rule


def _retry_step(
    what: str, step: Callable[[], None], report: CleanupReport, tries: int, pause: float, sleep: Callable[[float], None]
) -> None:
    reason = ""
    for attempt in range(tries):
        if attempt:
            sleep(pause)
        try:
            step()
            return
        except StepNotReadyError as error:
            reason = str(error)
        except AWSError as error:
            reason = str(explain_aws_error(f"removing the {what}", error))
    report.left.append(f"{what}: {reason}")


def _run_step(step: CleanupStep, clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """The step, but where what it would remove is the next batch's."""
    if step not in _NAME_BASED_STEPS or not (report.handed_on or _has_next_batch(clients, run)):
        step(clients, run, report)
    elif not report.handed_on:
        report.handed_on, file = True, run.monitor_file
        report.kept.append(NEXT_BATCH_MESSAGE.format(queue=file.MONITOR_QUEUE_NAME, app=file.MONITOR_APP_NAME))


def _stop_service(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    stop_tasks(clients.ecs, run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.names.service)


def _cancel_run_fleet(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    _cancel_fleet_by_id(clients, run.monitor_file.MONITOR_FLEET_ID, report)


def _cancel_other_fleets(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    if not run.whole_app:
        return
    for found in list(iter_tagged_fleets(clients.ec2, run.monitor_file.MONITOR_APP_NAME)):
        if found.state is ResourceState.LEFT and found.id != run.monitor_file.MONITOR_FLEET_ID:
            _cancel_fleet_by_id(clients, found.id, report)


def _cancel_fleet_by_id(clients: Clients, fleet_id: str, report: CleanupReport) -> None:
    try:
        found = cancel_fleet(clients.ec2, fleet_id)
    except CloudError as error:
        raise StepNotReadyError(str(error)) from None
    if found is not None:
        report.removed.append(f"fleet {fleet_id} and its {format_count(len(found.machines), 'machine')}")


def _terminate_machines(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Those that no fleet ends (cancelled by hand without them, for one); not while a fleet would replace them."""
    if any(line.startswith(("fleet ", "other fleets ")) for line in report.left):
        return
    ending = {line.split()[1] for line in report.removed if line.startswith("fleet ")}
    found = [
        one
        for one in _iter_deletable_resources(iter_tagged_machines(clients.ec2, run.monitor_file.MONITOR_APP_NAME), run)
        if one.fleet not in ending
    ]
    for batch in split_into_batches(found, MACHINES_PER_CALL):
        ids = [one.id for one in batch]
        clients.ec2.terminate_instances(InstanceIds=ids)
        report.removed.append(f"{len(ids)} machines outside the fleet")


def _iter_deletable_resources(things: Iterable[Resource], run: CleanupRequest) -> Iterator[Resource]:
    """Of what is the app's, what this clean-up may end: all, or what a tag says to be this run's."""
    file = run.monitor_file
    for thing in things:
        own = thing.run == file.run or thing.fleet == file.MONITOR_FLEET_ID
        if thing.state is ResourceState.LEFT and (run.whole_app or own):
            yield thing


def _delete_service(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    file = run.monitor_file
    if observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service) is not None:
        clients.ecs.delete_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.names.service, force=True)
        report.removed.append(f"service {file.names.service}")


def _delete_app_alarms(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    names = [one.name for one in iter_idle_alarms(clients.cloudwatch, run.monitor_file.MONITOR_APP_NAME)]
    delete_alarms(clients, names)
    if names:
        report.removed.append(f"{len(names)} alarms")


def delete_alarms(clients: Clients, names: list[str]) -> None:
    """By hundreds. Raises AWS's errors."""
    for batch in split_into_batches(names, ALARMS_PER_CALL):
        clients.cloudwatch.delete_alarms(AlarmNames=batch)


def _delete_dashboard(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    name = run.monitor_file.MONITOR_APP_NAME
    if not list(iter_app_dashboards(clients.cloudwatch, name)):
        return
    if run.monitor_file.CLEAN_DASHBOARD:
        clients.cloudwatch.delete_dashboards(DashboardNames=[name])
        report.removed.append(f"dashboard {name}")
    else:
        report.kept.append(f"dashboard {name} (CLEAN_DASHBOARD is 'False')")


def _delete_dead_letter_queue(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Before the queue itself: while that one lives, a repeated clean-up still finds the other's name in it."""
    url = find_queue(clients.sqs, run.dead_letter_queue)
    if url is None:
        return
    try:
        why = _format_keep_reason(clients, run, url)
    except ClientError as error:
        if is_missing_queue_error(error):
            return  # deleted less than a minute ago: SQS still gives its URL
        raise
    if why:
        report.kept.append(f"dead-letter queue {run.dead_letter_queue} ({why})")
        return
    _delete_queue_by_url(clients, url, f"dead-letter queue {run.dead_letter_queue}", report)


def _format_keep_reason(clients: Clients, run: CleanupRequest, url: str) -> str:
    jobs = observe_queue_counts(clients.sqs, url).jobs
    pages = clients.sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url)
    names = (source.rsplit("/", 1)[-1] for page in pages for source in page.get("queueUrls", []))
    if any(name != run.monitor_file.MONITOR_QUEUE_NAME for name in names):
        return "other queues use it"
    return f"it holds {jobs} failed jobs" if jobs and not run.failed_too else ""


def _delete_queue(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    url = find_queue(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    if url is not None:
        _delete_queue_by_url(clients, url, f"queue {run.monitor_file.MONITOR_QUEUE_NAME}", report)


def _delete_queue_by_url(clients: Clients, url: str, what: str, report: CleanupReport) -> None:
    try:
        clients.sqs.delete_queue(QueueUrl=url)
    except ClientError as error:
        if is_missing_queue_error(error):
            return
        raise
    report.removed.append(what)


def _deregister_task_definitions(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    count = 0
    for found in list(iter_app_task_definitions(clients.ecs, run.monitor_file.MONITOR_APP_NAME)):
        clients.ecs.deregister_task_definition(taskDefinition=found.id)
        count += 1
    if count:
        report.removed.append(f"{count} task definitions {run.monitor_file.names.task_family}")


def _delete_launch_templates(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """After the fleets: without its template a fleet could replace no machine. An older one is of a start that was
    killed before its fleet was there: an app has one fleet at a time."""
    file = run.monitor_file
    for found in list(iter_tagged_templates(clients.ec2, file.MONITOR_APP_NAME)):
        if found.state is ResourceState.LEFT and (run.whole_app or found.run <= file.run):
            clients.ec2.delete_launch_template(LaunchTemplateId=found.id)
            report.removed.append(f"launch template {found.name}")


def _delete_volumes(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """A machine's volumes go with it; these lost theirs."""
    for found in list(
        _iter_deletable_resources(iter_tagged_volumes(clients.ec2, run.monitor_file.MONITOR_APP_NAME), run)
    ):
        clients.ec2.delete_volume(VolumeId=found.id)
        report.removed.append(f"volume {found.name}")


def _delete_cluster(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Only a cluster that `setup` made for this app (its tag says so) and that nothing uses any more."""
    name, app = run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.MONITOR_APP_NAME
    found = describe_cluster(clients.ecs, name)
    if found is None or found["status"] != "ACTIVE":
        return
    if not is_app_cluster(found, app):
        report.kept.append(f"cluster {name} (it was there before this app)")
        return
    pages = clients.ecs.get_paginator("list_services").paginate(cluster=name)
    services = [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]
    if any(service != run.monitor_file.names.service for service in services):
        report.kept.append(f"cluster {name} (other services use it)")
        return
    if found["registeredContainerInstancesCount"] or found["runningTasksCount"]:
        raise StepNotReadyError("its machines are still ending")
    try:
        clients.ecs.delete_cluster(cluster=name)
    except ClientError as error:
        if not get_error_code(error).startswith("ClusterContains"):
            raise
        raise StepNotReadyError("its machines are still ending") from None
    report.removed.append(f"cluster {name}")


def _report_kept_logs(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    for name in build_log_group_names(run.monitor_file.MONITOR_LOG_GROUP_NAME):
        report.kept.append(f"log group {name} ({LOG_RETENTION_DAYS} days)")


def _delete_rule(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Last, and only when nothing is left: else the auto-monitor comes again and goes on with it."""
    if report.left or run.keep_rule:
        return
    name = build_monitor_rule_name(run.monitor_file.MONITOR_APP_NAME)
    if delete_rule_by_name(clients, name) if run.whole_app else delete_run_rule(clients, run.monitor_file):
        report.removed.append(f"rule {name}")


_NAME_BASED_STEPS = {
    _stop_service,
    _delete_service,
    _delete_app_alarms,
    _delete_dashboard,
    _delete_dead_letter_queue,
    _delete_queue,
    _deregister_task_definitions,
    _delete_cluster,
}
