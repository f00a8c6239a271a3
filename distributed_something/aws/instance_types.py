"""Instance types: their size, architecture, zones, and quotas, and how many containers fit on them.

All lookups use filters. If a type does not exist, it is then missing from the response instead of causing an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


CPU_UNITS_PER_VCPU = 1024  # defined by ECS
AGENT_MEMORY_SHARE = 0.08  # share of an instance's memory that the system and the ECS agent use: 3 to 8% in practice
MACHINE_TYPES_PER_CALL = 100  # the most that EC2's DescribeInstanceTypes accepts
# Families with AWS's own Arm processors: a1, and a "g" after the generation, as in m6g and c7gn. "-gb" is NVIDIA's Arm.
# https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
_ARM_FAMILY_PATTERN = re.compile(r"a1|[a-z]+\d+[a-z]*g[a-z]*(-\w+)?|[a-z]+\d+[a-z]*-gb\d+")


@dataclass(frozen=True)
class MachineType:
    """An instance type: virtual CPUs, memory in MiB, and architectures such as 'x86_64'.

    `has_spot`: whether EC2 offers the type as spot instances. `gpus`: number of NVIDIA GPUs, the only ones that ECS
    gives to containers.
    """

    name: str
    vcpus: int
    memory: int
    architectures: frozenset[str]
    has_spot: bool = True
    gpus: int = 0


@dataclass(frozen=True)
class ContainerFit:
    """The number of containers that an instance has enough CPU, memory, and GPUs for; None if they need no GPU."""

    by_cpu: int
    by_memory: int
    by_gpu: int | None = None

    @property
    def containers(self) -> int:
        counts = (self.by_cpu, self.by_memory, self.by_gpu)
        return min(count for count in counts if count is not None)


def compute_usable_capacity(machine: MachineType) -> tuple[int, int]:
    """Return the CPU units and memory (in MiB) that the system and the ECS agent leave for containers."""
    return machine.vcpus * CPU_UNITS_PER_VCPU, int(machine.memory * (1 - AGENT_MEMORY_SHARE))


def compute_container_fit(machine: MachineType, cpu_shares: int, memory: int, gpus: int = 0) -> ContainerFit:
    """Return how many containers with `cpu_shares` (1024 per virtual CPU), `memory` (MiB), and `gpus` fit."""
    cpu, mib = compute_usable_capacity(machine)
    return ContainerFit(cpu // cpu_shares, mib // memory, machine.gpus // gpus if gpus else None)


def find_docker_platform(machine_type: str) -> str:
    """Return Docker's name for the platform of a type such as 'm5.large', from its name alone, without calling AWS."""
    is_arm = _ARM_FAMILY_PATTERN.fullmatch(machine_type.partition(".")[0])
    return "linux/arm64" if is_arm else "linux/amd64"


def list_machine_types(ec2: EC2Client, names: Collection[str]) -> dict[str, MachineType]:
    """Return the requested types that the region offers, keyed by name.

    This takes one call per 100 types. AWS errors are not caught.
    """
    types: dict[str, MachineType] = {}
    for batch in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        filters: Any = [{"Name": "instance-type", "Values": batch}]
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=filters):
            types.update(
                (described["InstanceType"], _build_machine_type(described)) for described in page["InstanceTypes"]
            )
    return dict(sorted(types.items()))


def list_type_offerings(ec2: EC2Client, names: Collection[str]) -> set[tuple[str, str]]:
    """Return a (type, availability zone) pair for each requested type and each zone of the region that offers it.

    AWS errors are not caught.
    """
    offerings: set[tuple[str, str]] = set()
    for batch in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        filters: Any = [{"Name": "instance-type", "Values": batch}]
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=filters
        )
        for page in pages:
            offerings |= {(offer["InstanceType"], offer["Location"]) for offer in page["InstanceTypeOfferings"]}
    return offerings


