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

from distributed_something.aws.ec2_fleet import FleetState, format_launch_errors, observe_fleet
from distributed_something.aws.ecs import ServiceState, observe_service
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.aws.sqs import (
    QueueCounts,
    find_queue,
    find_submitted_count,
    is_missing_queue_error,
    observe_counts_and_redrive,
    observe_queue_counts,
)
from distributed_something.core.errors import AWSError, get_error_code
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.worker import list_paused_containers

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

    from distributed_something.aws.clients import Clients


CONTAINER_INSTANCES_PER_CALL = (
    100  # ECS: container instances in one DescribeContainerInstances, and in a page of the list
)
IDLE_INSTANCES_FILTER = (
    "runningTasksCount == 0"  # ECS's cluster query language, which does not know the tasks that wait
)


@dataclass(frozen=True)
class IdleInstance:
    """A machine that has joined the cluster: its tasks, waiting ones too, and since when (seconds since 1970)."""

    instance: str
    arn: str
    tasks: int
    since: float
    draining: bool = False


@dataclass(frozen=True)
class RunSnapshot:
    """What one look at AWS saw. `queue` is None where the queue does not exist, `fleet` and `service` likewise.

    `paused`: what the newest containers say that take no jobs, since theirs failed in a row or their disk is full.
    `hosts`: the fleet's machines on which no task runs. `hourly`: USD an hour of all machines; None where no price is
    known. `news`: what the fleet reports while it lacks machines, a line for each cause.
    """

    at: float
    queue: QueueCounts | None
    dead: int
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[str, ...] = ()
    hosts: tuple[IdleInstance, ...] = ()
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


def observe_run(clients: Clients, file: MonitorFile, now: float, prices: SpotPriceCache) -> RunSnapshot:
    """One look. Raises AWS's errors."""
    url = find_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    counts, dead, submitted = _observe_queue(clients, url) if url else (None, 0, None)
    found = observe_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    return RunSnapshot(
        at=now,
        queue=counts,
        dead=dead,
        submitted=submitted,
        fleet=found,
        service=observe_service(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service),
        paused=_format_pauses(clients, file, now),
        hosts=tuple(_iter_idle_instances(clients.ecs, file.MONITOR_ECS_CLUSTER, found))
        if found and found.machines
        else (),
        hourly=prices.hourly(clients.ec2, found, now) if found else None,
        news=_list_fleet_news(clients, file, now) if found and found.lacks_machines else {},
    )


def _observe_queue(clients: Clients, url: str) -> tuple[QueueCounts | None, int, int | None]:
    try:
        counts, dead_name = observe_counts_and_redrive(clients.sqs, url)
        submitted = find_submitted_count(clients.sqs, url)
        dead_url = find_queue(clients.sqs, dead_name) if dead_name else None
        dead = observe_queue_counts(clients.sqs, dead_url).jobs if dead_url else 0
    except AWSError as error:
        if is_missing_queue_error(error):
            return None, 0, None  # deleted between two calls
        raise
    return counts, dead, submitted


def _format_pauses(clients: Clients, file: MonitorFile, now: float) -> tuple[str, ...]:
    found = list_paused_containers(clients.s3, file.MONITOR_BUCKET_NAME, file.keys, now)
    return tuple(f"{one['machine']} takes no jobs: {one['reason']}" for one in found)


def _list_fleet_news(clients: Clients, file: MonitorFile, now: float) -> dict[str, str]:
    return format_launch_errors(clients.ec2, file.MONITOR_FLEET_ID, file.MONITOR_START_TIME / 1000, now)


def _iter_idle_instances(ecs: ECSClient, name: str, found: FleetState) -> Iterator[IdleInstance]:
    """The fleet's machines that have joined the cluster and run no task; another app's in the same cluster are not
    looked at."""
    ours = set(found.machines)
    try:
        pages = ecs.get_paginator("list_container_instances").paginate(
            cluster=name, filter=IDLE_INSTANCES_FILTER, PaginationConfig={"PageSize": CONTAINER_INSTANCES_PER_CALL}
        )
        for page in pages:
            yield from (
                host
                for host in list_cluster_instances(ecs, name, page["containerInstanceArns"])
                if host.instance in ours
            )
    except ClientError as error:
        if get_error_code(error) != "ClusterNotFoundException":
            raise


def list_cluster_instances(ecs: ECSClient, name: str, arns: list[str]) -> list[IdleInstance]:
    """Up to 100 machines of the cluster."""
    if not arns:
        return []
    answer = ecs.describe_container_instances(cluster=name, containerInstances=arns)
    return [
        IdleInstance(
            instance=one["ec2InstanceId"],
            arn=one["containerInstanceArn"],
            tasks=one.get("runningTasksCount", 0) + one.get("pendingTasksCount", 0),
            since=one["registeredAt"].timestamp(),
            draining=one.get("status") == "DRAINING",
        )
        for one in answer["containerInstances"]
        if one.get("status") in ("ACTIVE", "DRAINING")
    ]
