"""Causes in the fleet: it does not exist, it has ended, or EC2 does not start its machines."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import FLEET_FAILURE_PATTERNS
from distributed_something.core.failures.remedies import REPETITION, Remedy
from distributed_something.diagnose.why.cause import (
    Cause,
    build_start_cause,
    format_reports,
    group_by_pattern,
    has_running_machines,
    is_lacking_containers,
    list_recent_reports,
)
from distributed_something.observe.evidence import Evidence

_SLOW_LAUNCH_CHECK = "run check with the Fleet file (quota, price, machine types)"
_SLOW_LAUNCH_REMEDY = Remedy(
    "", f"wait a few minutes; if nothing changes, {_SLOW_LAUNCH_CHECK}", f"{_SLOW_LAUNCH_CHECK}; then {REPETITION}"
)


def diagnose_missing_fleet(evidence: Evidence) -> Iterator[Cause]:
    fleet, fleet_id = evidence.fleet, evidence.subject.fleet
    if fleet_id is None and evidence.has_observed("fleet"):
        proof = "this app has no active fleet"
        yield build_start_cause(94, "no machines were requested", proof, evidence)
    elif evidence.has_observed("fleet") and fleet is None:
        yield build_start_cause(94, "the fleet does not exist", f"EC2 has no fleet {fleet_id}", evidence)
    elif fleet is not None and not fleet.is_active:
        yield build_start_cause(94, "the fleet has ended", f"{fleet_id} is {fleet.state}", evidence)
    elif fleet is not None and fleet.target == 0:
        remedy = "monitor raises the target while jobs are waiting:"
        proof = f"the target of {fleet_id} is 0"
        yield Cause(91, "the fleet is set to run no machines", proof, remedy, steps=("monitor",))


def diagnose_fleet_errors(evidence: Evidence) -> Iterator[Cause]:
    """Yield one cause for each kind of fleet error; none if the fleet now has all its machines.

    If the fleet is unknown, containers that are missing show that it may lack machines.
    """
    fleet = evidence.fleet
    is_lacking = fleet is not None and fleet.has_missing_machines
    if not (is_lacking if evidence.has_observed("fleet") else is_lacking_containers(evidence)):
        return
    events, share = evidence.fleet_events, 1.0
    if fleet is None or fleet.machines:
        events, share = tuple(list_recent_reports(evidence, events)), 0.6
    for pattern, pattern_events in group_by_pattern(FLEET_FAILURE_PATTERNS, events):
        if pattern is not None:
            proof, weight = format_reports(pattern_events), round(pattern.weight * share)
            yield Cause(weight, pattern.cause, proof, template=pattern.remedy)
        else:
            remedy = "look up EC2's message in its documentation, and run check with the Fleet file"
            yield Cause(round(70 * share), "EC2 does not start machines", format_reports(pattern_events), remedy)


def diagnose_small_quota(evidence: Evidence) -> Iterator[Cause]:
    quota = evidence.quota
    if quota and quota.value < quota.smallest_vcpus and not has_running_machines(evidence):
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
        report = "; EC2 reports no error" if evidence.has_observed("fleet_events") else ""
        yield Cause(
            50,
            "EC2 has not started a machine yet",
            f"requested {minutes:.0f} min ago{report}",
            template=_SLOW_LAUNCH_REMEDY,
        )
