"""Causes in the machines: they end, are just starting, do not join the cluster, or take no jobs."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import is_faulty_end, is_spot_interruption
from distributed_something.core.text import format_count, format_names
from distributed_something.diagnose.why.cause import (
    MAX_NAMES_PER_CAUSE,
    Cause,
    list_live_machines,
    list_running_machines,
)
from distributed_something.observe.evidence import Evidence

JOINING_SECONDS = 600.0  # an ECS machine joins its cluster one to three minutes after its launch


def diagnose_failed_launches(evidence: Evidence) -> Iterator[Cause]:
    """Machines that ended for a fault of the request, not because spot or a person took them."""
    ended = [machine for machine in evidence.machines if machine.state in ("terminated", "shutting-down")]
    faulty = [machine for machine in ended if is_faulty_end(machine.end_code)]
    if faulty and not list_running_machines(evidence):
        yield Cause(
            89,
            "machines end as soon as they start",
            f"{_format_few_names([machine.id for machine in faulty])}: {faulty[0].why_ended}",
            "Client.InternalError: the disk's encryption key; InvalidSnapshot, VolumeLimitExceeded: the disk; "
            "correct it in the Fleet file",
        )


def diagnose_spot_interruptions(evidence: Evidence) -> Iterator[Cause]:
    taken = [machine for machine in evidence.machines if is_spot_interruption(machine.end_code)]
    if taken and not list_running_machines(evidence):
        yield Cause(
            72,
            "AWS has taken the spot machines back",
            f"{len(taken)} of them: {taken[0].why_ended}",
            "wait, the fleet asks for others; more types and subnets make this rarer",
        )


def diagnose_unregistered_machines(evidence: Evidence) -> Iterator[Cause]:
    """Machines that run for longer than joining takes, and that the cluster does not know."""
    if not all(evidence.has_observed(part) for part in ("joined", "registered", "machines")):
        return
    known = {machine.id for machine in evidence.joined}
    strangers = [machine for machine in list_running_machines(evidence) if machine.id not in known]
    old = [machine for machine in strangers if evidence.at - machine.launched > JOINING_SECONDS]
    unlisted = max(0, (evidence.registered or 0) - len(evidence.joined))  # joined, but not among the hundred looked at
    missing = len(old) - unlisted
    if missing <= 0:
        return
    share = 1.0 if not evidence.registered else 0.6
    private = sum(not machine.public for machine in old)
    hint = f"; {private} without a public address" if private else ""
    yield Cause(
        round(88 * share),
        "machines run, but do not join the cluster",
        f"{format_count(missing, 'machine')}, {_format_few_names([machine.id for machine in old])}, up for more than "
        f"{JOINING_SECONDS / 60:.0f} min, are not in the cluster {evidence.subject.cluster}{hint}",
        _format_joining_remedy(private),
    )


def diagnose_starting_machines(evidence: Evidence) -> Iterator[Cause]:
    live, service = list_live_machines(evidence), evidence.service
    young = [machine for machine in live if evidence.at - machine.launched <= JOINING_SECONDS]
    if young and len(young) == len(live) and not (service and service.running):
        minutes = max(evidence.at - machine.launched for machine in young) / 60
        yield Cause(
            65,
            "the machines are just starting",
            f"{format_count(len(young), 'machine')}, the first {minutes:.0f} min old",
            "wait: a machine takes jobs some 3 minutes after its launch, later with a large image",
        )


def diagnose_disconnected_agents(evidence: Evidence) -> Iterator[Cause]:
    lost = [machine.id for machine in evidence.joined if not machine.connected]
    if lost and len(lost) * 2 >= len(evidence.joined):
        yield Cause(
            79,
            "the ECS agent on the machines has lost its connection",
            _format_few_names(lost),
            "the machines need a way out to AWS (HTTPS); end them, and the fleet starts others",
        )


def diagnose_paused_machines(evidence: Evidence) -> Iterator[Cause]:
    """Machines that take no jobs by their own decision; the documents of those that have ended stay in the bucket."""
    here = {machine.id for machine in list_live_machines(evidence)} if evidence.has_observed("machines") else None
    now = [
        paused
        for paused in evidence.paused
        if here is None or not paused.machine.startswith("i-") or paused.machine in here
    ]
    if now:
        yield Cause(
            85,
            "machines have paused, because their jobs fail one after the other or the disk is full",
            f"{_format_few_names([paused.machine for paused in now])}: {now[0].reason}",
            "look at the failed jobs' logs under runs/ in the bucket; a full disk needs a larger EBS_VOL_SIZE",
        )


def _format_joining_remedy(private: int) -> str:
    way = "set ASSIGN_IP to 'True' or use a subnet with a NAT gateway; " if private else ""
    return (
        f"{way}their instance profile needs the ECS rights (setupAWS), their image must be an ECS-optimised one "
        "(fleetFile), and their subnet needs a way to the internet: check with the Fleet file looks at all three"
    )


def _format_few_names(names: list[str]) -> str:
    return format_names(names, MAX_NAMES_PER_CAUSE)
