"""Checks that the machine types exist, are offered in the subnets' zones, and have room for the containers."""

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


def check_machine_types(lookups: Lookups) -> Iterator[Finding]:
    """Check that the machine types exist, can be spot machines if needed, and are offered in the subnets' zones."""
    yield from judge_machine_types(lookups.type_names, lookups.types.value, needs_spot=lookups.spot_machines > 0)
    zones = {subnet_id: subnet["AvailabilityZone"] for subnet_id, subnet in lookups.subnets.value.items()}
    yield from judge_type_offerings(lookups.specifications, zones, lookups.type_offerings.value, lookups.types.value)


def judge_machine_types(
    names: Iterable[str], types: Mapping[str, MachineType], *, needs_spot: bool = True
) -> Iterator[Finding]:
    """Check that the region offers the types and, if `needs_spot`, that they are available as spot machines."""
    missing_types = [name for name in names if name not in types]
    if missing_types:
        yield build_wrong_finding(
            "types",
            f"no such machine type in this region: {format_names(missing_types)}",
            "correct MACHINE_TYPE in the config",
            is_user_error=True,
        )
    for name in sorted(name for name, machine_type in types.items() if needs_spot and not machine_type.has_spot):
        yield build_wrong_finding(
            "types", f"AWS does not offer {name} as a spot machine", "remove it from MACHINE_TYPE", is_user_error=True
        )


def judge_type_offerings(
    specifications: Iterable[LaunchSpecification],
    zones: Mapping[str, str],
    offerings: Collection[tuple[str, str]],
    types: Mapping[str, MachineType],
) -> Iterator[Finding]:
    """Check that AWS offers each type in the zones of its subnets.

    `zones`: the zone of each subnet. `offerings`: the (type, zone) pairs that AWS offers.
    """
    requested_pairs = {
        (specification.machine_type, zones[subnet])
        for specification in specifications
        for subnet in specification.subnets
        if subnet in zones
    }
    pairs = sorted(pair for pair in requested_pairs or set(offerings) if pair[0] in types)
    missing_pairs = [f"{name} in {zone}" for name, zone in pairs if (name, zone) not in offerings]
    type_names = format_names(sorted({name for name, _ in pairs}))
    if pairs and len(missing_pairs) == len(pairs):
        yield build_wrong_finding(
            "types",
            f"not offered in any zone of the subnets: {type_names}",
            "choose another MACHINE_TYPE, or subnets in other zones",
            is_user_error=True,
        )
    elif missing_pairs:
        yield build_warning_finding(
            "types",
            f"not offered: {format_names(missing_pairs)}; the fleet can use {len(pairs) - len(missing_pairs)} of "
            f"{len(pairs)} combinations",
            "add subnets or types, so that EC2 can find free machines more often",
        )
    elif pairs:
        zone_count = format_count(len({zone for _, zone in pairs}), "zone")
        yield build_ok_finding("types", f"{type_names}, offered in {zone_count}")


def check_machine_capacity(lookups: Lookups) -> Iterator[Finding]:
    """Check how many containers fit on each machine type."""
    yield from judge_machine_capacity(lookups.settings, lookups.types.value)


def judge_machine_capacity(settings: Settings, types: Mapping[str, MachineType]) -> Iterator[Finding]:
    """Check that exactly TASKS_PER_MACHINE containers fit on each machine type."""
    fits = {
        name: compute_container_fit(machine_type, settings.CPU_SHARES, settings.MEMORY, settings.GPUS)
        for name, machine_type in types.items()
    }
    tasks = settings.TASKS_PER_MACHINE
    small_types = {name: fit for name, fit in fits.items() if fit.containers < tasks}
    large_types = {name: fit for name, fit in fits.items() if fit.containers > tasks}
    details = {name: _build_fit_json(fit) for name, fit in fits.items()}
    yield from judge_gpus(settings, types)
    if small_types:
        yield from _judge_small_types(settings, types, small_types, details)
    if large_types:
        capacities = format_names([f"{name} holds {fit.containers}" for name, fit in large_types.items()])
        cpu, memory = _compute_container_shares(types, tasks)
        yield build_warning_finding(
            "room",
            f"{capacities} containers, but TASKS_PER_MACHINE is {tasks}: ECS may fill some machines and leave others "
            "idle",
            f"raise TASKS_PER_MACHINE, or set MEMORY to {memory} and CPU_SHARES to {cpu} to fill a machine",
            details=details,
        )
    yield from _judge_idle_capacity(tasks, fits)
    gpus = f", {format_count(settings.GPUS, 'GPU')}," if settings.GPUS else ""
    if fits and not small_types and not large_types:
        yield build_ok_finding(
            "room",
            f"{tasks} x {settings.CPU_SHARES} CPU units{gpus} and {settings.MEMORY} MiB fit on every machine type",
            details=details,
        )


