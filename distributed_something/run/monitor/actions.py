"""Carries out the actions that the policy chose.

It is safe to repeat an action, and for two monitors to carry out the same action at the same time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import set_fleet_target
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import (
    CONTAINER_INSTANCES_PER_CALL,
    ContainerInstance,
    observe_container_instances,
)
from distributed_something.run.monitor.policy import (
    FleetTargetChange,
    IdleMachineTermination,
    MonitorAction,
    RunClosure,
    TaskCountChange,
    UnusableMachineTermination,
)
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


TERMINATED_MACHINES_PER_CALL = 100  # EC2 allows 1,000, but advises small batches
DRAINED_MACHINES_PER_CALL = 10  # ECS's limit for UpdateContainerInstancesState


def describe_action(action: MonitorAction) -> str:
    """Return what the monitor does when it carries out this action, for error messages."""
    match action:
        case FleetTargetChange(machines):
            return f"setting the fleet's target to {machines}"
        case TaskCountChange(tasks):
            return f"setting the number of containers to {tasks}"
        case IdleMachineTermination():
            return "terminating idle machines (they still cost money)"
        case UnusableMachineTermination():
            return "terminating machines that cannot work (they still cost money)"
        case RunClosure():
            return "stopping the workers from starting more jobs"
    return "ending the run"


def carry_out_action(clients: Clients, file: MonitorFile, action: MonitorAction) -> None:
    """Carry out one action, except for an EndReason, which the caller handles. AWS errors are not caught."""
    match action:
        case FleetTargetChange(machines):
            set_fleet_target(clients.ec2, file.MONITOR_FLEET_ID, machines, file.MONITOR_ON_DEMAND_MACHINES)
        case TaskCountChange(tasks):
            clients.ecs.update_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.names.service, desiredCount=tasks)
        case IdleMachineTermination(instances):
            _terminate_idle_machines(clients, file, instances)
        case UnusableMachineTermination(machines):
            clients.ec2.terminate_instances(InstanceIds=[machine.instance for machine in machines])
        case RunClosure():
            body = json.dumps({"closed": True}).encode()
            clients.s3.put_object(Bucket=file.MONITOR_BUCKET_NAME, Key=file.keys.closed, Body=body)


def split_action(action: MonitorAction) -> list[MonitorAction]:
    """Return actions of one call each, so that the monitor can count the machines that EC2 has terminated."""
    if not isinstance(action, UnusableMachineTermination):
        return [action]
    batches = split_into_batches(action.machines, TERMINATED_MACHINES_PER_CALL)
    return [UnusableMachineTermination(tuple(batch)) for batch in batches]


def _terminate_idle_machines(clients: Clients, file: MonitorFile, instances: tuple[ContainerInstance, ...]) -> None:
    """Terminate the machines in batches of up to 100, so that the first machines do not wait for the last ones."""
    for batch in split_into_batches(instances, CONTAINER_INSTANCES_PER_CALL):
        _drain_and_terminate(clients, file.MONITOR_ECS_CLUSTER, batch)


def _drain_and_terminate(clients: Clients, cluster: str, instances: list[ContainerInstance]) -> None:
    """Drain the machines so that ECS places no new tasks on them, then terminate the machines without tasks.

    A machine that received a task just before it was drained is terminated at a later tick, after the task ends.
    """
    undrained = [instance.arn for instance in instances if not instance.is_draining]
    for batch in split_into_batches(undrained, DRAINED_MACHINES_PER_CALL):
        clients.ecs.update_container_instances_state(cluster=cluster, containerInstances=batch, status="DRAINING")
    current = observe_container_instances(clients.ecs, cluster, [instance.arn for instance in instances])
    idle_ids = [instance.instance for instance in current if not instance.tasks]
    if idle_ids:
        clients.ec2.terminate_instances(InstanceIds=idle_ids)
