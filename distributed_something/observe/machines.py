"""Observation of machines: as instances in EC2 and as container instances in the ECS cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import EC2_PAGINATION
from distributed_something.core.errors import get_error_code
from distributed_something.observe.service import convert_to_seconds
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecs import ECSClient

CONTAINER_INSTANCES_PER_CALL = 100  # ECS limit for DescribeContainerInstances and pages of ListContainerInstances
IDLE_INSTANCES_FILTER = "runningTasksCount == 0"  # ECS's cluster query language, which cannot query pending tasks
DISCONNECTED_INSTANCES_FILTER = "agentConnected == false"
INSTANCES_PER_FILTER = 50  # AWS documents no limit for a filter's length; this is less than 2,000 characters
LAUNCH_TIMES_PER_CALL = 200  # EC2 limit for the values of a filter
_END_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


@dataclass(frozen=True)
class ObservedMachine:
    """An EC2 instance.

    `launch_time`: seconds since 1970. `end_code` and `end_reason`: EC2's code and message for the termination.
    `is_spot`: False for an on-demand machine. `ended`: when it ended, in seconds since 1970; None if EC2 does not say
    so, as for spot machines that it takes back.
    """

    id: str
    state: str
    launch_time: float
    machine_type: str = ""
    has_public_address: bool = True
    end_reason: str = ""
    end_code: str = ""
    zone: str = ""
    is_spot: bool = False
    ended: float | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the machine has ended or is about to."""
        return self.state in ("shutting-down", "terminated", "stopping", "stopped")


@dataclass(frozen=True)
class ContainerInstance:
    """A machine that has joined the cluster.

    `tasks`: how many tasks it has, including pending tasks. `joined_at`: when it joined, in seconds since 1970.
    """

    instance: str
    arn: str
    tasks: int
    joined_at: float
    is_draining: bool = False
    is_connected: bool = True


@dataclass(frozen=True)
class UnusableMachine:
    """A running machine of the fleet on which ECS can start no containers, and on which no container is at work.

    Either it is not in the cluster, or it `has_joined` and its ECS agent is not connected. `launched_at`: seconds since
    1970.
    """

    instance: str
    launched_at: float
    has_joined: bool = False


def iter_instances(ec2: EC2Client, filters: Sequence[Mapping[str, Any]], limit: int | None = None) -> Iterator[Any]:
    """Yield EC2's descriptions of at most `limit` instances that match the filters. AWS errors are not caught."""
    pagination: Any = EC2_PAGINATION if limit is None else {"PageSize": limit, "MaxItems": limit}
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=filters,  # type: ignore[arg-type]
        PaginationConfig=pagination,
    )
    for page in pages:  # an empty page may be followed by others
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def parse_machine(described: Mapping[str, Any]) -> ObservedMachine:
    """Return the machine that EC2's description of an instance represents."""
    reason = described.get("StateReason", {})
    code, message = reason.get("Code", ""), reason.get("Message", "")
    return ObservedMachine(
        id=described["InstanceId"],
        state=described["State"]["Name"],
        launch_time=convert_to_seconds(described.get("LaunchTime")),
        machine_type=described.get("InstanceType", ""),
        has_public_address=bool(described.get("PublicIpAddress")),
        end_reason=f"{code}: {message}" if reason else "",
        end_code=code,
        zone=described.get("Placement", {}).get("AvailabilityZone", ""),
        is_spot=described.get("InstanceLifecycle") == "spot",
        ended=_parse_end(described.get("StateTransitionReason", "")),
    )


def _parse_end(transition: str) -> float | None:
    """Return the time in EC2's text about the last change of state, such as `User initiated (2026-11-23 10:45:00 GMT)`.

    Nothing else of EC2's description has this time.
    """
    match = _END_TIME.search(transition)
    try:
        return datetime.fromisoformat(f"{match[1]}+00:00").timestamp() if match else None
    except ValueError:
        return None


