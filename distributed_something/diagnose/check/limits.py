"""Checks the limits that a run may reach: quotas for machines and disks, and limits of ECS, SQS, and Docker Hub.

A limit is mentioned only if the run comes near it, from NEAR_SHARE on. The quotas for machines are always mentioned,
because they are small in a new account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from distributed_something.aws.instance_types import (
    DEFAULT_GP3_STORAGE_TIB,
    ECS_DEFAULT_LIMITS,
    GP3_STORAGE_QUOTA,
    MachineType,
    QuotaClass,
    find_quota_class,
)
from distributed_something.core.image_name import parse_image_reference
from distributed_something.core.text import format_count, format_names
from distributed_something.diagnose.check.container_image.registry import DOCKER_HUB, find_registry_name
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.network import find_default_route_target

NEAR_SHARE = 0.8  # of a limit, from which on a run is said to come near it
# Messages in flight per standard queue: Amazon SQS Developer Guide, "Message quotas"
SQS_MAX_IN_FLIGHT = 120_000
MESSAGES_PER_SLOT = 2  # a running job and the next one, whose inputs are fetched meanwhile
DOCKER_HUB_PULLS, DOCKER_HUB_HOURS = 100, 6  # per IPv4 address, without a login: docs.docker.com/docker-hub/usage
GIB_PER_TIB = 1024
# The share of the default quota for disks from which on the account's own quota is read, which may be lower.
QUOTA_LOOKUP_SHARE = 0.2
MANY_SPOT_MACHINES, FEW_TYPES = 10, 2  # with one or two types, EC2's spot placement score is always low


class QuotaTopic(NamedTuple):
    """Spot or on-demand machines, as findings name them."""

    topic: str
    noun: str


SPOT_QUOTA, ON_DEMAND_QUOTA = QuotaTopic("spot quota", "spot"), QuotaTopic("on-demand quota", "on-demand")


def check_spot_quota(lookups: Lookups) -> Iterator[Finding]:
    """Compare the account's spot quota (in virtual CPUs) with the requested spot machines."""
    if lookups.spot_machines == 0:
        yield build_ok_finding("spot quota", "no spot machines requested")
        return
    has_on_demand = lookups.settings.ON_DEMAND_MACHINES > 0
    yield from judge_machine_quotas(
        SPOT_QUOTA, lookups.spot_machines, lookups.types.value, lookups.quotas.value, has_others=has_on_demand
    )


def check_on_demand_quota(lookups: Lookups) -> Iterator[Finding]:
    """Compare the account's quota for on-demand machines with the requested ones, if there are any."""
    if count := lookups.settings.ON_DEMAND_MACHINES:
        yield from judge_machine_quotas(
            ON_DEMAND_QUOTA,
            count,
            lookups.types.value,
            lookups.on_demand_quotas.value,
            has_others=lookups.spot_machines > 0,
        )


def check_ecs_limits(lookups: Lookups) -> Iterator[Finding]:
    """Compare the run's size with ECS's limits, which a run would hit only after requesting its fleet."""
    yield from judge_ecs_limits(lookups.settings.CLUSTER_MACHINES, lookups.settings.TASKS_PER_MACHINE)


def judge_ecs_limits(machines: int, tasks: int) -> Iterator[Finding]:
    """Compare the number of machines, with `tasks` tasks each, to ECS's default limits for a cluster and a service."""
    for (name, limit), needed in zip(ECS_DEFAULT_LIMITS.items(), (machines, machines * tasks), strict=True):
        if needed >= limit * NEAR_SHARE:
            comparison = "exceeds" if needed > limit else "is close to"
            yield build_warning_finding(
                "ECS limits",
                f'{needed:,} {comparison} AWS\'s default for "{name}" ({limit:,})',
                "check your limit under Service Quotas, Amazon ECS; if it is not higher, use fewer, larger machines "
                "and containers with more DOCKER_CORES",
                details={"quota": name, "default": limit, "needed": needed},
            )


def judge_machine_quotas(
    kind: QuotaTopic,
    count: int,
    types: Mapping[str, MachineType],
    quotas: Mapping[QuotaClass, float],
    *,
    has_others: bool = False,
) -> Iterator[Finding]:
    """Compare `count` spot or on-demand machines with the account's quotas.

    `quotas`: the account's quota, in virtual CPUs, for each class of machine types. `has_others`: whether machines of
    the other kind are requested. A quota that is too small gets only a warning if those or another class of machine
    types can still start.
    """
    classes: dict[QuotaClass | None, list[MachineType]] = defaultdict(list)
    for name, machine_type in types.items():
        classes[find_quota_class(name, on_demand=kind == ON_DEMAND_QUOTA)].append(machine_type)
    for quota_class, machine_types in classes.items():
        if quota_class is None or quota_class not in quotas:
            names = format_names([machine_type.name for machine_type in machine_types])
            yield build_warning_finding(
                kind.topic, f"unknown quota for {names}", "look it up under Service Quotas, Amazon EC2"
            )
        else:
            is_only_class = len(classes) == 1 and not has_others
            yield _judge_quota_class(
                kind, count, quota_class, machine_types, quotas[quota_class], is_only_class=is_only_class
            )


