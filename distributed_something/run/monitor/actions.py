"""Carries out what the policy chose. Each action may be repeated, and done by two monitors at once, without harm."""

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
)
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


DRAINED_MACHINES_PER_CALL = 10  # ECS: container instances in one UpdateContainerInstancesState


def carry_out_action(clients: Clients, file: MonitorFile, action: MonitorAction) -> None:
    """One action; the ends are the caller's. Raises AWS's errors."""
    match action:
        case FleetTargetChange(machines):
            set_fleet_target(clients.ec2, file.MONITOR_FLEET_ID, machines, file.MONITOR_ON_DEMAND_MACHINES)
        case TaskCountChange(tasks):
            clients.ecs.update_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.names.service, desiredCount=tasks)
        case IdleMachineTermination(hosts):
            _terminate_idle_machines(clients, file, hosts)
        case RunClosure():
            body = json.dumps({"closed": True}).encode()
            clients.s3.put_object(Bucket=file.MONITOR_BUCKET_NAME, Key=file.keys.closed, Body=body)


def _terminate_idle_machines(clients: Clients, file: MonitorFile, hosts: tuple[ContainerInstance, ...]) -> None:
    """A hundred at a time, so that the first do not wait for the last."""
    for batch in split_into_batches(hosts, CONTAINER_INSTANCES_PER_CALL):
        _drain_and_terminate(clients, file.MONITOR_ECS_CLUSTER, batch)


def _drain_and_terminate(clients: Clients, name: str, hosts: list[ContainerInstance]) -> None:
    """Drains first, so that no task can come; ends those that have none then. One that got a task meanwhile is ended
    at a later look, when that is through."""
    waiting = [host.arn for host in hosts if not host.draining]
    for batch in split_into_batches(waiting, DRAINED_MACHINES_PER_CALL):
        clients.ecs.update_container_instances_state(cluster=name, containerInstances=batch, status="DRAINING")
    now = observe_container_instances(clients.ecs, name, [host.arn for host in hosts])
    empty = [host.instance for host in now if not host.tasks]
    if empty:
        clients.ec2.terminate_instances(InstanceIds=empty)