def list_container_instances(ecs: ECSClient, cluster: str, limit: int) -> list[ContainerInstance]:
    """Return up to `limit` (at most 100) of the cluster's machines. AWS errors are not caught."""
    pages = ecs.get_paginator("list_container_instances").paginate(
        cluster=cluster, PaginationConfig={"PageSize": limit, "MaxItems": limit}
    )
    arns = [arn for page in pages for arn in page["containerInstanceArns"]]  # a page may be empty or incomplete
    return observe_container_instances(ecs, cluster, arns)


def iter_idle_instances(ecs: ECSClient, cluster: str) -> Iterator[ContainerInstance]:
    """Yield the cluster's machines without a running task; none if there is no cluster.

    Other AWS errors are not caught.
    """
    return _iter_matching_instances(ecs, cluster, IDLE_INSTANCES_FILTER)


def iter_disconnected_instances(ecs: ECSClient, cluster: str) -> Iterator[ContainerInstance]:
    """Yield the cluster's machines whose ECS agent is not connected, as `iter_idle_instances` does."""
    return _iter_matching_instances(ecs, cluster, DISCONNECTED_INSTANCES_FILTER)


def list_absent_ids(ecs: ECSClient, cluster: str, ids: Sequence[str]) -> list[str]:
    """Return those of these EC2 instances that are not in the cluster. This takes up to two calls per 50 instances.

    AWS errors are not caught, unless there is no cluster.
    """
    joined: set[str] = set()
    for batch in split_into_batches(ids, INSTANCES_PER_FILTER):
        names = ", ".join(f"'{instance}'" for instance in batch)
        matching = _iter_matching_instances(ecs, cluster, f"ec2InstanceId in [{names}]")
        joined.update(instance.instance for instance in matching)
    return [instance for instance in ids if instance not in joined]


def list_machines(ec2: EC2Client, ids: Sequence[str]) -> list[ObservedMachine]:
    """Return those of these EC2 instances that EC2 still knows. AWS errors are not caught."""
    return [
        parse_machine(described)
        for batch in split_into_batches(ids, LAUNCH_TIMES_PER_CALL)
        for described in iter_instances(ec2, [{"Name": "instance-id", "Values": batch}])
    ]


def list_running_machines(ec2: EC2Client, ids: Sequence[str]) -> list[ObservedMachine]:
    """Return those of these EC2 instances that are running. AWS errors are not caught."""
    return [
        parse_machine(described)
        for batch in split_into_batches(ids, LAUNCH_TIMES_PER_CALL)
        for described in iter_instances(
            ec2,
            [{"Name": "instance-id", "Values": batch}, {"Name": "instance-state-name", "Values": ["running"]}],
        )
    ]


def _iter_matching_instances(ecs: ECSClient, cluster: str, query: str) -> Iterator[ContainerInstance]:
    """Yield the cluster's machines that match a filter in ECS's cluster query language; none if there is no cluster."""
    try:
        pages = ecs.get_paginator("list_container_instances").paginate(
            cluster=cluster, filter=query, PaginationConfig={"PageSize": CONTAINER_INSTANCES_PER_CALL}
        )
        for page in pages:
            yield from observe_container_instances(ecs, cluster, page["containerInstanceArns"])
    except ClientError as error:
        if get_error_code(error) != "ClusterNotFoundException":
            raise


def observe_container_instances(ecs: ECSClient, cluster: str, arns: Sequence[str]) -> list[ContainerInstance]:
    """Return the machines with these ARNs (at most 100) that are still in the cluster. AWS errors are not caught."""
    if not arns:
        return []
    response = ecs.describe_container_instances(cluster=cluster, containerInstances=list(arns))
    return [
        ContainerInstance(
            instance=described.get("ec2InstanceId", ""),
            arn=described["containerInstanceArn"],
            tasks=described.get("runningTasksCount", 0) + described.get("pendingTasksCount", 0),
            joined_at=convert_to_seconds(described.get("registeredAt")),
            is_draining=described.get("status") == "DRAINING",
            is_connected=bool(described.get("agentConnected")),
        )
        for described in response["containerInstances"]
        if described.get("status", "ACTIVE") in ("ACTIVE", "DRAINING")
    ]