def _judge_quota_class(
    kind: QuotaTopic,
    count: int,
    quota_class: QuotaClass,
    machine_types: list[MachineType],
    quota: float,
    *,
    is_only_class: bool,
) -> Finding:
    smallest = min(machine_type.vcpus for machine_type in machine_types)
    largest = max(machine_type.vcpus for machine_type in machine_types)
    message = f'the quota "{quota_class.name}" is {quota:,.0f} virtual CPUs'
    remedy = f"request more ({quota_class.code}) under Service Quotas, Amazon EC2; this may take a day"
    details = {"code": quota_class.code, "value": quota, "needed": count * largest}
    if quota < smallest:
        message += f": no {kind.noun} machine can start (the smallest type needs {smallest})"
        level = FindingLevel.WRONG if is_only_class else FindingLevel.WARNING
        return Finding(level, kind.topic, message, remedy, details=details)
    if quota < count * smallest:
        message += f": enough for {quota // smallest:.0f} of {count} machines"
        remedy += "; or lower CLUSTER_MACHINES" if kind == SPOT_QUOTA else "; or lower ON_DEMAND_MACHINES"
        return build_warning_finding(kind.topic, message, remedy, details=details)
    if quota < count * largest:
        message += (
            f": enough for {quota // largest:.0f} of {count} machines of the largest type ({largest} virtual CPUs)"
        )
        return build_warning_finding(kind.topic, message, remedy, details=details)
    message += f"; this run needs up to {count * largest:,} (the account's other {kind.noun} machines count too)"
    return build_ok_finding(kind.topic, message, details=details)


def check_large_run_limits(lookups: Lookups) -> Iterator[Finding]:
    """Name the limits that this run comes near and that would stop or slow a large run."""
    yield from judge_messages_in_flight(lookups.settings.slots)
    yield from _check_disk_storage(lookups)
    yield from judge_spot_types(lookups.spot_machines, len(lookups.type_names))
    image = parse_image_reference(lookups.settings.DOCKERHUB_TAG)
    if image is not None and find_registry_name(image.registry) == DOCKER_HUB and _shares_address(lookups):
        yield from judge_docker_hub_pulls(lookups.settings.CLUSTER_MACHINES)


def judge_messages_in_flight(slots: int) -> Iterator[Finding]:
    """Compare the messages that all slots hold with the number that SQS allows for a queue."""
    needed = slots * MESSAGES_PER_SLOT
    if needed >= SQS_MAX_IN_FLIGHT * NEAR_SHARE:
        yield build_warning_finding(
            "limits",
            f"{slots:,} slots hold up to {needed:,} messages (a running job and the next one); SQS allows "
            f"{SQS_MAX_IN_FLIGHT:,} in flight per queue and delivers no more jobs beyond that",
            "split the run into several apps with fewer slots, or ask AWS Support for a higher limit",
            details={"limit": SQS_MAX_IN_FLIGHT, "needed": needed},
        )


def _check_disk_storage(lookups: Lookups) -> Iterator[Finding]:
    """Compare the disks of all machines with the quota for gp3 storage, which is read only for a large run."""
    sizes = [sum(size or 0 for _, size, _ in spec.volumes) for spec in lookups.specifications]
    gib = max([lookups.settings.EBS_VOL_SIZE, *sizes]) * lookups.settings.CLUSTER_MACHINES
    if gib / GIB_PER_TIB >= DEFAULT_GP3_STORAGE_TIB * QUOTA_LOOKUP_SHARE:
        yield from judge_disk_storage(gib, lookups.gp3_storage_quota.result)


def judge_disk_storage(gib: int, quota: float | None) -> Iterator[Finding]:
    """Compare the size of all disks with the quota in TiB; None if it could not be read."""
    limit = DEFAULT_GP3_STORAGE_TIB if quota is None else quota
    if gib / GIB_PER_TIB >= limit * NEAR_SHARE:
        origin = "AWS's default, because yours could not be read" if quota is None else "your account's quota"
        yield build_warning_finding(
            "limits",
            f"the disks of all machines need {gib / GIB_PER_TIB:,.1f} TiB; the limit for gp3 in a region is {limit:,g} "
            f"TiB ({origin}), and other disks count too",
            f"lower EBS_VOL_SIZE or CLUSTER_MACHINES, or request more ({GP3_STORAGE_QUOTA.code}) under Service Quotas, "
            "Amazon EBS",
            details={
                "code": GP3_STORAGE_QUOTA.code,
                "value": quota,
                "default": DEFAULT_GP3_STORAGE_TIB,
                "needed_gib": gib,
            },
        )


def judge_spot_types(machines: int, types: int) -> Iterator[Finding]:
    """Warn about many spot machines of only one or two types."""
    if machines >= MANY_SPOT_MACHINES and 0 < types <= FEW_TYPES:
        yield build_warning_finding(
            "limits",
            f"{machines:,} spot machines of only {format_count(types, 'type')}: EC2 may find few of them, and may take "
            "many of them back at once",
            "list at least three types of the same size in MACHINE_TYPE, such as m5, m5a, m6i, and m7i",
            details={"machines": machines, "types": types},
        )


def _shares_address(lookups: Lookups) -> bool:
    """Return whether the machines share one address on the internet, because a NAT gateway is between."""
    subnets, tables = lookups.subnets.result or {}, list((lookups.routes.result or {}).values())
    targets = {find_default_route_target(name, subnet["VpcId"], tables) for name, subnet in subnets.items()}
    return "nat" in targets or not lookups.has_public_addresses


def judge_docker_hub_pulls(machines: int) -> Iterator[Finding]:
    """Compare the machines, which pull the image once each, with the pulls that Docker Hub allows from one address."""
    if machines >= DOCKER_HUB_PULLS * NEAR_SHARE:
        yield build_warning_finding(
            "limits",
            f"{machines:,} machines behind a NAT gateway pull the image from one address, which {DOCKER_HUB} allows "
            f"{DOCKER_HUB_PULLS} times in {DOCKER_HUB_HOURS} hours; the others would start no container",
            "push the image to ECR or GHCR and set DOCKERHUB_TAG to it, or use public addresses (ASSIGN_IP)",
            details={"limit": DOCKER_HUB_PULLS, "needed": machines},
        )
