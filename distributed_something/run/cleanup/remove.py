"""Deletes everything that a run created, in an order that stops the costs first.

Every step is attempted even if another step fails, and a failed step is retried several times. A step with nothing to
delete does nothing, so a cleanup can be repeated at any time and from any computer. Other apps' resources are never
changed, because names and tags must match exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import LOG_RETENTION_DAYS, build_log_group_names
from distributed_something.aws.ec2_fleet import cancel_fleet
from distributed_something.aws.ecs import describe_cluster, is_app_cluster, list_service_names, stop_tasks
from distributed_something.aws.sqs import find_queue, is_missing_queue_error
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error, get_error_code
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.observe.queue import observe_queue
from distributed_something.observe.resources import (
    Resource,
    ResourceKind,
    ResourceState,
    iter_app_dashboards,
    iter_app_task_definitions,
    iter_idle_alarms,
    iter_tagged_fleets,
    iter_tagged_machines,
    iter_tagged_templates,
    iter_tagged_volumes,
)
from distributed_something.observe.service import observe_service
from distributed_something.run.cleanup.dead_letter_queue import find_kept_dead_letter_queue
from distributed_something.run.cleanup.report import (
    CleanupReport,
    FailedRemoval,
    KeepReason,
    KeptResource,
    NextBatch,
    RemovedResource,
)
from distributed_something.run.schedule import delete_rule_by_name, delete_run_rule
from distributed_something.worker import split_into_batches

MAX_STEP_ATTEMPTS = 5
MAX_CLUSTER_ATTEMPTS = 30  # a cluster can be deleted only after its machines have ended, which takes minutes
STEP_PAUSE_SECONDS = 10.0
CLUSTER_IN_USE_MESSAGE = "its machines are still ending"
ALARMS_PER_CALL = 100  # CloudWatch's limit for DeleteAlarms
MACHINES_PER_CALL = 100  # EC2: TerminateInstances accepts 1,000, but AWS recommends smaller batches


@dataclass(frozen=True)
class CleanupRequest:
    """The run to clean up, the name of its dead-letter queue, and options for the cleanup.

    `pause`: seconds between two attempts at a step. `whole_app`: delete all of the app's fleets and machines, not only
    the ones that belong to the run. `count_recorded_failures`: returns how many of the run's jobs failed, if every
    job has a final record, else 0; it is called when everything that costs money is stopped. A dead-letter queue that
    holds more messages is kept.
    `failed_too`: delete the dead-letter queue whatever it holds. Neither applies to one that others use.
    `retry_steps`: False for a caller that repeats the cleanup itself. `keep_rule`: keep the rule that calls the
    auto-monitor. `ended_at`: when the run had no jobs left, in seconds since 1970. If a newer batch has used the same
    names since then, resources with these names are kept for that batch.
    """

    monitor_file: MonitorFile
    dead_letter_queue: str
    pause: float = STEP_PAUSE_SECONDS
    whole_app: bool = False
    count_recorded_failures: Callable[[], int] = lambda: 0
    failed_too: bool = False
    retry_steps: bool = True
    keep_rule: bool = False
    ended_at: float | None = None


CleanupAction = Callable[[Clients, CleanupRequest, CleanupReport], None]


@dataclass(frozen=True)
class CleanupStep:
    """One step of a cleanup.

    `label`: the text that the user sees if the step fails. `by_name`: whether the step finds its resources by the app's
    names, which a newer batch also uses. `action`: raises CloudError if it should be retried shortly, and does not
    catch AWS errors.
    """

    kind: ResourceKind
    label: str
    action: CleanupAction
    by_name: bool = False
    attempts: int = MAX_STEP_ATTEMPTS


def delete_run_resources(clients: Clients, run: CleanupRequest, sleep: Callable[[float], None]) -> CleanupReport:
    """Run every cleanup step. AWS errors are included in the report and are not raised."""
    report = CleanupReport()
    for step in _iter_steps(run.monitor_file):
        _retry_step(step, clients, run, report, sleep)
    return report


def _iter_steps(file: MonitorFile) -> Iterator[CleanupStep]:
    kind, app, names = ResourceKind, file.MONITOR_APP_NAME, file.names
    yield CleanupStep(kind.SERVICE, f"service {names.service} (stopping its containers)", _stop_service, by_name=True)
    yield CleanupStep(kind.FLEET, f"fleet {file.MONITOR_FLEET_ID}", _cancel_run_fleet)
    yield CleanupStep(kind.FLEET, f"other fleets of {app}", _cancel_other_fleets)
    yield CleanupStep(kind.MACHINE, f"machines of {app}", _terminate_machines)
    yield CleanupStep(kind.SERVICE, f"service {names.service}", _delete_service, by_name=True)
    yield CleanupStep(kind.ALARM, f"alarms {app}_i-…", _delete_app_alarms, by_name=True)
    yield CleanupStep(kind.DASHBOARD, f"dashboard {app}", _delete_dashboard, by_name=True)
    yield CleanupStep(kind.DEAD_LETTER_QUEUE, "dead-letter queue", _delete_dead_letter_queue, by_name=True)
    yield CleanupStep(kind.QUEUE, f"queue {file.MONITOR_QUEUE_NAME}", _delete_queue, by_name=True)
    yield CleanupStep(
        kind.TASK_DEFINITION, f"task definitions {names.task_family}", _deregister_task_definitions, by_name=True
    )
    yield CleanupStep(kind.LAUNCH_TEMPLATE, f"launch templates {app}-…", _delete_launch_templates)
    yield CleanupStep(kind.VOLUME, f"volumes of {app}", _delete_volumes)
    yield CleanupStep(
        kind.CLUSTER, f"cluster {file.MONITOR_ECS_CLUSTER}", _delete_cluster, by_name=True,
        attempts=MAX_CLUSTER_ATTEMPTS,
    )  # fmt: skip
    yield CleanupStep(kind.LOG_GROUP, "log groups", _report_kept_logs)
    yield CleanupStep(kind.RULE, f"rule {build_monitor_rule_name(app)}", _delete_rule)


def _retry_step(
    step: CleanupStep, clients: Clients, run: CleanupRequest, report: CleanupReport, sleep: Callable[[float], None]
) -> None:
    attempts = step.attempts if run.retry_steps else 1
    for attempt in range(attempts):
        if attempt:
            sleep(run.pause)
        try:
            _run_step(step, clients, run, report)
            return
        except CloudError as error:
            failure = FailedRemoval(step.kind, step.label, error)
        except AWSError as error:
            failure = FailedRemoval(step.kind, step.label, explain_aws_error(f"removing the {step.label}", error))
    report.failed.append(failure)


def _run_step(step: CleanupStep, clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Run the step unless it would delete resources that a newer batch uses."""
    if step.by_name and report.next_batch is None and _has_next_batch(clients, run):
        report.next_batch = NextBatch(run.monitor_file.MONITOR_QUEUE_NAME, run.monitor_file.MONITOR_APP_NAME)
    if not (step.by_name and report.next_batch):
        step.action(clients, run, report)


