"""Causes in the fleet: it does not exist, it has ended, or EC2 does not start its machines."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import FLEET_FAILURE_PATTERNS
from distributed_something.diagnose.why.cause import (
    Cause,
    choose_start_remedy,
    format_reports,
    group_by_pattern,
    list_recent_reports,
    list_running_machines,
)
from distributed_something.observe.evidence import Evidence


def diagnose_missing_fleet(evidence: Evidence) -> Iterator[Cause]:
    if evidence.subject.fleet is None and evidence.has_observed("fleet"):
        yield Cause(
            94,
            "no machines were requested",
            "no monitor file given, and this app has no active fleet",
            choose_start_remedy(evidence, "run startCluster"),
        )
    elif evidence.has_observed("fleet") and evidence.fleet is None:
        remedy = choose_start_remedy(evidence, "run startCluster")
        yield Cause(94, "the fleet does not exist", f"EC2 has no fleet {evidence.subject.fleet}", remedy)
    elif evidence.fleet is not None and not evidence.fleet.is_active:
        yield Cause(
            94,
            "the fleet has ended",
            f"{evidence.subject.fleet} is {evidence.fleet.state}",
            choose_start_remedy(
                evidence, "run startCluster, which requests a new fleet and continues with the jobs in the queue"
            ),
        )
    elif evidence.fleet is not None and evidence.fleet.target == 0:
        remedy = "run monitor, which raises the target while jobs are waiting"
        yield Cause(91, "the fleet is set to run no machines", f"the target of {evidence.subject.fleet} is 0", remedy)


def diagnose_fleet_errors(evidence: Evidence) -> Iterator[Cause]:
    """Yield one cause for each kind of fleet error; none if the fleet now has all its machines."""
    fleet = evidence.fleet
    is_missing = fleet is None and evidence.has_observed("fleet")
    if is_missing or (fleet is not None and (not fleet.is_active or len(fleet.machines) >= fleet.target)):
        return
    events, share = evidence.fleet_events, 1.0
    if fleet and fleet.machines:
        events, share = tuple(list_recent_reports(evidence, events)), 0.6
    for pattern, pattern_events in group_by_pattern(FLEET_FAILURE_PATTERNS, events):
        if pattern is not None:
            yield Cause(round(pattern.weight * share), pattern.cause, format_reports(pattern_events), pattern.remedy)
        else:
            remedy = "look up EC2's message in its documentation, and run check with the Fleet file"
            yield Cause(round(70 * share), "EC2 does not start machines", format_reports(pattern_events), remedy)


def diagnose_small_quota(evidence: Evidence) -> Iterator[Cause]:
    quota = evidence.quota
    if quota and quota.value < quota.smallest_vcpus and not list_running_machines(evidence):
        limit = f'the quota "{quota.name}" is {quota.value:,.0f} virtual CPUs'
        yield Cause(
            97,
            "the account's quota is too small for one spot machine",
            f"{limit}; the smallest machine type needs {quota.smallest_vcpus}",
            f"request more ({quota.code}) under Service Quotas, Amazon EC2, or use smaller machines",
        )


def diagnose_slow_launch(evidence: Evidence) -> Iterator[Cause]:
    """Find a fleet without machines for which EC2 reports no error."""
    fleet, has_errors = evidence.fleet, any(True for _ in diagnose_fleet_errors(evidence))
    is_empty = fleet is not None and fleet.is_active and fleet.target > 0 and not fleet.machines
    if not has_errors and is_empty and evidence.subject.start is not None:
        minutes = (evidence.at - evidence.subject.start) / 60
        yield Cause(
            50,
            "EC2 has not started a machine yet",
            f"requested {minutes:.0f} min ago; EC2 reports no error",
            "wait a few minutes; if nothing changes, run check with the Fleet file (quota, price, machine types)",
        )
