"""One look at a run: everything that the monitor decides on, read from AWS in a fixed, small number of calls.

The number does not grow with the jobs, nor with the machines that work; it grows by two calls for a hundred machines
without a task, by one for a thousand machines of the fleet, and by one for a thousand containers that ever paused: they
are listed in the bucket's `machines/`, and the five newest are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import FleetState, observe_fleet, observe_fleet_problems
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.aws.sqs import find_submitted_count
from distributed_something.core.aws_errors import FleetProblem
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import PausedMachine, list_paused_machines
from distributed_something.observe.machines import ContainerInstance, iter_idle_instances
from distributed_something.observe.queue import QueueCounts, count_jobs, observe_queue
from distributed_something.observe.service import ServiceState, observe_service

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


@dataclass(frozen=True)
class RunSnapshot:
    """What one look at AWS saw. `queue` is None where the queue does not exist, `fleet` and `service` likewise.

    `paused`: what the newest containers say that take no jobs, since theirs failed in a row or their disk is full.
    `hosts`: the fleet's machines on which no task runs. `hourly`: USD an hour of all machines; None where no price is
    known. `problems`: what the fleet reports while it lacks machines, each cause once.
    """

    at: float
    queue: QueueCounts | None
    dead: int
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[PausedMachine, ...] = ()
    hosts: tuple[ContainerInstance, ...] = ()
    hourly: float | None = None
    problems: tuple[FleetProblem, ...] = ()

    @property
    def jobs(self) -> int:
        """Jobs that wait or are held by workers."""
        return self.queue.jobs if self.queue else 0

    @property
    def done(self) -> int | None:
        """Jobs that are through, as far as the approximate counts tell; None where nobody noted how many there are."""
        if self.submitted is None or self.queue is None:
            return None
        return max(0, self.submitted - self.queue.jobs - self.dead)


def observe_run(clients: Clients, file: MonitorFile, now: float, prices: SpotPriceCache) -> RunSnapshot:
    """One look. Raises AWS's errors."""
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    fleet = observe_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    return RunSnapshot(
        at=now,
        queue=queue.counts if queue else None,
        dead=count_jobs(clients.sqs, queue.dead_letter_queue) if queue else 0,
        submitted=find_submitted_count(clients.sqs, queue.url) if queue else None,
        fleet=fleet,
        service=observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service),
        paused=list_paused_machines(clients.s3, file.MONITOR_BUCKET_NAME, file.keys, now),
        hosts=_list_idle_machines(clients, file, fleet) if fleet and fleet.machines else (),
        hourly=prices.hourly(clients.ec2, fleet, now) if fleet else None,
        problems=_observe_problems(clients, file, now) if fleet and fleet.lacks_machines else (),
    )


def _list_idle_machines(clients: Clients, file: MonitorFile, fleet: FleetState) -> tuple[ContainerInstance, ...]:
    """The fleet's machines that have joined the cluster and run no task; another app's in the same cluster are not
    looked at."""
    own = set(fleet.machines)
    idle = iter_idle_instances(clients.ecs, file.MONITOR_ECS_CLUSTER)
    return tuple(machine for machine in idle if machine.instance in own)


def _observe_problems(clients: Clients, file: MonitorFile, now: float) -> tuple[FleetProblem, ...]:
    return observe_fleet_problems(clients.ec2, file.MONITOR_FLEET_ID, file.MONITOR_START_TIME / 1000, now)