def _has_next_batch(clients: Clients, run: CleanupRequest) -> bool:
    """Return whether a newer batch uses the names of a run that has ended.

    If so, the queue was created after the run ended, or it contains jobs again. AWS errors are not caught.
    """
    if run.ended_at is None:
        return False
    queue = observe_queue(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    return queue is not None and (queue.created > run.ended_at or queue.counts.jobs > 0)


def _stop_service(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    stop_tasks(clients.ecs, run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.names.service)


def _cancel_run_fleet(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    _cancel_fleet_by_id(clients, run.monitor_file.MONITOR_FLEET_ID, report)


def _cancel_other_fleets(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    if not run.whole_app:
        return
    for fleet in list(iter_tagged_fleets(clients.ec2, run.monitor_file.MONITOR_APP_NAME)):
        if fleet.state is ResourceState.REMAINING and fleet.id != run.monitor_file.MONITOR_FLEET_ID:
            _cancel_fleet_by_id(clients, fleet.id, report)


def _cancel_fleet_by_id(clients: Clients, fleet_id: str, report: CleanupReport) -> None:
    fleet = cancel_fleet(clients.ec2, fleet_id)
    if fleet is not None:
        report.removed.append(RemovedResource(ResourceKind.FLEET, fleet_id, machines=len(fleet.machines)))


def _terminate_machines(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Terminate the run's machines that are not in a fleet this cleanup canceled.

    For example, a fleet that was canceled by hand may have left its machines running. Do nothing if a fleet could not
    be canceled, because the fleet would replace the machines.
    """
    if report.has_failed(ResourceKind.FLEET):
        return
    canceled_fleets = report.list_removed(ResourceKind.FLEET)
    machines = _iter_deletable_resources(iter_tagged_machines(clients.ec2, run.monitor_file.MONITOR_APP_NAME), run)
    ids = [machine.id for machine in machines if machine.fleet not in canceled_fleets]
    for batch in split_into_batches(ids, MACHINES_PER_CALL):
        clients.ec2.terminate_instances(InstanceIds=batch)
        report.removed.append(RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=len(batch)))


def _iter_deletable_resources(resources: Iterable[Resource], run: CleanupRequest) -> Iterator[Resource]:
    """Yield the resources that this cleanup may delete.

    These are all remaining resources of the app, or only the ones whose tags name the run.
    """
    file = run.monitor_file
    for resource in resources:
        is_of_run = resource.run == file.run or resource.fleet == file.MONITOR_FLEET_ID
        if resource.state is ResourceState.REMAINING and (run.whole_app or is_of_run):
            yield resource


def _delete_service(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    file = run.monitor_file
    if observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service) is not None:
        clients.ecs.delete_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.names.service, force=True)
        report.removed.append(RemovedResource(ResourceKind.SERVICE, file.names.service))


def _delete_app_alarms(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    names = [alarm.name for alarm in iter_idle_alarms(clients.cloudwatch, run.monitor_file.MONITOR_APP_NAME)]
    delete_alarms(clients, names)
    if names:
        report.removed.append(RemovedResource(ResourceKind.ALARM, count=len(names)))


def delete_alarms(clients: Clients, names: list[str]) -> None:
    """Delete alarms, up to 100 per call. AWS errors are not caught."""
    for batch in split_into_batches(names, ALARMS_PER_CALL):
        clients.cloudwatch.delete_alarms(AlarmNames=batch)


def _delete_dashboard(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    name = run.monitor_file.MONITOR_APP_NAME
    if not list(iter_app_dashboards(clients.cloudwatch, name)):
        return
    if run.monitor_file.CLEAN_DASHBOARD:
        clients.cloudwatch.delete_dashboards(DashboardNames=[name])
        report.removed.append(RemovedResource(ResourceKind.DASHBOARD, name))
    else:
        report.kept.append(KeptResource(ResourceKind.DASHBOARD, name, KeepReason.CLEAN_DASHBOARD))


def _delete_dead_letter_queue(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Delete the dead-letter queue, unless others use it or it holds more failed jobs than the records.

    The job queue is deleted after this step, because a repeated cleanup reads the name of the dead-letter queue from
    the job queue's attributes.
    """
    queue = observe_queue(clients.sqs, run.dead_letter_queue)
    if queue is None:
        return
    limit = None if run.failed_too or not queue.counts.jobs else run.count_recorded_failures()
    if kept := find_kept_dead_letter_queue(clients.sqs, run.monitor_file, queue, limit):
        report.kept.append(kept)
    else:
        _delete_queue_at(clients, queue.url, RemovedResource(ResourceKind.DEAD_LETTER_QUEUE, queue.name), report)


def _delete_queue(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    name = run.monitor_file.MONITOR_QUEUE_NAME
    if url := find_queue(clients.sqs, name):
        _delete_queue_at(clients, url, RemovedResource(ResourceKind.QUEUE, name), report)


def _delete_queue_at(clients: Clients, url: str, removed: RemovedResource, report: CleanupReport) -> None:
    try:
        clients.sqs.delete_queue(QueueUrl=url)
    except ClientError as error:
        if is_missing_queue_error(error):
            return
        raise
    report.removed.append(removed)


def _deregister_task_definitions(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    count = 0
    for definition in list(iter_app_task_definitions(clients.ecs, run.monitor_file.MONITOR_APP_NAME)):
        clients.ecs.deregister_task_definition(taskDefinition=definition.id)
        count += 1
    if count:
        family = run.monitor_file.names.task_family
        report.removed.append(RemovedResource(ResourceKind.TASK_DEFINITION, family, count=count))


def _delete_launch_templates(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Delete the launch templates of this run and of older starts.

    This step runs after the fleets are canceled, because a fleet needs its template to replace machines. A template
    from an older start does not belong to a fleet, because that start was killed before it requested one.
    """
    file = run.monitor_file
    for template in list(iter_tagged_templates(clients.ec2, file.MONITOR_APP_NAME)):
        if template.state is ResourceState.REMAINING and (run.whole_app or template.run <= file.run):
            clients.ec2.delete_launch_template(LaunchTemplateId=template.id)
            report.removed.append(RemovedResource(ResourceKind.LAUNCH_TEMPLATE, template.name))


def _delete_volumes(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Delete the volumes that are not attached to a machine; the others are deleted with their machines."""
    volumes = iter_tagged_volumes(clients.ec2, run.monitor_file.MONITOR_APP_NAME)
    for volume in list(_iter_deletable_resources(volumes, run)):
        clients.ec2.delete_volume(VolumeId=volume.id)
        report.removed.append(RemovedResource(ResourceKind.VOLUME, volume.name))


def _delete_cluster(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Delete the cluster if its tag shows that setup created it for this app, and nothing uses it anymore."""
    name, app = run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.MONITOR_APP_NAME
    cluster = describe_cluster(clients.ecs, name)
    if cluster is None or cluster["status"] != "ACTIVE":
        return
    if not is_app_cluster(cluster, app):
        report.kept.append(KeptResource(ResourceKind.CLUSTER, name, KeepReason.OLDER_THAN_APP))
        return
    if any(service != run.monitor_file.names.service for service in list_service_names(clients.ecs, name)):
        report.kept.append(KeptResource(ResourceKind.CLUSTER, name, KeepReason.OTHER_SERVICES))
        return
    if cluster["registeredContainerInstancesCount"] or cluster["runningTasksCount"]:
        raise CloudError(CLUSTER_IN_USE_MESSAGE)
    try:
        clients.ecs.delete_cluster(cluster=name)
    except ClientError as error:
        if not get_error_code(error).startswith("ClusterContains"):
            raise
        raise CloudError(CLUSTER_IN_USE_MESSAGE) from None
    report.removed.append(RemovedResource(ResourceKind.CLUSTER, name))


def _report_kept_logs(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    for name in build_log_group_names(run.monitor_file.MONITOR_LOG_GROUP_NAME):
        report.kept.append(KeptResource(ResourceKind.LOG_GROUP, name, KeepReason.RETENTION, LOG_RETENTION_DAYS))


def _delete_rule(clients: Clients, run: CleanupRequest, report: CleanupReport) -> None:
    """Delete the rule that calls the auto-monitor, unless another step failed.

    After a failure, the auto-monitor is still needed to retry the step.
    """
    if report.failed or run.keep_rule:
        return
    name = build_monitor_rule_name(run.monitor_file.MONITOR_APP_NAME)
    if delete_rule_by_name(clients, name) if run.whole_app else delete_run_rule(clients, run.monitor_file):
        report.removed.append(RemovedResource(ResourceKind.RULE, name))
