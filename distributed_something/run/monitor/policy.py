"""What the monitor does next. Pure: the same look and the same history give the same actions, wherever it runs.

Jobs are compared with slots (machines x tasks a machine x jobs a task). Towards the end there are fewer jobs than
slots: the service is lowered, which stops idle containers only (busy ones are protected), machines without a task are
ended, and the fleet's target is lowered with them, so that EC2 starts none again. When jobs come, both are raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory

MIN_EMPTY_LOOKS = (
    3  # SQS's counts are approximate: a zero is believed only after this many in a row, and the settling time
)
CHEAPEST_DELAY_SECONDS = 15 * 60.0  # as published: by then the fleet has had its chance to start
SETTLING_SECONDS = 75.0  # longer than the minute in which, says SQS, its approximate counts settle
FLEET_VISIBILITY_SECONDS = 5 * 60.0  # by then EC2 tells of a fleet that was made just now; mostly it takes a second
HOPELESS_FAILURE_COUNT = 50  # jobs that failed for good, with not one done: not a matter of single jobs


@dataclass(frozen=True)
class Pace:
    """In seconds: how often to look; how soon again while machines fall idle; how long SQS's counts take to settle, so
    that an empty queue is believed; how long a machine that joined just now is given to get its first task."""

    look: float = 30.0
    soon: float = 15.0  # ECS sees within seconds that its service is lowered, and an idle container ends in as many
    settle: float = SETTLING_SECONDS
    new: float = 120.0


class EndReason(Enum):
    """How it is over. RUN: no jobs are left. FLEET: its fleet has ended (cancelled by hand, or its time is up) while
    jobs wait; two days later EC2 knows no such fleet. NOTHING_WORKS: every job fails. COST: it has cost what it may,
    and nothing runs any more."""

    RUN = "run"
    FLEET = "fleet"
    NOTHING_WORKS = "nothing works"
    COST = "cost"


@dataclass(frozen=True)
class FleetTargetChange:
    """The fleet is to have so many machines; none that runs is ended by this."""

    machines: int


@dataclass(frozen=True)
class TaskCountChange:
    """The service is to run so many containers."""

    tasks: int


@dataclass(frozen=True)
class IdleMachineTermination:
    """End those of these machines that still have no task."""

    hosts: tuple[ContainerInstance, ...]


@dataclass(frozen=True)
class RunClosure:
    """No job is begun any more; those that run finish."""


MonitorAction = EndReason | FleetTargetChange | TaskCountChange | IdleMachineTermination | RunClosure


def choose_actions(
    look: RunSnapshot, history: RunHistory, file: MonitorFile, *, cheapest: bool, pace: Pace
) -> list[MonitorAction]:
    """What to do now; `history` has this look in it."""
    if history.ended is not None:
        return [EndReason.RUN]
    empty_for = look.at - history.empty_since if history.empty_since is not None else 0.0
    if history.empty_looks >= MIN_EMPTY_LOOKS and empty_for >= pace.settle:
        return [EndReason.RUN]
    if look.queue and look.queue.waiting and _is_fleet_gone(look, file):
        return [EndReason.FLEET]
    if _is_every_job_failing(look, history):
        return [EndReason.NOTHING_WORKS]
    if file.MONITOR_MAX_COST and history.cost >= file.MONITOR_MAX_COST:
        return _choose_closing_actions(look, history, pace)
    late = cheapest and look.at - file.MONITOR_START_TIME / 1000 >= CHEAPEST_DELAY_SECONDS
    return _choose_scaling_actions(look, history, file, pace, cheapest=late)


def has_surplus_containers(look: RunSnapshot, file: MonitorFile) -> bool:
    """Whether the service has more containers than this look's jobs need. Some stop now, or will once the count is
    believed; their machines are not to wait for a look at the usual time."""
    found, service = look.fleet, look.service
    if found is None or not found.active or service is None or not file.MONITOR_MACHINES:
        return False
    return service.desired > _count_needed_tasks(look.jobs, file)


def _count_needed_tasks(jobs: int, file: MonitorFile) -> int:
    """Containers for so many jobs, of those that the run may have."""
    most = file.MONITOR_MACHINES * file.MONITOR_TASKS_PER_MACHINE
    return min(most, ceil(jobs / file.MONITOR_JOBS_PER_TASK))


def _is_fleet_gone(look: RunSnapshot, file: MonitorFile) -> bool:
    """Ended, and so long ago, perhaps, that EC2 knows it no more; one of which EC2 does not tell yet is not gone."""
    if look.fleet is None:
        return look.at - file.MONITOR_START_TIME / 1000 >= FLEET_VISIBILITY_SECONDS
    return not look.fleet.active and not look.fleet.machines


def _is_every_job_failing(look: RunSnapshot, history: RunHistory) -> bool:
    """No job was done since the first look, and either every container has paused or many jobs have failed for good."""
    if look.queue is None or history.first_jobs is None:
        return False
    sent, failed = (look.submitted or 0) - history.first_submitted, look.dead - history.first_dead
    done = history.first_jobs + sent - look.jobs - failed
    all_pause = look.service is not None and len(look.paused) >= look.service.running > 0
    return done <= 0 and look.jobs > 0 and (all_pause or failed >= HOPELESS_FAILURE_COUNT)


def _choose_closing_actions(look: RunSnapshot, history: RunHistory, pace: Pace) -> list[MonitorAction]:
    service, found = look.service, look.fleet
    if history.closed and (service is None or service.running == 0):
        return [EndReason.COST]
    actions: list[MonitorAction] = [] if history.closed else [RunClosure()]
    if service is not None and service.desired:
        actions.append(TaskCountChange(0))
    return actions + _choose_resizing_actions(look, 0, 0, pace) if found and found.active else actions


def _choose_scaling_actions(
    look: RunSnapshot, history: RunHistory, file: MonitorFile, pace: Pace, *, cheapest: bool
) -> list[MonitorAction]:
    found, service = look.fleet, look.service
    if found is None or not found.active:
        return []
    if not file.MONITOR_MACHINES or service is None:  # an older monitor file does not say what the run may use
        return [FleetTargetChange(1)] if cheapest and found.target > 1 else []
    tasks = _count_needed_tasks(history.most_jobs, file)
    if not (look.queue and look.queue.waiting):  # one container more would find no job, whatever an older count says
        tasks = min(tasks, service.desired)
    actions: list[MonitorAction] = [TaskCountChange(tasks)] if tasks != service.desired else []
    machines = ceil(tasks / file.MONITOR_TASKS_PER_MACHINE)
    target = min(machines, found.target, 1) if cheapest else machines
    return actions + _choose_resizing_actions(look, target, machines, pace)


def _choose_resizing_actions(look: RunSnapshot, target: int, needed: int, pace: Pace) -> list[MonitorAction]:
    """The target first: a machine that ends while the target stands is replaced. Of the machines beyond those that are
    needed, the idle ones are ended; one that drains always, as it gets no task any more and the fleet replaces it."""
    assert look.fleet is not None
    change: list[MonitorAction] = [FleetTargetChange(target)] if look.fleet.target != target else []
    idle = [host for host in look.hosts if not host.tasks and look.at - host.since >= pace.new]
    drained, others = [host for host in idle if host.draining], [host for host in idle if not host.draining]
    surplus = len(look.fleet.machines) - needed - len(drained)
    ended = (*drained, *others[: max(0, surplus)])
    return [*change, IdleMachineTermination(ended)] if ended else change
