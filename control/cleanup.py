"""Removes all that a run made, in the order that stops the costs first.

Every step is tried even when another fails, each several times; a step that finds nothing has nothing to do, so the
whole may be repeated at any point, and from any computer. What is another app's is never touched: names and tags are
compared whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from control import cluster, fleet, leftovers, logs, monitorfile, queue, schedule
from control.clients import Clients
from control.errors import AWSError, CloudError, InputError, code_of, doing, explain
from control.findings import counted
from control.leftovers import State, Thing
from control.monitorfile import MonitorFile
from control.policies import monitor_rule

if TYPE_CHECKING:
    from control.settings import Settings

TRIES = 5
CLUSTER_TRIES = 30  # a cluster can go only after its machines, and those take minutes to end
PAUSE_SECONDS = 10.0
ALARMS_A_CALL = 100  # CloudWatch: names in one DeleteAlarms
MACHINES_A_CALL = 100  # EC2: TerminateInstances takes 1,000 and asks for smaller batches
COUNT_LOOKS, COUNT_PAUSE_SECONDS = 3, 5.0  # SQS's counts are approximate: the highest of a few is believed
NO_FLEET = "sfr-00000000-0000-0000-0000-000000000000"  # EC2 knows none of this id: for a run that never had one

HANDED_ON = "queue {queue}, and what else is named after {app}: they are the next batch's, sent since this run ended"


class NotYet(Exception):
    """The step cannot be done now, but may be in a moment."""


@dataclass
class Report:
    """What was removed, what was kept on purpose (with the reason), and what could not be removed. `handed_on`: what
    has the app's names is the next batch's by now."""

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    handed_on: bool = False


@dataclass(frozen=True)
class Run:
    """What clean-up is told: the run, its dead-letter queue's name, how long to pause between tries (seconds).

    `whole_app`: every fleet and machine of the app goes, not only the run's. `failed_too`: a dead-letter queue goes
    with the failed jobs in it. Without `patient` every step is tried once: for a caller that comes again by itself.
    `keep_rule`: what wakes that caller stays, until it has done all that it has to do. `ended`: when no job of the run
    was left (seconds since 1970); a batch that comes later under the same names keeps what has them.
    """

    monitor_file: MonitorFile
    dead_letter_queue: str
    pause: float = PAUSE_SECONDS
    whole_app: bool = False
    failed_too: bool = False
    patient: bool = True
    keep_rule: bool = False
    ended: float | None = None


Step = Callable[[Clients, Run, Report], None]


def cleanup(clients: Clients, run: Run, sleep: Callable[[float], None]) -> Report:
    """Takes every step; never raises for what AWS says."""
    report = Report()
    for what, step in _steps(run.monitor_file):
        tries = (CLUSTER_TRIES if step is _delete_cluster else TRIES) if run.patient else 1
        _try(what, partial(_take, step, clients, run, report), report, tries, run.pause, sleep)
    return report


def _handed_on(clients: Clients, run: Run) -> bool:
    """Whether the names of a run that has ended are the next batch's by now: the queue was made later, or has jobs
    again. Raises AWS's errors."""
    if run.ended is None:
        return False
    url = queue.find(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    if url is None:
        return False
    try:
        counts, made = queue.counts_and_making(clients.sqs, url)
    except ClientError as error:
        if queue.is_missing(error):
            return False  # deleted less than a minute ago: SQS still gives its URL
        raise
    return made > run.ended or counts.jobs > 0


def find_run(settings: Settings, clients: Clients, now: Callable[[], float] = time.time) -> MonitorFile:
    """The app's run where no monitor file is at hand: that of its active fleet, else the newest in the bucket, else
    the config's names without a fleet. Raises CloudError where AWS refuses to tell of fleets."""
    with doing(f"looking for a fleet of {settings.APP_NAME}"):
        fleets = list(leftovers.fleets(clients.ec2, settings.APP_NAME))
    active = next((one for one in fleets if one.state is State.LEFT), None)
    copy = _copy_in_bucket(settings, clients)
    if copy is not None and (active is None or active.id == copy.MONITOR_FLEET_ID):
        return copy
    if active is None:
        return monitorfile.of_run(settings, NO_FLEET, now())
    return monitorfile.of_run(settings, active.id, monitorfile.start_of(active.run) or active.made)


def check_loss(
    clients: Clients, run: MonitorFile, where: Path | str, sleep: Callable[[float], None], *, yes: bool
) -> None:
    """Raises InputError where a clean-up would end another run than this one, or would lose jobs and `yes` is not
    said. `where`: the file that named the run. Raises CloudError where AWS does not let it look."""
    with doing("looking for another run of this app"):
        others = [one for one in leftovers.fleets(clients.ec2, run.MONITOR_APP_NAME) if one.state is State.LEFT]
    other = next((one for one in others if one.id != run.MONITOR_FLEET_ID), None)
    if other is not None and all(one.id != run.MONITOR_FLEET_ID for one in others):
        wrong = f"this run's fleet is not active, but {other.id} of a newer run of {run.MONITOR_APP_NAME} is"
        raise InputError(where, "MONITOR_FLEET_ID", wrong, "type cleanup without this file to end that one")
    jobs = _most_jobs(clients, run, sleep)
    if jobs and not yes:
        wrong = f"{jobs} jobs are still in it, and would be lost"
        right = "let monitor go on until they are through, or add --yes"
        raise InputError(where, f"queue {run.MONITOR_QUEUE_NAME}", wrong, right)


def _most_jobs(clients: Clients, run: MonitorFile, sleep: Callable[[float], None]) -> int:
    most = 0
    for number in range(COUNT_LOOKS):
        if number:
            sleep(COUNT_PAUSE_SECONDS)
        with doing(f"counting the jobs in {run.MONITOR_QUEUE_NAME}"):
            most = max(most, _jobs(clients, run.MONITOR_QUEUE_NAME))
        if most:
            break
    return most


def _jobs(clients: Clients, name: str) -> int:
    """SQS still gives the URL of a queue that was deleted a minute ago; no job is in that."""
    try:
        url = queue.find(clients.sqs, name)
        return queue.counts(clients.sqs, url).jobs if url else 0
    except ClientError as error:
        if queue.is_missing(error):
            return 0
        raise


def _copy_in_bucket(settings: Settings, clients: Clients) -> MonitorFile | None:
    try:
        found = monitorfile.copy_of(clients.s3, settings.AWS_BUCKET, monitorfile.key_for(settings.APP_NAME))
    except (*AWSError, InputError):
        return None  # not to be read: then names and tags must do
    return found if found and found.MONITOR_APP_NAME == settings.APP_NAME else None


def _steps(file: MonitorFile) -> Iterator[tuple[str, Step]]:
    yield f"service {file.service_name} (stopping its tasks)", _stop_service
    yield f"fleet {file.MONITOR_FLEET_ID}", _cancel_fleet
    yield f"other fleets of {file.MONITOR_APP_NAME}", _cancel_other_fleets
    yield f"machines of {file.MONITOR_APP_NAME}", _end_machines
    yield f"service {file.service_name}", _delete_service
    yield f"alarms {file.MONITOR_APP_NAME}_i-…", _delete_alarms
    yield f"dashboard {file.MONITOR_APP_NAME}", _delete_dashboard
    yield "dead-letter queue", _delete_dead_letter_queue
    yield f"queue {file.MONITOR_QUEUE_NAME}", _delete_queue
    yield f"task definitions {file.task_family}", _deregister_task_definitions
    yield f"launch templates {file.MONITOR_APP_NAME}-…", _delete_templates
    yield f"volumes of {file.MONITOR_APP_NAME}", _delete_volumes
    yield f"cluster {file.MONITOR_ECS_CLUSTER}", _delete_cluster
    yield "log groups", _keep_logs
    yield f"rule {monitor_rule(file.MONITOR_APP_NAME)}", _delete_rule


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


def _take(step: Step, clients: Clients, run: Run, report: Report) -> None:
    """The step, but where what it would remove is the next batch's."""
    if step not in _BY_NAME or not (report.handed_on or _handed_on(clients, run)):
        step(clients, run, report)
    elif not report.handed_on:
        report.handed_on, file = True, run.monitor_file
        report.kept.append(HANDED_ON.format(queue=file.MONITOR_QUEUE_NAME, app=file.MONITOR_APP_NAME))


def _stop_service(clients: Clients, run: Run, report: Report) -> None:
    cluster.stop_tasks(clients.ecs, run.monitor_file.MONITOR_ECS_CLUSTER, run.monitor_file.service_name)


def _cancel_fleet(clients: Clients, run: Run, report: Report) -> None:
    _cancel(clients, run.monitor_file.MONITOR_FLEET_ID, report)


def _cancel_other_fleets(clients: Clients, run: Run, report: Report) -> None:
    if not run.whole_app:
        return
    for found in list(leftovers.fleets(clients.ec2, run.monitor_file.MONITOR_APP_NAME)):
        if found.state is State.LEFT and found.id != run.monitor_file.MONITOR_FLEET_ID:
            _cancel(clients, found.id, report)


def _cancel(clients: Clients, fleet_id: str, report: Report) -> None:
    try:
        found = fleet.cancel(clients.ec2, fleet_id)
    except CloudError as error:
        raise NotYet(str(error)) from None
    if found is not None:
        report.removed.append(f"fleet {fleet_id} and its {counted(len(found.machines), 'machine')}")


def _end_machines(clients: Clients, run: Run, report: Report) -> None:
    """Those that no fleet ends (cancelled by hand without them, for one); not while a fleet would replace them."""
    if any(line.startswith(("fleet ", "other fleets ")) for line in report.left):
        return
    ending = {line.split()[1] for line in report.removed if line.startswith("fleet ")}
    found = [one for one in _of_run(leftovers.machines(clients.ec2, run.monitor_file.MONITOR_APP_NAME), run)
             if one.fleet not in ending]  # fmt: skip
    for first in range(0, len(found), MACHINES_A_CALL):
        ids = [one.id for one in found[first : first + MACHINES_A_CALL]]
        clients.ec2.terminate_instances(InstanceIds=ids)
        report.removed.append(f"{len(ids)} machines outside the fleet")


def _of_run(things: Iterable[Thing], run: Run) -> Iterator[Thing]:
    """Of what is the app's, what this clean-up may end: all, or what a tag says to be this run's."""
    file = run.monitor_file
    for thing in things:
        own = thing.run == file.run or thing.fleet == file.MONITOR_FLEET_ID
        if thing.state is State.LEFT and (run.whole_app or own):
            yield thing


def _delete_service(clients: Clients, run: Run, report: Report) -> None:
    file = run.monitor_file
    if cluster.service_state(clients.ecs, file.MONITOR_ECS_CLUSTER, file.service_name) is not None:
        clients.ecs.delete_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.service_name, force=True)
        report.removed.append(f"service {file.service_name}")


