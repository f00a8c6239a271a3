"""The monitor's decisions, as pure functions: the same snapshot and history always lead to the same actions.

Toward the end of a run, there are fewer jobs than slots (machines × containers per machine × jobs per container). The
monitor then lowers the service's task count, which stops only idle containers (busy containers are protected), and
terminates machines without containers. It also lowers the fleet's target, so that EC2 does not replace these machines.
If more jobs arrive, the monitor raises the task count and the target again.

The task count is never lower than the number of protected containers: while it is, ECS refuses to protect more
containers and to renew protections, and stops busy containers when their protection expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import ContainerInstance, UnusableMachine
from distributed_something.observe.queue import SETTLING_SECONDS
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory, list_counted_pauses
from distributed_something.run.monitor.unusable import (
    is_every_machine_unusable,
    is_replacing_useless,
    list_overdue_machines,
)
from distributed_something.worker import MAX_PAUSE_DOCUMENTS

# SQS's counts are approximate, so the queue counts as empty only after this many empty snapshots in a row that span at
# least the settling time.
MIN_EMPTY_SNAPSHOTS = 3
CHEAPEST_DELAY_SECONDS = 15 * 60.0  # as in the published system; gives the fleet time to start
FLEET_VISIBILITY_SECONDS = 5 * 60.0  # EC2 usually lists a new fleet within a second, but it can take longer
FIRST_CONTAINER_SECONDS = 15 * 60.0  # pulling a large image takes several minutes on each new machine
HOPELESS_FAILURE_COUNT = 50  # this many failures without a success point to a problem with the whole run

PROTECTION_DENIED_MESSAGE = (
    "the monitor may not look up which containers are protected from scale-in, so it may keep some without a job: run"
    " setupAWS, which allows ecs:ListTasks and ecs:GetTaskProtection"
)


@dataclass(frozen=True)
class Pace:
    """The monitor's timing, in seconds.

    `interval_seconds`: the time between two ticks. `short_interval_seconds`: the same while machines are becoming
    idle. `settling_seconds`: how long SQS's counts take to settle; a queue must appear empty for this long.
    `new_machine_seconds`: how long a machine that just joined the cluster may wait for its first container.
    `first_container_seconds`: how long a run may have machines before its first container has started. A machine that
    is not in the cluster, or not connected to it, for this long is terminated.
    """

    interval_seconds: float = 30.0
    short_interval_seconds: float = 15.0  # ECS stops idle containers within seconds of lowering the task count
    settling_seconds: float = SETTLING_SECONDS
    new_machine_seconds: float = 120.0
    first_container_seconds: float = FIRST_CONTAINER_SECONDS


class EndReason(Enum):
    """The reason why a run is over.

    RUN: no jobs are left. FLEET: the fleet ended while jobs were still waiting, because it was canceled by hand or
    reached its time limit; EC2 no longer lists it after two days. NOTHING_WORKS: no machine joins the cluster, no
    container starts, or every job fails; the queue is kept, even if no job is left in it. COST: the run's cost has
    reached MAX_COST, and no containers are running anymore.
    """

    RUN = "run"
    FLEET = "fleet"
    NOTHING_WORKS = "nothing works"
    COST = "cost"


@dataclass(frozen=True)
class FleetTargetChange:
    """A new target number of machines for the fleet; lowering the target does not terminate running machines."""

    machines: int


@dataclass(frozen=True)
class TaskCountChange:
    """A new number of containers for the service."""

    tasks: int


@dataclass(frozen=True)
class IdleMachineTermination:
    """Termination of these machines, except any that have received a container in the meantime."""

    instances: tuple[ContainerInstance, ...]


@dataclass(frozen=True)
class UnusableMachineTermination:
    """Termination of machines on which ECS can start no containers. The fleet replaces those that it still needs."""

    machines: tuple[UnusableMachine, ...]


@dataclass(frozen=True)
class RunClosure:
    """Closing of the run, after which workers finish their running jobs but do not start new ones."""


MonitorAction = (
    EndReason | FleetTargetChange | TaskCountChange | IdleMachineTermination | UnusableMachineTermination | RunClosure
)


def choose_actions(
    snapshot: RunSnapshot, history: RunHistory, file: MonitorFile, *, cheapest: bool, pace: Pace
) -> list[MonitorAction]:
    """Return the actions to take now; `history` already includes `snapshot`."""
    if history.ended is not None:
        return [EndReason.RUN]
    empty_seconds = snapshot.at - history.empty_since if history.empty_since is not None else 0.0
    if history.empty_looks >= MIN_EMPTY_SNAPSHOTS and empty_seconds >= pace.settling_seconds:
        return [EndReason.NOTHING_WORKS if has_every_job_failed(snapshot) else EndReason.RUN]
    if snapshot.queue and snapshot.queue.waiting and _is_fleet_gone(snapshot, file):
        return [EndReason.FLEET]
    if _is_every_job_failing(snapshot, history, pace) or _has_only_broken_containers(snapshot, history, file, pace):
        return [EndReason.NOTHING_WORKS]
    if is_every_machine_unusable(snapshot, history):
        return [EndReason.NOTHING_WORKS]
    if _is_cost_reached(history, file):
        actions = _choose_closing_actions(snapshot, history, pace)
    else:
        is_cheapest_due = cheapest and snapshot.at - file.MONITOR_START_TIME / 1000 >= CHEAPEST_DELAY_SECONDS
        actions = _choose_scaling_actions(snapshot, history, file, pace, cheapest=is_cheapest_due)
    overdue = list_overdue_machines(snapshot, history, pace.first_container_seconds)
    return [*actions, UnusableMachineTermination(overdue)] if overdue else actions


def has_every_job_failed(snapshot: RunSnapshot) -> bool:
    """Return whether the queue exists and is empty, and every job of the run failed for good.

    Jobs whose container was killed before it wrote its journal are not counted, so the numbers are compared.
    """
    totals = snapshot.totals
    has_success = bool(totals.done or totals.already_there)
    is_every_end_known = snapshot.submitted is None or totals.failed + totals.replaced >= snapshot.submitted
    return (
        snapshot.queue is not None
        and not snapshot.jobs
        and totals.failed > 0
        and not has_success
        and is_every_end_known
    )


def has_surplus_containers(snapshot: RunSnapshot, file: MonitorFile) -> bool:
    """Return whether the service has more containers than the snapshot's jobs need.

    If so, some containers will stop soon, and their machines should be terminated before the next regular tick.
    """
    fleet, service = snapshot.fleet, snapshot.service
    if fleet is None or not fleet.is_active or service is None or not file.MONITOR_MACHINES:
        return False
    return service.desired > max(_count_needed_tasks(snapshot.jobs, file), _count_protected_tasks(snapshot))


def is_protection_relevant(snapshot: RunSnapshot, history: RunHistory, file: MonitorFile) -> bool:
    """Return whether the number of protected tasks, which is at most that of running tasks, can limit the task count.

    This is so in the tail of a run and when it is closed; looking the number up costs calls.
    """
    service, is_closing = snapshot.service, _is_cost_reached(history, file)
    if service is None or not (file.MONITOR_MACHINES or is_closing):
        return False
    needed = 0 if is_closing else _count_needed_tasks(snapshot.jobs, file)
    return service.running > min(needed, service.desired)


def _is_cost_reached(history: RunHistory, file: MonitorFile) -> bool:
    return bool(file.MONITOR_MAX_COST) and history.cost >= file.MONITOR_MAX_COST


def _count_protected_tasks(snapshot: RunSnapshot) -> int:
    """Return how many tasks are protected. If that is unknown, return as many as may be, but not more than desired.

    A protected task has at least one leased job, or had one a moment ago.
    """
    if snapshot.protected is not None:
        return snapshot.protected
    service, queue = snapshot.service, snapshot.queue
    return min(service.desired, service.running, queue.running) if service and queue else 0


def _count_needed_tasks(jobs: int, file: MonitorFile) -> int:
    """Return how many containers these jobs need, up to the run's maximum."""
    max_tasks = file.MONITOR_MACHINES * file.MONITOR_TASKS_PER_MACHINE
    return min(max_tasks, ceil(jobs / file.MONITOR_JOBS_PER_TASK))


