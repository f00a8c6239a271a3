"""Snapshot of a run: everything that the monitor bases its decisions on, read from AWS in a few calls.

The number of calls does not depend on the number of jobs or busy machines. It grows by one per container whose journal
has changed, by one per submission that is new or has changed, by two per 100 machines without a task, by one per 1,000
machines in the fleet, and by one per 1,000 containers that ever paused (their files in the bucket's `machines/` folder
are listed, and the newest five are read).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import FleetProblem, FleetState, observe_fleet, observe_fleet_problems
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import PausedMachine, list_paused_machines
from distributed_something.observe.documents.journals import JournalReader, RunTotals
from distributed_something.observe.documents.run_start import RunStart, observe_submitted_jobs
from distributed_something.observe.documents.submissions import SubmissionReader
from distributed_something.observe.machines import ContainerInstance, UnusableMachine, iter_idle_instances
from distributed_something.observe.queue import QueueCounts, observe_queue
from distributed_something.observe.service import ServiceState, observe_service

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients


class RunCaches:
    """What one snapshot of a run keeps for the next one: spot prices, journals' first lines, and submissions."""

    def __init__(self, s3: S3Client, file: MonitorFile) -> None:
        self.prices = SpotPriceCache(file.MONITOR_MACHINE_PRICE)
        self.journals = JournalReader(s3, file.MONITOR_BUCKET_NAME, file.keys)
        self.submissions = SubmissionReader(s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)


@dataclass(frozen=True)
class RunSnapshot:
    """State of a run at one moment. `queue`, `fleet`, and `service` are None if they do not exist.

    `totals`: what the containers' journals say, which may be a minute old. `submitted`: jobs submitted so far; None if
    the run was started by an older version. `paused`: the newest containers that have paused because several jobs
    failed in a row or their disk is full. `idle_instances`: the fleet's machines without a running task. `hourly`: cost
    of all machines in USD per hour; None if no price is known. `problems`: what the fleet reports if it has too few
    machines, one entry per cause. `is_sending`, `replaced_at`, `replacing`: as in SubmittedJobs.

    The other attributes are observed only for the monitor's decisions (`scaling.py`). `protected`: the service's tasks
    that are protected from scale-in; None if this was not observed, or if `is_protection_denied`. `unusable`: the
    fleet's machines on which ECS can start no containers.
    """

    at: float
    queue: QueueCounts | None
    totals: RunTotals
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[PausedMachine, ...] = ()
    idle_instances: tuple[ContainerInstance, ...] = ()
    hourly: float | None = None
    problems: tuple[FleetProblem, ...] = ()
    is_sending: bool = False
    replaced_at: float | None = None
    replacing: int | None = None
    protected: int | None = None
    is_protection_denied: bool = False
    unusable: tuple[UnusableMachine, ...] = ()

    @property
    def jobs(self) -> int:
        """Number of jobs that are waiting or leased by workers."""
        return self.queue.jobs if self.queue else 0

    @property
    def running(self) -> int:
        """Number of running programs. Each has a leased message."""
        return min(self.totals.running, self.queue.running) if self.queue else 0

    @property
    def lost_leases(self) -> int:
        """Number of jobs that wait until the leases of lost workers expire, if nothing else is left to take.

        Otherwise it is 0, because their number cannot be told from that of jobs that workers have fetched in advance.
        """
        if self.queue is None or self.queue.waiting:
            return 0
        return min(self.totals.lost_running, self.queue.running - self.running)

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue whose programs are not running."""
        return max(0, self.jobs - self.running)


def observe_run(
    clients: Clients, file: MonitorFile, start: RunStart | None, caches: RunCaches, now: float, until: float = math.inf
) -> RunSnapshot:
    """Return a snapshot of the run. `start`: None if it is unknown. AWS errors are not caught.

    `until`: when the run ended (seconds since 1970). A queue that was created later, and jobs that were submitted
    later, belong to another run.
    """
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    if queue is not None and queue.created > until:
        queue = None
    totals = caches.journals.read_totals()
    submitted = observe_submitted_jobs(caches.submissions, file, start, now, until) if start else None
    fleet = observe_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    if fleet is not None:
        totals = caches.journals.find_lost_programs(totals, fleet.machines, file.MONITOR_TASKS_PER_MACHINE)
    return RunSnapshot(
        at=now,
        queue=queue.counts if queue else None,
        totals=totals,
        submitted=None if submitted is None else max(submitted.count, totals.ended),
        fleet=fleet,
        service=observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service),
        paused=list_paused_machines(clients.s3, file.MONITOR_BUCKET_NAME, file.keys, now),
        idle_instances=_list_idle_machines(clients, file, fleet) if fleet and fleet.machines else (),
        hourly=caches.prices.compute_hourly_cost(clients.ec2, fleet, now) if fleet else None,
        problems=_observe_problems(clients, file, now) if fleet and fleet.has_missing_machines else (),
        is_sending=submitted is not None and submitted.is_sending,
        replaced_at=None if submitted is None else submitted.replaced_at,
        replacing=None if submitted is None else submitted.replacing,
    )


def _list_idle_machines(clients: Clients, file: MonitorFile, fleet: FleetState) -> tuple[ContainerInstance, ...]:
    """Return the fleet's machines in the cluster that run no task. Other apps' machines in the cluster are ignored."""
    fleet_machines = set(fleet.machines)
    idle_machines = iter_idle_instances(clients.ecs, file.MONITOR_ECS_CLUSTER)
    return tuple(machine for machine in idle_machines if machine.instance in fleet_machines)


def _observe_problems(clients: Clients, file: MonitorFile, now: float) -> tuple[FleetProblem, ...]:
    return observe_fleet_problems(clients.ec2, file.MONITOR_FLEET_ID, file.MONITOR_START_TIME / 1000, now)
