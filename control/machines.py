"""Machine types: their size and architecture, where they are offered, and how many containers fit.

Look-ups go by filters, so that a type which EC2 does not know is missing in the answer instead of refusing the call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

CPU_UNITS = 1024  # ECS: of one virtual CPU
AGENT_SHARE = 0.08  # of a machine's memory, what the system and the ECS agent keep: 3 to 8 % is seen
TYPES_A_CALL = 100  # EC2: DescribeInstanceTypes answers at most 100 a call


@dataclass(frozen=True)
class MachineType:
    """An instance type: virtual CPUs, memory (MiB), the architectures that its processor runs ('x86_64', 'arm64')."""

    name: str
    vcpus: int
    memory: int
    architectures: frozenset[str]
    spot: bool = True


@dataclass(frozen=True)
class Fit:
    """How many containers a machine holds, by CPU and by memory after the ECS agent's share."""

    by_cpu: int
    by_memory: int

    @property
    def containers(self) -> int:
        return min(self.by_cpu, self.by_memory)


def usable(machine: MachineType) -> tuple[int, int]:
    """CPU units and MiB that a machine has for containers, after the share of the system and the ECS agent."""
    return machine.vcpus * CPU_UNITS, int(machine.memory * (1 - AGENT_SHARE))


def fit(machine: MachineType, cpu_shares: int, memory: int) -> Fit:
    """Containers of `cpu_shares` (1024 a virtual CPU) and `memory` (MiB) on one such machine."""
    cpu, mib = usable(machine)
    return Fit(cpu // cpu_shares, mib // memory)


def look_up(ec2: EC2Client, names: Collection[str]) -> dict[str, MachineType]:
    """The types of these names that the region has. One call a hundred types. Raises botocore's errors."""
    found: dict[str, MachineType] = {}
    for some in in_batches(sorted(set(names)), TYPES_A_CALL):
        filters: Any = [{"Name": "instance-type", "Values": some}]
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=filters):
            found.update((one["InstanceType"], _of(one)) for one in page["InstanceTypes"])
    return dict(sorted(found.items()))


def offered(ec2: EC2Client, names: Collection[str]) -> set[tuple[str, str]]:
    """(type, availability zone) for each zone of the region where a type of these names is offered."""
    found: set[tuple[str, str]] = set()
    for some in in_batches(sorted(set(names)), TYPES_A_CALL):
        filters: Any = [{"Name": "instance-type", "Values": some}]
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=filters
        )
        found |= {(one["InstanceType"], one["Location"]) for page in pages for one in page["InstanceTypeOfferings"]}
    return found


def in_batches(values: Sequence[str], size: int) -> Iterator[list[str]]:
    """`values` in lists of at most `size`."""
    for first in range(0, len(values), size):
        yield list(values[first : first + size])


def _of(described: Any) -> MachineType:
    return MachineType(
        name=described["InstanceType"],
        vcpus=described["VCpuInfo"]["DefaultVCpus"],
        memory=described["MemoryInfo"]["SizeInMiB"],
        architectures=frozenset(described.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        spot="spot" in described.get("SupportedUsageClasses", ["spot"]),
    )