def _is_fleet_gone(snapshot: RunSnapshot, file: MonitorFile) -> bool:
    """Return whether the fleet has ended, perhaps so long ago that EC2 no longer lists it.

    A new fleet that EC2 does not list yet does not count as ended.
    """
    if snapshot.fleet is None:
        return snapshot.at - file.MONITOR_START_TIME / 1000 >= FLEET_VISIBILITY_SECONDS
    return not snapshot.fleet.is_active and not snapshot.fleet.machines


def _is_every_job_failing(snapshot: RunSnapshot, history: RunHistory, pace: Pace) -> bool:
    """Return whether no job has succeeded so far, and either all containers are paused or many jobs have failed.

    This must have been so for the settling time, because a success in one container's journal may be seen later than
    the failures in another's. Jobs that `submitJob --replace` has replaced do not count.
    """
    if snapshot.queue is None or not snapshot.jobs or history.failing_since is None:
        return False
    failed = snapshot.totals.failed - history.failed_before
    has_settled = snapshot.at - history.failing_since >= pace.settling_seconds
    return has_settled and (_are_containers_paused(snapshot, history) or failed >= HOPELESS_FAILURE_COUNT)


def _are_containers_paused(snapshot: RunSnapshot, history: RunHistory) -> bool:
    """Return whether all running containers are paused.

    Only the newest pauses are known. If there are more containers, they count as paused if as many pauses as can be
    known are on several machines and no program is running on any machine.
    """
    service, pauses = snapshot.service, list_counted_pauses(history, snapshot)
    if service is None or not service.running:
        return False
    is_several = len({paused.machine for paused in pauses}) > 1
    return len(pauses) >= service.running or (
        len(pauses) >= MAX_PAUSE_DOCUMENTS and is_several and not snapshot.running
    )


