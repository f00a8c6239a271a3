"""One look at a run: everything that the monitor decides on, read from AWS in a fixed, small number of calls.

The number does not grow with the jobs, nor with the machines that work; it grows by two calls for a hundred machines
without a task, by one for a thousand machines of the fleet, and by one for a thousand containers that ever paused: they
are listed in the bucket's `machines/`, and the five newest are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from control import cluster, fleet, queue
from control.cluster import ServiceState
from control.costs import Prices
from control.errors import AWSError, code_of
from control.fleet import FleetState
from control.monitorfile import MonitorFile
from control.queue import Counts
from worker.machinery.pauses import paused, prefix_of

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

    from control.clients import Clients

HOSTS_A_CALL = 100  # ECS: container instances in one DescribeContainerInstances, and in a page of the list
WITHOUT_TASK = "runningTasksCount == 0"  # ECS's cluster query language, which does not know the tasks that wait


@dataclass(frozen=True)
class Host:
    """A machine that has joined the cluster: its tasks, waiting ones too, and since when (seconds since 1970)."""

    instance: str
    arn: str
    tasks: int
    since: float
    draining: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What one look at AWS saw. `queue` is None where the queue does not exist, `fleet` and `service` likewise.

    `paused`: what the newest containers say that take no jobs, since theirs failed in a row or their disk is full.
    `hosts`: the fleet's machines on which no task runs. `hourly`: USD an hour of all machines; None where no price is
    known. `news`: what the fleet reports while it lacks machines, a line for each cause.
    """

    at: float
    queue: Counts | None
    dead: int
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    hourly: float | None = None
    news: Mapping[str, str] = field(default_factory=dict)

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


def observe(clients: Clients, file: MonitorFile, now: float, prices: Prices) -> Snapshot:
    """One look. Raises AWS's errors."""
    url = queue.find(clients.sqs, file.MONITOR_QUEUE_NAME)
    counts, dead, submitted = _look_at_queue(clients, url) if url else (None, 0, None)
    found = fleet.state(clients.ec2, file.MONITOR_FLEET_ID)
    return Snapshot(
        at=now,
        queue=counts,
        dead=dead,
        submitted=submitted,
        fleet=found,
        service=cluster.service_state(clients.ecs, file.MONITOR_ECS_CLUSTER, file.service_name),
        paused=_look_at_pauses(clients, file, now),
        hosts=tuple(_hosts(clients.ecs, file.MONITOR_ECS_CLUSTER, found)) if found and found.machines else (),
        hourly=prices.hourly(clients.ec2, found, now) if found else None,
        news=_look_at_news(clients, file, now) if found and found.lacks_machines else {},
    )


def _look_at_queue(clients: Clients, url: str) -> tuple[Counts | None, int, int | None]:
    try:
        counts, dead_name = queue.counts_and_dead_letter_name(clients.sqs, url)
        submitted = queue.submitted(clients.sqs, url)
        dead_url = queue.find(clients.sqs, dead_name) if dead_name else None
        dead = queue.counts(clients.sqs, dead_url).jobs if dead_url else 0
    except AWSError as error:
        if queue.is_missing(error):
            return None, 0, None  # deleted between two calls
        raise
    return counts, dead, submitted


def _look_at_pauses(clients: Clients, file: MonitorFile, now: float) -> tuple[str, ...]:
    found = paused(clients.s3, file.MONITOR_BUCKET_NAME, prefix_of(file.MONITOR_APP_NAME, file.run), now)
    return tuple(f"{one['machine']} takes no jobs: {one['reason']}" for one in found)


def _look_at_news(clients: Clients, file: MonitorFile, now: float) -> dict[str, str]:
    return fleet.news(clients.ec2, file.MONITOR_FLEET_ID, file.MONITOR_START_TIME / 1000, now)


def _hosts(ecs: ECSClient, name: str, found: FleetState) -> Iterator[Host]:
    """The fleet's machines that have joined the cluster and run no task; another app's in the same cluster are not
    looked at."""
    ours = set(found.machines)
    try:
        pages = ecs.get_paginator("list_container_instances").paginate(
            cluster=name, filter=WITHOUT_TASK, PaginationConfig={"PageSize": HOSTS_A_CALL}
        )
        for page in pages:
            yield from (host for host in describe(ecs, name, page["containerInstanceArns"]) if host.instance in ours)
    except ClientError as error:
        if code_of(error) != "ClusterNotFoundException":
            raise


def describe(ecs: ECSClient, name: str, arns: list[str]) -> list[Host]:
    """Up to 100 machines of the cluster."""
    if not arns:
        return []
    answer = ecs.describe_container_instances(cluster=name, containerInstances=arns)
    return [
        Host(
            instance=one["ec2InstanceId"],
            arn=one["containerInstanceArn"],
            tasks=one.get("runningTasksCount", 0) + one.get("pendingTasksCount", 0),
            since=one["registeredAt"].timestamp(),
            draining=one.get("status") == "DRAINING",
        )
        for one in answer["containerInstances"]
        if one.get("status") in ("ACTIVE", "DRAINING")
    ]