def _delete_alarms(clients: Clients, run: Run, report: Report) -> None:
    names = [one.name for one in leftovers.alarms(clients.cloudwatch, run.monitor_file.MONITOR_APP_NAME)]
    delete_alarms(clients, names)
    if names:
        report.removed.append(f"{len(names)} alarms")


def delete_alarms(clients: Clients, names: list[str]) -> None:
    """By hundreds. Raises AWS's errors."""
    for first in range(0, len(names), ALARMS_A_CALL):
        clients.cloudwatch.delete_alarms(AlarmNames=names[first : first + ALARMS_A_CALL])


def _delete_dashboard(clients: Clients, run: Run, report: Report) -> None:
    name = run.monitor_file.MONITOR_APP_NAME
    if not list(leftovers.dashboards(clients.cloudwatch, name)):
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
    try:
        why = _why_kept(clients, run, url)
    except ClientError as error:
        if queue.is_missing(error):
            return  # deleted less than a minute ago: SQS still gives its URL
        raise
    if why:
        report.kept.append(f"dead-letter queue {run.dead_letter_queue} ({why})")
        return
    _delete(clients, url, f"dead-letter queue {run.dead_letter_queue}", report)


def _why_kept(clients: Clients, run: Run, url: str) -> str:
    jobs = queue.counts(clients.sqs, url).jobs
    pages = clients.sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url)
    names = (source.rsplit("/", 1)[-1] for page in pages for source in page.get("queueUrls", []))
    if any(name != run.monitor_file.MONITOR_QUEUE_NAME for name in names):
        return "other queues use it"
    return f"it holds {jobs} failed jobs" if jobs and not run.failed_too else ""


