"""Causes in the machines: they terminate, are still starting, do not join the cluster, or take no jobs."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import is_faulty_end, is_spot_interruption
from distributed_something.core.failures.remedies import JOINING_REMEDY, REPETITION, Remedy
from distributed_something.core.text import format_count, format_duration, format_names
from distributed_something.diagnose.why.cause import (
    JOINING_SECONDS,
    MAX_NAMES_PER_CAUSE,
    Cause,
    count_reclaimed_machines,
    get_running_containers,
    is_awaiting_machines,
    is_lacking_containers,
    list_live_machines,
    list_running_machines,
)
from distributed_something.observe.containers import PausedMachine, choose_protection_remedy
from distributed_something.observe.evidence import Evidence

DENIED_PROTECTION_WEIGHT = 88  # no container of the run can work
REFUSED_PROTECTION_WEIGHT = 79  # which ends by itself
_DISCONNECTED_REMEDY = Remedy(
    "make sure that the machines can reach AWS (HTTPS)", "; then terminate them, and the fleet will start others"
)
_FAILURES_REMEDY = Remedy(
    "correct what makes these jobs fail", "; if others do jobs, the fleet replaces the idle machines by itself"
)
_DISK_REMEDY = Remedy("raise EBS_VOL_SIZE in the config", ", for the machines of the next startCluster")


def diagnose_failed_launches(evidence: Evidence) -> Iterator[Cause]:
    """Find machines that failed because of the fleet request.

    Machines that AWS took back or a user terminated do not count.
    """
    ended = [machine for machine in evidence.machines if machine.state in ("terminated", "shutting-down")]
    failed = [machine for machine in ended if is_faulty_end(machine.end_code)]
    if failed and not list_running_machines(evidence):
        yield Cause(
            89,
            "machines terminate as soon as they start",
            f"{_format_few_names([machine.id for machine in failed])}: {failed[0].end_reason}",
            "correct the disk in the Fleet file: its encryption key if the error is Client.InternalError, its snapshot "
            "or size if the error is InvalidSnapshot or VolumeLimitExceeded",
        )


def diagnose_spot_interruptions(evidence: Evidence) -> Iterator[Cause]:
    """Find spot machines that AWS took back and whose replacements do not run yet."""
    interrupted = [machine for machine in evidence.machines if is_spot_interruption(machine.end_code)]
    count, has_machines = count_reclaimed_machines(evidence), evidence.fleet is not None and evidence.fleet.machines
    if count and has_machines and is_lacking_containers(evidence) and is_awaiting_machines(evidence):
        title = "a machine was reclaimed; its replacement is starting"
        replacement = "the fleet replaces it within minutes, and its jobs are run again"
        if count > 1:
            title = f"{count} machines were reclaimed; their replacements are starting"
            replacement = "the fleet replaces them within minutes, and their jobs are run again"
        yield Cause(
            72,
            title,
            interrupted[0].end_reason if interrupted else "ECS reports a spot interruption",
            template=_build_interruption_remedy(replacement),
        )
    elif interrupted and not list_running_machines(evidence):
        yield Cause(
            72,
            "AWS has taken back the spot machines",
            f"{format_count(len(interrupted), 'machine')}: {interrupted[0].end_reason}",
            template=_build_interruption_remedy("the fleet requests others"),
        )


def diagnose_unregistered_machines(evidence: Evidence, joining_seconds: float = JOINING_SECONDS) -> Iterator[Cause]:
    """Find machines that have been running longer than `joining_seconds` but are not in the cluster."""
    if not all(evidence.has_observed(part) for part in ("cluster_machines", "registered_count", "machines")):
        return
    cluster_ids = {machine.id for machine in evidence.cluster_machines}
    overdue = [
        machine
        for machine in list_running_machines(evidence)
        if machine.id not in cluster_ids and evidence.at - machine.launch_time > joining_seconds
    ]
    # The evidence lists at most 100 of the cluster's machines, so some overdue machines may be among the unlisted ones.
    unlisted_count = max(0, (evidence.registered_count or 0) - len(evidence.cluster_machines))
    missing_count = len(overdue) - unlisted_count
    if missing_count <= 0:
        return
    youngest = min(evidence.at - machine.launch_time for machine in overdue)
    share = 1.0 if not evidence.registered_count else 0.6
    private_count = sum(not machine.has_public_address for machine in overdue)
    hint = f"; {private_count} without a public address" if private_count else ""
    yield Cause(
        round(88 * share),
        "machines are running but have not joined the cluster",
        f"{format_count(missing_count, 'machine')} ({_format_few_names([machine.id for machine in overdue])}), up for "
        f"at least {format_duration(youngest)}, not in the cluster {evidence.subject.cluster}{hint}",
        _format_joining_remedy(private_count, assigns_addresses=evidence.subject.assigns_addresses),
    )


def diagnose_starting_machines(evidence: Evidence) -> Iterator[Cause]:
    live = list_live_machines(evidence)
    new_machines = [machine for machine in live if evidence.at - machine.launch_time <= JOINING_SECONDS]
    if new_machines and len(new_machines) == len(live) and get_running_containers(evidence) == 0:
        minutes = max(evidence.at - machine.launch_time for machine in new_machines) / 60
        yield Cause(
            65,
            "the machines are still starting",
            f"{format_count(len(new_machines), 'machine')}; the first was launched {minutes:.0f} min ago",
            "wait: a machine takes its first jobs about 3 minutes after its launch, or later if the image is large",
        )


def diagnose_disconnected_agents(evidence: Evidence) -> Iterator[Cause]:
    disconnected = [machine.id for machine in evidence.cluster_machines if not machine.is_connected]
    if disconnected and len(disconnected) * 2 >= len(evidence.cluster_machines):
        yield Cause(
            79,
            "the ECS agent on the machines has lost its connection",
            _format_few_names(disconnected),
            template=_DISCONNECTED_REMEDY,
        )


def diagnose_paused_machines(evidence: Evidence) -> Iterator[Cause]:
    """Find machines whose workers have paused themselves.

    Terminated machines are skipped, because the files about their pauses stay in the bucket.
    """
    live_ids = {machine.id for machine in list_live_machines(evidence)} if evidence.has_observed("machines") else None
    current = [
        paused
        for paused in evidence.paused_machines
        if live_ids is None or not paused.machine.startswith("i-") or paused.machine in live_ids
    ]
    by_disk = [paused for paused in current if paused.since is None and paused.protection is None]
    by_failures = [paused for paused in current if paused.since is not None]
    yield from _diagnose_refused_protection(evidence, current)
    if by_failures:
        yield Cause(
            85,
            "machines have paused because several jobs failed in a row",
            f"{_format_few_names([paused.machine for paused in by_failures])}: {by_failures[0].reason}",
            template=_FAILURES_REMEDY,
        )
    if by_disk:
        yield Cause(
            86,
            "machines have paused because their disk is full",
            f"{_format_few_names([paused.machine for paused in by_disk])}: {by_disk[0].reason}",
            template=_DISK_REMEDY,
        )


def _diagnose_refused_protection(evidence: Evidence, paused_machines: list[PausedMachine]) -> Iterator[Cause]:
    """Find containers that take no jobs, because ECS might stop them at any time. One cause for each of ECS's codes."""
    by_code: dict[str, list[PausedMachine]] = {}
    for paused in paused_machines:
        if paused.protection is not None:
            by_code.setdefault(paused.protection, []).append(paused)
    for group in by_code.values():
        yield Cause(
            DENIED_PROTECTION_WEIGHT if group[0].is_denied else REFUSED_PROTECTION_WEIGHT,
            "containers take no jobs, because ECS refuses to protect them from scale-in",
            f"{_format_few_names([paused.machine for paused in group])}: {group[0].reason}",
            template=choose_protection_remedy(group[0], evidence.service),
        )


def _build_interruption_remedy(replacement: str) -> Remedy:
    note = "this happens less often with more machine types and subnets"
    return Remedy("", f"wait: {replacement}; {note}", REPETITION)


def _format_joining_remedy(private_count: int, *, assigns_addresses: bool) -> str:
    if not private_count:
        return JOINING_REMEDY
    # With ASSIGN_IP, machines have no public address only if the Fleet file says so, and the config says nothing.
    from_fleet_file = 'remove "AssociatePublicIpAddress": false from the Fleet file'
    address_remedy = from_fleet_file if assigns_addresses else "set ASSIGN_IP to 'True'"
    return f"use a subnet with a NAT gateway, or {address_remedy}; {JOINING_REMEDY}"


def _format_few_names(names: list[str]) -> str:
    return format_names(names, MAX_NAMES_PER_CAUSE)
