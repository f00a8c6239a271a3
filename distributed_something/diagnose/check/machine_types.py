"""Checks of the machine types: known, offered where the subnets are, and large enough for the containers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from distributed_something.aws.instance_types import (
    ContainerFit,
    MachineType,
    compute_container_fit,
    compute_usable_capacity,
)
from distributed_something.core.text import format_count, format_names
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingDetails,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_specs import LaunchSpecification

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


def check_machine_types(facts: Lookups) -> Iterator[Finding]:
    """The machine types: known, offered where the subnets are, as spot machines."""
    yield from judge_machine_types(facts.type_names, facts.types.value, spot=facts.spot_machines > 0)
    zones = {name: one["AvailabilityZone"] for name, one in facts.subnets.value.items()}
    yield from judge_type_offerings(facts.specifications, zones, facts.offered.value, facts.types.value)


def judge_machine_types(
    names: Iterable[str], found: Mapping[str, MachineType], *, spot: bool = True
) -> Iterator[Finding]:
    """They are types of this region and, if `spot` machines are asked for, are sold as such."""
    missing = [name for name in names if name not in found]
    if missing:
        yield build_wrong_finding(
            "types",
            f"no such machine type in this region: {format_names(missing)}",
            "correct MACHINE_TYPE in the config",
            by_user=True,
        )
    for name in sorted(name for name, one in found.items() if spot and not one.spot):
        yield build_wrong_finding(
            "types", f"{name} is not sold as a spot machine", "take it out of MACHINE_TYPE", by_user=True
        )


def judge_type_offerings(
    asked: Iterable[LaunchSpecification],
    zones: Mapping[str, str],
    offered: Collection[tuple[str, str]],
    types: Mapping[str, MachineType],
) -> Iterator[Finding]:
    """Each type is offered in the zones of its subnets (`zones`: of each subnet)."""
    pairs = sorted(
        {(one.machine_type, zones[name]) for one in asked for name in one.subnets if name in zones}
        or {pair for pair in offered}
    )
    known = [pair for pair in pairs if pair[0] in types]
    lacking = [f"{kind} in {zone}" for kind, zone in known if (kind, zone) not in offered]
    if known and len(lacking) == len(known):
        yield build_wrong_finding(
            "types",
            f"not offered in any zone of the subnets: {format_names(sorted({k for k, _ in known}))}",
            "choose other MACHINE_TYPE, or subnets in other zones",
            by_user=True,
        )
    elif lacking:
        yield build_warning_finding(
            "types",
            f"not offered: {format_names(lacking)}; the fleet can use {len(known) - len(lacking)} of {len(known)}"
            " combinations",
            "add subnets or types, for more chances",
        )
    elif known:
        yield build_ok_finding(
            "types",
            f"{format_names(sorted({kind for kind, _ in known}))}, offered in "
            + format_count(len({zone for _, zone in known}), "zone"),
        )


def check_machine_capacity(facts: Lookups) -> Iterator[Finding]:
    """How many containers fit on each type."""
    yield from judge_machine_capacity(facts.settings, facts.types.value)


def judge_machine_capacity(settings: Settings, types: Mapping[str, MachineType]) -> Iterator[Finding]:
    """TASKS_PER_MACHINE containers fit, and no more than these would."""
    fits = {name: compute_container_fit(one, settings.CPU_SHARES, settings.MEMORY) for name, one in types.items()}
    tasks = settings.TASKS_PER_MACHINE
    small = {name: one for name, one in fits.items() if one.containers < tasks}
    large = {name: one for name, one in fits.items() if one.containers > tasks}
    details = {name: {"by_cpu": one.by_cpu, "by_memory": one.by_memory} for name, one in fits.items()}
    if small:
        yield from _judge_small_machines(settings, types, small, details)
    if large:
        said = format_names([f"{name} holds {one.containers}" for name, one in large.items()])
        cpu, memory = _compute_container_shares(types, tasks)
        yield build_warning_finding(
            "room",
            f"{said} containers, TASKS_PER_MACHINE is {tasks}: ECS may crowd them on some machines while others idle",
            f"raise TASKS_PER_MACHINE; or MEMORY to {memory} and CPU_SHARES to {cpu}, which fill a machine",
            details=details,
        )
    yield from _judge_idle_capacity(tasks, fits)
    if fits and not small and not large:
        yield build_ok_finding(
            "room",
            f"{tasks} x {settings.CPU_SHARES} CPU units and {settings.MEMORY} MiB fit on every type",
            details=details,
        )


def _judge_small_machines(
    settings: Settings, types: Mapping[str, MachineType], small: Mapping[str, ContainerFit], details: FindingDetails
) -> Iterator[Finding]:
    """Those of the `types` that hold fewer containers than TASKS_PER_MACHINE."""
    is_wrong = len(small) == len(types)
    oversized = list(_judge_oversized_containers(settings, types.values(), details)) if is_wrong else []
    if oversized:
        yield from oversized
        return
    said = format_names(
        [f"{name} holds {fit.containers} of {settings.TASKS_PER_MACHINE}" for name, fit in small.items()]
    )
    said += (
        f" containers (CPU for {_format_range(fit.by_cpu for fit in small.values())}, memory for "
        f"{_format_range(fit.by_memory for fit in small.values())})"
    )
    level = FindingLevel.WRONG if is_wrong else FindingLevel.WARNING
    remedy = _format_fit_remedy(settings, types)
    yield Finding(level, "room", said, remedy, by_user=is_wrong, details=dict(details or {}))


def _judge_oversized_containers(
    settings: Settings, machines: Collection[MachineType], details: FindingDetails
) -> Iterator[Finding]:
    """MEMORY or CPU_SHARES of which TASKS_PER_MACHINE fit on none of the machines."""
    tasks = settings.TASKS_PER_MACHINE
    cpu, memory = (max(capacity) for capacity in zip(*map(compute_usable_capacity, machines), strict=True))
    largest = max(machine.memory for machine in machines)
    for key, amount, most, unit, shown in (
        ("MEMORY", settings.MEMORY, memory, " MiB", largest),
        ("CPU_SHARES", settings.CPU_SHARES, cpu, "", cpu),
    ):
        if amount * tasks > most:
            said = f"{key}: {tasks} x {amount}{unit} fit none of the machines (largest: {shown}{unit})"
            remedy = f"at most {most // tasks} fits; or lower TASKS_PER_MACHINE"
            yield build_wrong_finding("room", said, remedy, by_user=True, details=details)


def _judge_idle_capacity(tasks: int, fits: Mapping[str, ContainerFit]) -> Iterator[Finding]:
    """CPU or memory worth one more container, where the other is used up: paid for and idle."""
    rest = Counter(
        kind
        for one in fits.values()
        if one.containers == tasks
        for kind, count in (("CPU", one.by_cpu), ("memory", one.by_memory))
        if count > tasks
    )
    for kind, count in rest.items():
        yield build_ok_finding(
            "room",
            f"{kind} worth one more container is left over on {count} of {len(fits)} types",
            f"a type with less {kind} may cost less, or give the containers more of it",
        )


def _format_fit_remedy(settings: Settings, types: Mapping[str, MachineType]) -> str:
    cpu, memory = _compute_container_shares(types, settings.TASKS_PER_MACHINE)
    return f"at most MEMORY {memory} and CPU_SHARES {cpu} fit on every type; or lower TASKS_PER_MACHINE"


def _compute_container_shares(types: Mapping[str, MachineType], tasks: int) -> tuple[int, int]:
    """CPU units and MiB for each of `tasks` containers that fill the smallest machine."""
    whole = [compute_usable_capacity(one) for one in types.values()]
    return min(cpu for cpu, _ in whole) // tasks, min(memory for _, memory in whole) // tasks


def _format_range(counts: Iterable[int]) -> str:
    seen = sorted(set(counts))
    return str(seen[0]) if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"
