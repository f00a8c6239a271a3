"""Does what `decide` says. Each action may be repeated, and done by two monitors at once, without harm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from control import fleet
from control.decide import Action, Close, EndIdle, SetTarget, SetTasks
from control.monitorfile import MonitorFile
from control.snapshot import HOSTS_A_CALL, Host, describe
from worker.machinery.closing import key_of

if TYPE_CHECKING:
    from control.clients import Clients

DRAINED_A_CALL = 10  # ECS: container instances in one UpdateContainerInstancesState


def act(clients: Clients, file: MonitorFile, action: Action) -> None:
    """One action; the ends are the caller's. Raises AWS's errors."""
    match action:
        case SetTarget(machines):
            fleet.set_target(clients.ec2, file.MONITOR_FLEET_ID, machines, file.MONITOR_ON_DEMAND_MACHINES)
        case SetTasks(tasks):
            clients.ecs.update_service(cluster=file.MONITOR_ECS_CLUSTER, service=file.service_name, desiredCount=tasks)
        case EndIdle(hosts):
            _end_idle(clients, file, hosts)
        case Close():
            body = json.dumps({"closed": True}).encode()
            clients.s3.put_object(
                Bucket=file.MONITOR_BUCKET_NAME, Key=key_of(file.MONITOR_APP_NAME, file.run), Body=body
            )


def _end_idle(clients: Clients, file: MonitorFile, hosts: tuple[Host, ...]) -> None:
    """A hundred at a time, so that the first do not wait for the last."""
    for first in range(0, len(hosts), HOSTS_A_CALL):
        _drain_and_end(clients, file.MONITOR_ECS_CLUSTER, hosts[first : first + HOSTS_A_CALL])


def _drain_and_end(clients: Clients, name: str, hosts: tuple[Host, ...]) -> None:
    """Drains first, so that no task can come; ends those that have none then. One that got a task meanwhile is ended
    at a later look, when that is through."""
    waiting = [host.arn for host in hosts if not host.draining]
    for first in range(0, len(waiting), DRAINED_A_CALL):
        clients.ecs.update_container_instances_state(
            cluster=name, containerInstances=waiting[first : first + DRAINED_A_CALL], status="DRAINING"
        )
    now = describe(clients.ecs, name, [host.arn for host in hosts])
    empty = [host.instance for host in now if not host.tasks]
    if empty:
        clients.ec2.terminate_instances(InstanceIds=empty)