def _build_machine_type(described: Any) -> MachineType:
    return MachineType(
        name=described["InstanceType"],
        vcpus=described["VCpuInfo"]["DefaultVCpus"],
        memory=described["MemoryInfo"]["SizeInMiB"],
        architectures=frozenset(described.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        has_spot="spot" in described.get("SupportedUsageClasses", ["spot"]),
        gpus=sum(
            gpu.get("Count", 0)
            for gpu in described.get("GpuInfo", {}).get("Gpus", ())
            if gpu.get("Manufacturer") == "NVIDIA"
        ),
    )


@dataclass(frozen=True)
class QuotaClass:
    """A quota, most often of a class of instance types: its code in Service Quotas, AWS's name, and its service."""

    code: str
    name: str
    service: str = "ec2"


ECS_DEFAULT_LIMITS = {"Container instances per cluster": 5000, "Tasks per service": 5000}  # the keys are AWS's names
_STANDARD_FAMILIES = r"(a|c|d|h|i|m|r|t|z)\d|(im|is)\d"
_STANDARD_LETTERS = "(A, C, D, H, I, M, R, T, Z)"
_SPOT_CLASS_PATTERNS = (  # matched at the start of the type's family; the first match is used
    (r"dl\d", QuotaClass("L-85EED4F7", "All DL Spot Instance Requests")),
    (r"f\d", QuotaClass("L-88CF9481", "All F Spot Instance Requests")),
    (r"(g|gr|vt)\d", QuotaClass("L-3819A6DF", "All G and VT Spot Instance Requests")),
    (r"inf\d", QuotaClass("L-B5D1601B", "All Inf Spot Instance Requests")),
    (r"p[2-4]", QuotaClass("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests")),
    (r"p5", QuotaClass("L-C4BD4855", "All P5 Spot Instance Requests")),
    (r"trn\d", QuotaClass("L-6B0D517C", "All Trn Spot Instance Requests")),
    (r"x\d", QuotaClass("L-E3A00192", "All X Spot Instance Requests")),
    (_STANDARD_FAMILIES, QuotaClass("L-34B43A08", f"All Standard {_STANDARD_LETTERS} Spot Instance Requests")),
)
_ON_DEMAND_CLASS_PATTERNS = (
    (r"dl\d", QuotaClass("L-6E869C2A", "Running On-Demand DL instances")),
    (r"f\d", QuotaClass("L-74FC7D96", "Running On-Demand F instances")),
    (r"(g|gr|vt)\d", QuotaClass("L-DB2E81BA", "Running On-Demand G and VT instances")),
    (r"inf\d", QuotaClass("L-1945791B", "Running On-Demand Inf instances")),
    (r"p\d", QuotaClass("L-417A185B", "Running On-Demand P instances")),
    (r"trn\d", QuotaClass("L-2C3B7624", "Running On-Demand Trn instances")),
    (r"x\d", QuotaClass("L-7295265B", "Running On-Demand X instances")),
    (_STANDARD_FAMILIES, QuotaClass("L-1216C47A", f"Running On-Demand Standard {_STANDARD_LETTERS} instances")),
)
# In TiB, for all gp3 volumes in a region: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html
GP3_STORAGE_QUOTA = QuotaClass("L-7A658B76", "Storage for General Purpose SSD (gp3) volumes, in TiB", "ebs")
DEFAULT_GP3_STORAGE_TIB = 50


def find_quota_class(machine_type: str, *, on_demand: bool = False) -> QuotaClass | None:
    """Return the quota that spot or on-demand machines of a type such as 'm5.large' count against.

    Return None if our table has no entry for the type.
    """
    family = machine_type.partition(".")[0]
    patterns = _ON_DEMAND_CLASS_PATTERNS if on_demand else _SPOT_CLASS_PATTERNS
    return next((quota for pattern, quota in patterns if re.match(pattern, family)), None)


def read_quota_value(quotas: Any, quota: QuotaClass) -> float:
    """Return the account's value of a quota, such as the number of virtual CPUs in a class of instance types.

    `quotas`: a Service Quotas client. AWS errors are not caught.
    """
    response = quotas.get_service_quota(ServiceCode=quota.service, QuotaCode=quota.code)
    return float(response["Quota"]["Value"])
