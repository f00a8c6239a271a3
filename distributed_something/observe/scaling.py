"""Observations that only the monitor's decisions need: protected tasks, and machines that cannot work.

They take more calls than the rest of a snapshot, so the monitor makes them only when they can change a decision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.documents.journals import JournalReader
from distributed_something.observe.machines import (
    ContainerInstance,
    UnusableMachine,
    iter_disconnected_instances,
    list_absent_ids,
    list_running_machines,
)
from distributed_something.observe.service import count_protected_tasks
from distributed_something.observe.snapshot import RunSnapshot

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


def add_protected_tasks(clients: Clients, file: MonitorFile, snapshot: RunSnapshot) -> RunSnapshot:
    """Return the snapshot with the number of protected tasks: two calls per 100 tasks. AWS errors are not caught."""
    protected = count_protected_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service)
    return replace(snapshot, protected=protected, is_protection_denied=protected is None)


def add_unusable_machines(
    clients: Clients, file: MonitorFile, snapshot: RunSnapshot, journals: JournalReader, seconds: float
) -> RunSnapshot:
    """Return the snapshot with the fleet's machines on which ECS can start no containers. AWS errors are not caught.

    Machines without a task, and those whose containers are at work, are known, so usually only new machines are looked
    up: up to two calls per 50 of them. One more call finds disconnected agents. A container is at work if a program is
    running, or if it has written its journal in the last `seconds`.
    """
    fleet = snapshot.fleet
    if fleet is None or not fleet.machines:
        return snapshot
    working = journals.list_working_machines(snapshot.at - seconds)
    known = working | {machine.instance for machine in snapshot.idle_instances}
    unknown = [instance for instance in fleet.machines if instance not in known]
    absent = list_absent_ids(clients.ecs, file.MONITOR_ECS_CLUSTER, unknown)
    machines = [
        UnusableMachine(machine.id, machine.launch_time) for machine in list_running_machines(clients.ec2, absent)
    ]
    members = set(fleet.machines)
    machines += [
        UnusableMachine(machine.instance, machine.joined_at, has_joined=True)
        for machine in iter_disconnected_instances(clients.ecs, file.MONITOR_ECS_CLUSTER)
        if machine.instance in members - working and not _has_unknown_tasks(machine, journals)
    ]
    return replace(snapshot, unusable=tuple(machines))


def _has_unknown_tasks(machine: ContainerInstance, journals: JournalReader) -> bool:
    """Return whether a machine whose ECS agent is disconnected has tasks, and no journal says what they do.

    Containers continue without the agent. Such a machine costs money until the end of the run, or until its idle alarm
    terminates it, but no job is lost.
    """
    return machine.tasks > 0 and machine.instance not in journals.list_machines()