def judge_gpus(settings: Settings, types: Mapping[str, MachineType]) -> Iterator[Finding]:
    """Warn about GPUs that no container can use but that are paid for."""
    unused_types = [name for name, machine_type in types.items() if machine_type.gpus and not settings.GPUS]
    if unused_types:
        yield build_warning_finding(
            "room",
            f"GPUS is 0, so containers cannot use the GPUs of {format_names(unused_types)}, which you pay for",
            "set GPUS to the GPUs that each container needs, run setup, and run fleetFile; or use types without GPUs",
        )
    idle_types = {
        name: machine_type.gpus
        for name, machine_type in types.items()
        if settings.GPUS and machine_type.gpus - settings.TASKS_PER_MACHINE * settings.GPUS >= 1
    }
    if idle_types:
        used = settings.TASKS_PER_MACHINE * settings.GPUS
        names = format_names([f"{used} of {gpus} on {name}" for name, gpus in idle_types.items()])
        yield build_warning_finding(
            "room", f"containers use only some of the GPUs: {names}", "raise GPUS or TASKS_PER_MACHINE"
        )


def _build_fit_json(fit: ContainerFit) -> dict[str, int]:
    """Return the fit for `check --json`, whose keys never change."""
    by_gpu = {} if fit.by_gpu is None else {"by_gpu": fit.by_gpu}
    return {"by_cpu": fit.by_cpu, "by_memory": fit.by_memory} | by_gpu


def _judge_small_types(
    settings: Settings,
    types: Mapping[str, MachineType],
    small_types: Mapping[str, ContainerFit],
    details: FindingDetails,
) -> Iterator[Finding]:
    """Yield a finding about `small_types`, which hold fewer containers than TASKS_PER_MACHINE.

    The finding is WRONG if all `types` are too small, else a WARNING.
    """
    is_wrong = len(small_types) == len(types)
    size_findings = list(_judge_oversized_containers(settings, types.values(), details)) if is_wrong else []
    if size_findings:
        yield from size_findings
        return
    message = format_names(
        [f"{name} holds {fit.containers} of {settings.TASKS_PER_MACHINE}" for name, fit in small_types.items()]
    )
    gpu_note = ""
    if settings.GPUS:
        gpu_note = f", GPUs for {_format_range(fit.by_gpu or 0 for fit in small_types.values())}"
    message += (
        f" containers (CPU for {_format_range(fit.by_cpu for fit in small_types.values())}, memory for "
        f"{_format_range(fit.by_memory for fit in small_types.values())}{gpu_note})"
    )
    level = FindingLevel.WRONG if is_wrong else FindingLevel.WARNING
    remedy = _format_fit_remedy(settings, types)
    yield Finding(level, "room", message, remedy, is_user_error=is_wrong, details=dict(details or {}))


def _judge_oversized_containers(
    settings: Settings, types: Collection[MachineType], details: FindingDetails
) -> Iterator[Finding]:
    """Yield a finding if TASKS_PER_MACHINE times MEMORY or CPU_SHARES is too large for every machine type."""
    tasks = settings.TASKS_PER_MACHINE
    cpu, memory = (max(capacity) for capacity in zip(*map(compute_usable_capacity, types), strict=True))
    total_memory = max(machine_type.memory for machine_type in types)
    for key, amount, usable, unit, largest in (
        ("MEMORY", settings.MEMORY, memory, " MiB", total_memory),
        ("CPU_SHARES", settings.CPU_SHARES, cpu, "", cpu),
    ):
        if amount * tasks > usable:
            message = f"{key}: {tasks} x {amount}{unit} does not fit on any machine (largest: {largest}{unit})"
            remedy = f"set {key} to at most {usable // tasks}, or lower TASKS_PER_MACHINE"
            yield build_wrong_finding("room", message, remedy, is_user_error=True, details=details)


def _judge_idle_capacity(tasks: int, fits: Mapping[str, ContainerFit]) -> Iterator[Finding]:
    """Yield a finding for CPU that stays idle because memory is used up, or vice versa.

    Unused capacity counts only if it is enough for at least one more container, unless all GPUs are in use.
    """
    idle_types = Counter(
        resource
        for fit in fits.values()
        if fit.containers == tasks and fit.by_gpu != tasks
        for resource, count in (("CPU", fit.by_cpu), ("memory", fit.by_memory))
        if count > tasks
    )
    for resource, count in idle_types.items():
        yield build_ok_finding(
            "room",
            f"unused {resource} for at least one more container on {count} of {len(fits)} machine types",
            f"use a type with less {resource}, which may cost less, or give the containers more {resource}",
        )


def _format_fit_remedy(settings: Settings, types: Mapping[str, MachineType]) -> str:
    cpu, memory = _compute_container_shares(types, settings.TASKS_PER_MACHINE)
    gpus = min(machine_type.gpus for machine_type in types.values()) // settings.TASKS_PER_MACHINE
    if gpus < settings.GPUS:
        advice = f"set GPUS to at most {gpus}" if gpus else "use machine types with more GPUs"
        return f"{advice}, or lower TASKS_PER_MACHINE"
    return f"set MEMORY to at most {memory} and CPU_SHARES to at most {cpu}, or lower TASKS_PER_MACHINE"


def _compute_container_shares(types: Mapping[str, MachineType], tasks: int) -> tuple[int, int]:
    """Return the CPU units and memory (in MiB) of each container if `tasks` containers fill the smallest machine."""
    capacities = [compute_usable_capacity(machine_type) for machine_type in types.values()]
    return min(cpu for cpu, _ in capacities) // tasks, min(memory for _, memory in capacities) // tasks


def _format_range(counts: Iterable[int]) -> str:
    ordered = sorted(set(counts))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
