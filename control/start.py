"""`run.py startCluster`: from here on it costs money. All that can be checked is checked before the first request.

The order is chosen so that no machine is ever without a name: the fleet carries the app's tag from its first moment,
and its monitor file is written as soon as EC2 has answered; if that or the start of the tasks fails, the fleet is
cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import (
    account,
    cluster,
    fleet,
    fleetrequest,
    history,
    iam,
    launchtemplate,
    monitorfile,
    schedule,
    submit,
    tags,
)
from control.clients import Clients
from control.errors import AWSError, CloudError, InputError, Problem, doing
from control.fleet import Running
from control.kinds import Kind, kinds_of
from control.monitorfile import MonitorFile
from control.policies import Place
from control.queue import Queues, find

if TYPE_CHECKING:
    from control.settings import Settings


@dataclass(frozen=True)
class Clock:
    """Time, passed in so that tests step it."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def start_cluster(
    settings: Settings, clients: Clients, fleet_file: Path, content: dict[str, Any], project: Path, clock: Clock, *,
    cheapest: bool = False, look: Callable[[], None] = lambda: None,
) -> MonitorFile:  # fmt: skip
    """Requests the fleet, writes the monitor file, raises the service; raises InputError or CloudError.

    `look`: at the account, once the file is right and before anything is made; it ends the start by raising.
    """
    fleetrequest.check(content, fleet_file, settings, clients.ec2)
    fleet.check_memory(fleet_file, settings, clients.ec2)
    look()
    path = monitorfile.path_for(project, settings.APP_NAME)
    half_done = _half_done_start(settings, clients, path)
    queues = _what_setup_made(settings, clients)
    place = _auto_monitor(settings, clients)
    start = half_done.start if half_done else clock.now()
    run = monitorfile.run_name(start)
    owner = tags.owner_of(settings, clients.sts)
    request = fleetrequest.request_of(
        content, settings, datetime.fromtimestamp(start, UTC), f"{settings.APP_NAME[:40]}-{run}", owner
    )
    theirs = None if half_done else launchtemplate.read(content, fleet_file, settings, clients.ec2)
    kinds = kinds_of(content, settings, theirs)
    wanted = cluster.task_definition(settings, queues, run, owner, iam.roles_of_tasks(clients.iam))
    definition = cluster.register_task_definition(clients.ecs, wanted)
    marks = tags.of(settings, owner, run)
    fleet_id = half_done.id if half_done else _request(settings, clients, request, kinds, marks, clock)
    monitor_file = monitorfile.of_run(settings, fleet_id, start, cheapest=cheapest)
    try:
        _note(clients, monitor_file, path, again=half_done is not None)
        desired = settings.CLUSTER_MACHINES * settings.TASKS_PER_MACHINE
        cluster.start_tasks(clients.ecs, settings, definition, desired)
        if place is not None:
            schedule.start(clients, monitor_file, place, marks)
    except (OSError, Problem) as error:
        with doing(f"cancelling the fleet {fleet_id}, WHICH COSTS MONEY UNTIL YOU CANCEL IT, because of: {error}"):
            clients.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
        raise
    return monitor_file


def _note(clients: Clients, monitor_file: MonitorFile, path: Path, *, again: bool) -> None:
    """Writes the monitor file; `again`: a start goes on with the run. Raises OSError or CloudError."""
    monitorfile.save(monitor_file, path, clients.s3)
    if again:
        with doing("looking at what monitor saw of this run"):
            history.reopen(clients.s3, monitor_file)


def _auto_monitor(settings: Settings, clients: Clients) -> Place | None:
    """Where the auto-monitor is, if it is asked for. Raises CloudError where setupAWS has not made it."""
    if not settings.AUTO_MONITOR:
        return None
    place = account.place_of(clients, settings.AWS_REGION)
    schedule.require(clients, place)
    return place


def _request(
    settings: Settings,
    clients: Clients,
    request: dict[str, Any],
    kinds: list[Kind],
    marks: dict[str, str],
    clock: Clock,
) -> str:
    """Asks for the fleet, of a launch template of the run's own."""
    with launchtemplate.made(kinds, settings, marks, clients.ec2, clock.sleep):
        return fleet.request(clients.ec2, request, clock.sleep)


def watch_arrivals(
    settings: Settings, clients: Clients, monitor_file: MonitorFile, clock: Clock, *, wait_minutes: float,
    pause: float, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Says when machines come, until all are there or `wait_minutes` are over. An error of AWS here ends nothing."""
    until, shown = clock.now() + wait_minutes * 60, -1
    told: set[str] = set()
    fleet_id, start = monitor_file.MONITOR_FLEET_ID, monitor_file.MONITOR_START_TIME / 1000
    while True:
        there = _machines(clients, monitor_file, shown)
        if there != shown:
            say(f"machines        {there} of {settings.CLUSTER_MACHINES}")
            shown = there
        for cause, line in fleet.news(clients.ec2, fleet_id, start, clock.now()).items():
            if cause not in told:
                say(f"fleet           {line}")
                told.add(cause)
        if there >= settings.CLUSTER_MACHINES:
            return
        if clock.now() >= until:
            say("not every machine is there yet; more may come while monitor runs")
            return
        clock.sleep(pause)


def _machines(clients: Clients, monitor_file: MonitorFile, otherwise: int) -> int:
    try:
        found = fleet.state(clients.ec2, monitor_file.MONITOR_FLEET_ID)
    except AWSError:
        return otherwise
    return 0 if found is None else len(found.machines)


def _what_setup_made(settings: Settings, clients: Clients) -> Queues:
    with doing(f"looking at the bucket {settings.AWS_BUCKET}"):
        clients.s3.head_bucket(Bucket=settings.AWS_BUCKET)
    url = submit.find_queue(settings, clients)
    dead = find(clients.sqs, settings.SQS_DEAD_LETTER_QUEUE)
    if dead is None:
        raise CloudError(f"the queue {settings.SQS_DEAD_LETTER_QUEUE} does not exist: run setup first")
    if cluster.service_state(clients.ecs, settings.ECS_CLUSTER, settings.service_name) is None:
        raise CloudError(f"the service {settings.service_name} does not exist: run setup first")
    return Queues(url, dead)


def _half_done_start(settings: Settings, clients: Clients, path: Path) -> Running | None:
    """A fleet whose start was killed before its service was raised: it is gone on with. Where the fleet is to have no
    machine either, it is a monitor that has lowered both.

    One fleet an app: a second would be paid for and watched by nobody, so a run under way is refused (InputError). If
    its monitor file is lost, that is written anew.
    """
    found = fleet.running(clients.ec2, settings.APP_NAME)
    if found is None:
        return None
    with doing(f"looking at the service {settings.service_name}"):
        service = cluster.service_state(clients.ecs, settings.ECS_CLUSTER, settings.service_name)
    if service is not None and service.desired == 0 and found.target > 0:
        return found
    if not path.exists() or found.id != monitorfile.load(path).MONITOR_FLEET_ID:
        monitorfile.save(monitorfile.of_run(settings, found.id, found.start), path, clients.s3)
    wrong = f"the fleet {found.id} of {settings.APP_NAME} runs already"
    raise InputError(path, "MONITOR_FLEET_ID", wrong, "use monitor with this file")
