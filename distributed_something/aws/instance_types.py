"""Machine types: their size and architecture, where they are offered, and how many containers fit.

Look-ups go by filters, so that a type which EC2 does not know is missing in the answer instead of refusing the call.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


CPU_UNITS_PER_VCPU = 1024  # ECS: of one virtual CPU
AGENT_MEMORY_SHARE = 0.08  # of a machine's memory, what the system and the ECS agent keep: 3 to 8 % is seen
MACHINE_TYPES_PER_CALL = 100  # EC2: DescribeInstanceTypes answers at most 100 a call


@dataclass(frozen=True)
class MachineType:
    """An instance type: virtual CPUs, memory (MiB), the architectures that its processor runs ('x86_64', 'arm64')."""

    name: str
    vcpus: int
    memory: int
    architectures: frozenset[str]
    spot: bool = True


@dataclass(frozen=True)
class ContainerFit:
    """How many containers a machine holds, by CPU and by memory after the ECS agent's share."""

    by_cpu: int
    by_memory: int

    @property
    def containers(self) -> int:
        return min(self.by_cpu, self.by_memory)


def compute_usable_capacity(machine: MachineType) -> tuple[int, int]:
    """CPU units and MiB that a machine has for containers, after the share of the system and the ECS agent."""
    return machine.vcpus * CPU_UNITS_PER_VCPU, int(machine.memory * (1 - AGENT_MEMORY_SHARE))


def compute_container_fit(machine: MachineType, cpu_shares: int, memory: int) -> ContainerFit:
    """Containers of `cpu_shares` (1024 a virtual CPU) and `memory` (MiB) on one such machine."""
    cpu, mib = compute_usable_capacity(machine)
    return ContainerFit(cpu // cpu_shares, mib // memory)


def list_machine_types(ec2: EC2Client, names: Collection[str]) -> dict[str, MachineType]:
    """The types of these names that the region has. One call a hundred types. Raises botocore's errors."""
    found: dict[str, MachineType] = {}
    for some in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        filters: Any = [{"Name": "instance-type", "Values": some}]
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=filters):
            found.update((one["InstanceType"], _build_machine_type(one)) for one in page["InstanceTypes"])
    return dict(sorted(found.items()))


def list_type_offerings(ec2: EC2Client, names: Collection[str]) -> set[tuple[str, str]]:
    """(type, availability zone) for each zone of the region where a type of these names is offered."""
    found: set[tuple[str, str]] = set()
    for some in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        filters: Any = [{"Name": "instance-type", "Values": some}]
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=filters
        )
        found |= {(one["InstanceType"], one["Location"]) for page in pages for one in page["InstanceTypeOfferings"]}
    return found


def _build_machine_type(described: Any) -> MachineType:
    return MachineType(
        name=described["InstanceType"],
        vcpus=described["VCpuInfo"]["DefaultVCpus"],
        memory=described["MemoryInfo"]["SizeInMiB"],
        architectures=frozenset(described.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        spot="spot" in described.get("SupportedUsageClasses", ["spot"]),
    )


@dataclass(frozen=True)
class QuotaClass:
    """One class of types: its code in Service Quotas, and what AWS calls it."""

    code: str
    name: str


ECS_DEFAULT_LIMITS = {"Container instances per cluster": 5000, "Tasks per service": 5000}  # as AWS names them
_STANDARD_CLASS = QuotaClass("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests")
_CLASS_PATTERNS = (  # the letters that a type begins with, before its generation; longer ones first
    (r"dl\d", QuotaClass("L-85EED4F7", "All DL Spot Instance Requests")),
    (r"f\d", QuotaClass("L-88CF9481", "All F Spot Instance Requests")),
    (r"(g|gr|vt)\d", QuotaClass("L-3819A6DF", "All G and VT Spot Instance Requests")),
    (r"inf\d", QuotaClass("L-B5D1601B", "All Inf Spot Instance Requests")),
    (r"p[2-4]", QuotaClass("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests")),
    (r"p5", QuotaClass("L-C4BD4855", "All P5 Spot Instance Requests")),
    (r"trn\d", QuotaClass("L-6B0D517C", "All Trn Spot Instance Requests")),
    (r"x\d", QuotaClass("L-E3A00192", "All X Spot Instance Requests")),
    (r"(a|c|d|h|i|m|r|t|z)\d|(im|is)\d", _STANDARD_CLASS),
)


def find_quota_class(machine_type: str) -> QuotaClass | None:
    """The quota that a type such as 'm5.large' counts against; None where this project knows of none."""
    family = machine_type.partition(".")[0]
    return next((quota for pattern, quota in _CLASS_PATTERNS if re.match(pattern, family)), None)


def read_quota_value(quotas: Any, quota: QuotaClass) -> float:
    """How many virtual CPUs the account may have in that class. `quotas`: a client. Raises botocore's errors."""
    answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
    return float(answer["Quota"]["Value"])