def _has_only_broken_containers(snapshot: RunSnapshot, history: RunHistory, file: MonitorFile, pace: Pace) -> bool:
    """Return whether machines have cost money for too long although no container has written its first journal.

    A container writes it as soon as it has started; otherwise, it cannot work, whatever the cause. In runs that an
    older version started, containers may not write journals.
    """
    if not snapshot.jobs or history.unstarted_since is None or not file.MONITOR_MACHINES:
        return False
    return snapshot.at - history.unstarted_since >= pace.first_container_seconds


def _choose_closing_actions(snapshot: RunSnapshot, history: RunHistory, pace: Pace) -> list[MonitorAction]:
    service, fleet = snapshot.service, snapshot.fleet
    if history.closed and (service is None or service.running == 0):
        return [EndReason.COST]
    actions: list[MonitorAction] = [] if history.closed else [RunClosure()]
    if service is not None and service.desired != (protected := _count_protected_tasks(snapshot)):
        actions.append(TaskCountChange(protected))
    return actions + _choose_resizing_actions(snapshot, 0, 0, pace) if fleet and fleet.is_active else actions


def _choose_scaling_actions(
    snapshot: RunSnapshot, history: RunHistory, file: MonitorFile, pace: Pace, *, cheapest: bool
) -> list[MonitorAction]:
    fleet, service = snapshot.fleet, snapshot.service
    if fleet is None or not fleet.is_active:
        return []
    if not file.MONITOR_MACHINES or service is None:  # older monitor files do not contain the number of machines
        return [FleetTargetChange(1)] if cheapest and fleet.target > 1 else []
    tasks = _count_needed_tasks(history.most_jobs, file)
    if not (snapshot.queue and snapshot.queue.waiting):  # no job is waiting, so an additional container would be idle
        tasks = min(tasks, service.desired)
    # More containers may be protected than the jobs need, such as 100 containers with a job in one of two slots. Their
    # machines are not terminated, and need no replacement: the target depends on the jobs.
    kept = max(tasks, _count_protected_tasks(snapshot))
    actions: list[MonitorAction] = [TaskCountChange(kept)] if kept != service.desired else []
    machines = ceil(tasks / file.MONITOR_TASKS_PER_MACHINE)
    target = min(machines, fleet.target, 1) if cheapest else machines
    if is_replacing_useless(snapshot, history):
        target = min(target, len(fleet.machines) - len(snapshot.unusable))
    return actions + _choose_resizing_actions(snapshot, target, machines, pace)


def _choose_resizing_actions(snapshot: RunSnapshot, target: int, needed: int, pace: Pace) -> list[MonitorAction]:
    """Return the change to the fleet's target, and the termination of idle machines beyond the `needed` ones.

    The target is lowered first, because otherwise the fleet would replace the terminated machines. An idle machine that
    is draining is always terminated, because it gets no more containers; the fleet replaces it if needed.
    """
    assert snapshot.fleet is not None
    change: list[MonitorAction] = [FleetTargetChange(target)] if snapshot.fleet.target != target else []
    idle = [
        instance
        for instance in snapshot.idle_instances
        if not instance.tasks and snapshot.at - instance.joined_at >= pace.new_machine_seconds
    ]
    draining = [instance for instance in idle if instance.is_draining]
    others = [instance for instance in idle if not instance.is_draining]
    surplus = len(snapshot.fleet.machines) - len(snapshot.unusable) - needed - len(draining)
    terminated = (*draining, *others[: max(0, surplus)])
    return [*change, IdleMachineTermination(terminated)] if terminated else change