def _delete_queue(clients: Clients, run: Run, report: Report) -> None:
    url = queue.find(clients.sqs, run.monitor_file.MONITOR_QUEUE_NAME)
    if url is not None:
        _delete(clients, url, f"queue {run.monitor_file.MONITOR_QUEUE_NAME}", report)


def _delete(clients: Clients, url: str, what: str, report: Report) -> None:
    try:
        clients.sqs.delete_queue(QueueUrl=url)
    except ClientError as error:
        if queue.is_missing(error):
            return
        raise
    report.removed.append(what)


def _deregister_task_definitions(clients: Clients, run: Run, report: Report) -> None:
    count = 0
    for found in list(leftovers.definitions(clients.ecs, run.monitor_file.MONITOR_APP_NAME)):
        clients.ecs.deregister_task_definition(taskDefinition=found.id)
        count += 1
    if count:
        report.removed.append(f"{count} task definitions {run.monitor_file.task_family}")


def _delete_templates(clients: Clients, run: Run, report: Report) -> None:
    """After the fleets: without its template a fleet could replace no machine. An older one is of a start that was
    killed before its fleet was there: an app has one fleet at a time."""
    file = run.monitor_file
    for found in list(leftovers.templates(clients.ec2, file.MONITOR_APP_NAME)):
        if found.state is State.LEFT and (run.whole_app or found.run <= file.run):
            clients.ec2.delete_launch_template(LaunchTemplateId=found.id)
            report.removed.append(f"launch template {found.name}")


def _delete_volumes(clients: Clients, run: Run, report: Report) -> None:
    """A machine's volumes go with it; these lost theirs."""
    for found in list(_of_run(leftovers.volumes(clients.ec2, run.monitor_file.MONITOR_APP_NAME), run)):
        clients.ec2.delete_volume(VolumeId=found.id)
        report.removed.append(f"volume {found.name}")


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


def _delete_rule(clients: Clients, run: Run, report: Report) -> None:
    """Last, and only when nothing is left: else the auto-monitor comes again and goes on with it."""
    if report.left or run.keep_rule:
        return
    name = monitor_rule(run.monitor_file.MONITOR_APP_NAME)
    if schedule.stop(clients, name) if run.whole_app else schedule.stop_for(clients, run.monitor_file):
        report.removed.append(f"rule {name}")


_BY_NAME = {_stop_service, _delete_service, _delete_alarms, _delete_dashboard, _delete_dead_letter_queue, _delete_queue,
            _deregister_task_definitions, _delete_cluster}  # fmt: skip
