"""Causes in the fleet: it is missing or has ended, or EC2 does not start its machines."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import FLEET_FAILURE_PATTERNS
from distributed_something.diagnose.why.cause import (
    Cause,
    format_reports,
    group_by_pattern,
    list_recent_reports,
    list_running_machines,
)
from distributed_something.observe.evidence import Evidence


def diagnose_missing_fleet(evidence: Evidence) -> Iterator[Cause]:
    if evidence.subject.fleet is None and evidence.has_observed("fleet"):
        yield Cause(
            94, "no machines were asked for", "no monitor file and no active fleet of this app", "run startCluster"
        )
    elif evidence.has_observed("fleet") and evidence.fleet is None:
        yield Cause(94, "the fleet is gone", f"EC2 does not know {evidence.subject.fleet}", "run startCluster")
    elif evidence.fleet is not None and not evidence.fleet.active:
        yield Cause(
            94,
            "the fleet has ended",
            f"{evidence.subject.fleet} is {evidence.fleet.state}",
            "run startCluster, which requests another and goes on with the queue",
        )
    elif evidence.fleet is not None and evidence.fleet.target == 0:
        remedy = "run monitor, which raises it while jobs wait"
        yield Cause(91, "the fleet is to have no machine", f"the target of {evidence.subject.fleet} is 0", remedy)


def diagnose_fleet_errors(evidence: Evidence) -> Iterator[Cause]:
    """One cause for each kind of trouble. Once all machines are there, it is of the past."""
    fleet = evidence.fleet
    gone = fleet is None and evidence.has_observed("fleet")
    if gone or (fleet is not None and (not fleet.active or len(fleet.machines) >= fleet.target)):
        return
    some_run = bool(fleet and fleet.machines)
    events, share = (list_recent_reports(evidence, evidence.events), 0.6) if some_run else (evidence.events, 1.0)
    for pattern, group in group_by_pattern(FLEET_FAILURE_PATTERNS, events):
        if pattern is not None:
            yield Cause(round(pattern.weight * share), pattern.cause, format_reports(group), pattern.remedy)
        else:
            words = "look EC2's words up in its documentation; check with the Fleet file may find more"
            yield Cause(round(70 * share), "EC2 refuses to start machines", format_reports(group), words)


def diagnose_small_quota(evidence: Evidence) -> Iterator[Cause]:
    quota = evidence.quota
    if quota and quota.value < quota.least and not list_running_machines(evidence):
        yield Cause(
            97,
            "the account may not have one such spot machine",
            f"«{quota.name}»: {quota.value:,.0f} virtual CPUs, the smallest machine has {quota.least}",
            f"ask for more at Service Quotas, Amazon EC2 ({quota.code}); or take smaller machines",
        )


def diagnose_slow_launch(evidence: Evidence) -> Iterator[Cause]:
    """No machine and no reason given: EC2 has not come to it yet, or tells nothing."""
    fleet, is_quiet = evidence.fleet, not any(True for _ in diagnose_fleet_errors(evidence))
    is_empty = fleet is not None and fleet.active and fleet.target > 0 and not fleet.machines
    if is_quiet and is_empty and evidence.subject.start is not None:
        minutes = (evidence.at - evidence.subject.start) / 60
        yield Cause(
            50,
            "EC2 has not started a machine yet",
            f"requested {minutes:.0f} min ago, no error told",
            "wait some minutes; else run check with the Fleet file: quota, price, types",
        )
