"""Snapshot of a run: everything that the monitor bases its decisions on, read from AWS in a few calls.

The number of calls does not depend on the number of jobs or busy machines. It grows by two calls per 100 machines
without a task, by one per 1,000 machines in the fleet, by one per submission, and by one per 1,000 containers that ever
paused (their files in the bucket's `machines/` folder are listed, and the newest five are read).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import FleetState, observe_fleet, observe_fleet_problems
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.core.aws_errors import FleetProblem
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import PausedMachine, list_paused_machines
from distributed_something.observe.machines import ContainerInstance, iter_idle_instances
from distributed_something.observe.queue import QueueCounts, QueueState, count_jobs, observe_queue
from distributed_something.observe.service import ServiceState, observe_service
from distributed_something.observe.submissions import count_submitted_jobs, list_queue_submissions

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


@dataclass(frozen=True)
class RunSnapshot:
    """State of a run at one moment. `queue`, `fleet`, and `service` are None if they do not exist.

    `dead`: jobs in the dead-letter queue. `submitted`: jobs sent to the queue since it was created; None if there is no
    queue. `paused`: the newest containers that have paused because several jobs failed in a row or their disk is full.
    `idle_instances`: the fleet's machines without a running task. `hourly`: cost of all machines in USD per hour; None
    if no price is known. `problems`: what the fleet reports if it has too few machines, one entry per cause.
    """

    at: float
    queue: QueueCounts | None
    dead: int
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[PausedMachine, ...] = ()
    idle_instances: tuple[ContainerInstance, ...] = ()
    hourly: float | None = None
    problems: tuple[FleetProblem, ...] = ()

    @property
    def jobs(self) -> int:
        """Number of jobs that are waiting or leased by workers."""
        return self.queue.jobs if self.queue else 0

    @property
    def done(self) -> int | None:
        """Number of finished jobs, estimated from SQS's counts; None if the number of submitted jobs is unknown."""
        if self.submitted is None or self.queue is None:
            return None
        return max(0, self.submitted - self.queue.jobs - self.dead)


def observe_run(clients: Clients, file: MonitorFile, prices: SpotPriceCache, now: float) -> RunSnapshot:
    """Return a snapshot of the run. AWS errors are not caught."""
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    fleet = observe_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    return RunSnapshot(
        at=now,
        queue=queue.counts if queue else None,
        dead=count_jobs(clients.sqs, queue.dead_letter_queue) if queue else 0,
        submitted=_count_submitted_jobs(clients, file, queue) if queue else None,
        fleet=fleet,
        service=observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service),
        paused=list_paused_machines(clients.s3, file.MONITOR_BUCKET_NAME, file.keys, now),
        idle_instances=_list_idle_machines(clients, file, fleet) if fleet and fleet.machines else (),
        hourly=prices.compute_hourly_cost(clients.ec2, fleet, now) if fleet else None,
        problems=_observe_problems(clients, file, now) if fleet and fleet.has_missing_machines else (),
    )


def _count_submitted_jobs(clients: Clients, file: MonitorFile, queue: QueueState) -> int:
    return count_submitted_jobs(
        list_queue_submissions(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME, queue)
    )


def _list_idle_machines(clients: Clients, file: MonitorFile, fleet: FleetState) -> tuple[ContainerInstance, ...]:
    """Return the fleet's machines in the cluster that run no task. Other apps' machines in the cluster are ignored."""
    fleet_machines = set(fleet.machines)
    idle_machines = iter_idle_instances(clients.ecs, file.MONITOR_ECS_CLUSTER)
    return tuple(machine for machine in idle_machines if machine.instance in fleet_machines)


def _observe_problems(clients: Clients, file: MonitorFile, now: float) -> tuple[FleetProblem, ...]:
    return observe_fleet_problems(clients.ec2, file.MONITOR_FLEET_ID, file.MONITOR_START_TIME / 1000, now)
