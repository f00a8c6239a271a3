"""Causes in the cluster and its containers: these are not placed, end, or take no jobs."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import SERVICE_FAILURE_PATTERNS, TASK_FAILURE_PATTERNS, is_harmless_stop
from distributed_something.core.text import format_count
from distributed_something.diagnose.why.cause import Cause, format_reports, group_by_pattern, list_recent_reports
from distributed_something.observe.evidence import Evidence

CONSEQUENCE_WEIGHT = 45  # at most, of what ECS says while no machine has joined
SILENT_WORKER_SECONDS = 900.0  # a worker that runs reports at least its usage within this


def diagnose_missing_cluster(evidence: Evidence) -> Iterator[Cause]:
    if evidence.has_observed("registered") and evidence.registered is None:
        seen = f"no active cluster {evidence.subject.cluster}"
        yield Cause(93, "there is no cluster", seen, "run setup, then startCluster")


def diagnose_missing_service(evidence: Evidence) -> Iterator[Cause]:
    service, fleet = evidence.service, evidence.fleet
    is_lowered = fleet is not None and fleet.active and fleet.target == 0  # with the service, by the monitor
    if evidence.has_observed("service") and service is None:
        yield Cause(
            92,
            "there is no service",
            f"no active service {evidence.subject.service} in {evidence.subject.cluster}",
            "run setup, then startCluster",
        )
    elif service is not None and service.desired == 0 and not is_lowered:
        yield Cause(
            90,
            "the service is to run no container",
            f"{evidence.subject.service} has a desired count of 0",
            "run startCluster",
        )


def diagnose_service_events(evidence: Evidence) -> Iterator[Cause]:
    """What ECS says about placing containers, if it still lacks some."""
    service = evidence.service
    if service is None or service.running >= service.desired:
        return
    share = 0.5 if service.running else 1.0
    for pattern, events in group_by_pattern(SERVICE_FAILURE_PATTERNS, list_recent_reports(evidence, evidence.told)):
        if pattern is not None:
            weight = pattern.weight if evidence.registered else min(pattern.weight, CONSEQUENCE_WEIGHT)
            yield Cause(round(weight * share), pattern.cause, format_reports(events), pattern.remedy)


def diagnose_stopped_tasks(evidence: Evidence) -> Iterator[Cause]:
    """Why containers ended, if that keeps the service from its number."""
    service, logged = evidence.service, evidence.logged
    if service is not None and 0 < service.desired <= service.running:
        return
    recent = list_recent_reports(evidence, evidence.stopped)
    own = [task for task in recent if not is_harmless_stop(task.kind, task.said)]
    share = 0.5 if service and service.running else 1.0
    last_line = f"; its log ends: {logged.lines[-1]}" if logged and logged.lines else ""
    for pattern, tasks in group_by_pattern(TASK_FAILURE_PATTERNS, own):
        if pattern is not None:
            seen = format_reports(tasks) + (last_line if pattern.exit_codes else "")
            yield Cause(round(pattern.weight * share), pattern.cause, seen, pattern.remedy)


def diagnose_image_pull(evidence: Evidence) -> Iterator[Cause]:
    if evidence.service and evidence.service.pending and not evidence.service.running:
        yield Cause(
            62,
            "containers are starting",
            f"{evidence.service.pending} pending: the image is being pulled",
            "wait; a large image takes minutes on each new machine",
        )


def diagnose_silent_workers(evidence: Evidence) -> Iterator[Cause]:
    """Containers run, jobs wait, nobody takes one and nobody writes a line."""
    service, counts, logged = evidence.service, evidence.counts, evidence.logged
    if not (service and service.running and counts and counts.waiting and not counts.running):
        return
    if not evidence.has_observed("logged"):
        return
    quiet = evidence.at - logged.at if logged else None
    if quiet is None or quiet > SILENT_WORKER_SECONDS:
        said = "none" if quiet is None else f"{quiet / 60:.0f} min ago"
        yield Cause(
            77,
            "workers run, but take no jobs",
            f"{format_count(service.running, 'container')}; last line: {said}",
            "their role needs sqs:ReceiveMessage and logs:PutLogEvents (setupAWS); is the image this worker's?",
        )
    elif logged and logged.lines:
        yield Cause(
            60,
            "workers run, but take no jobs",
            f"the last line: {logged.lines[-1]}",
            "read their log; a worker that AWS refuses says so there",
        )
