"""Causes in the cluster and its containers: containers are not placed, they stop, or they take no jobs."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.aws_errors import (
    SERVICE_FAILURE_PATTERNS,
    TASK_FAILURE_PATTERNS,
    find_failure_pattern,
    is_harmless_stop,
)
from distributed_something.core.failures.remedies import (
    CRASH_REMEDY,
    CRASH_REMEDY_WITHOUT_IMAGE,
    REPETITION,
    Remedy,
)
from distributed_something.core.text import format_count
from distributed_something.diagnose.why.cause import (
    Cause,
    build_start_cause,
    count_reclaimed_machines,
    format_reports,
    get_joined_machines,
    get_running_containers,
    group_by_pattern,
    is_awaiting_machines,
    list_recent_reports,
)
from distributed_something.observe.containers import select_failed_tasks
from distributed_something.observe.evidence import Evidence

CONSEQUENCE_WEIGHT = 45  # maximum for ECS events if no machine has joined: the missing machines cause them
FAILED_RUN_WEIGHT = 96  # of why no container works if the fleet has ended, which is then only a consequence
MIN_CRASHES = 2  # one may have been an accident
CRASH_WEIGHT = 84
_PULL_REMEDY = Remedy(
    "",
    "wait: a large image takes several minutes on each new machine",
    f"make the image smaller, or copy it to ECR in the machines' region; then {REPETITION}",
)
SILENT_WORKER_SECONDS = 900.0  # a running worker logs at least its resource usage within this time


def diagnose_missing_cluster(evidence: Evidence) -> Iterator[Cause]:
    if evidence.has_observed("registered_count") and evidence.registered_count is None:
        proof = f"ECS has no active cluster {evidence.subject.cluster}"
        yield build_start_cause(93, "there is no cluster", proof, evidence)


def diagnose_missing_service(evidence: Evidence) -> Iterator[Cause]:
    service, fleet, name = evidence.service, evidence.fleet, evidence.subject.service
    is_lowered = fleet is not None and fleet.is_active and fleet.target == 0  # the monitor set both counts to 0
    if evidence.has_observed("service") and service is None:
        proof = f"ECS has no active service {name} in {evidence.subject.cluster}"
        yield build_start_cause(92, "there is no service", proof, evidence)
    elif service is not None and service.desired == 0 and not is_lowered:
        proof = f"{name} has a desired count of 0"
        yield build_start_cause(90, "the service is set to run no containers", proof, evidence)


def diagnose_service_events(evidence: Evidence) -> Iterator[Cause]:
    """Explain ECS's events about container placement if the service still lacks containers.

    While a machine is being replaced or is still starting, the others have no room for its containers. This says
    nothing about MEMORY, unless no container has ever fit.
    """
    service = evidence.service
    if service is None or service.running >= service.desired:
        return
    share = 0.5 if service.running else 1.0
    has_fit = service.running > 0 or count_reclaimed_machines(evidence) > 0
    is_waiting = has_fit and is_awaiting_machines(evidence)
    for pattern, events in group_by_pattern(
        SERVICE_FAILURE_PATTERNS, list_recent_reports(evidence, evidence.service_events)
    ):
        if pattern is not None and not (pattern.is_placement and is_waiting):
            has_joined = get_joined_machines(evidence) != 0
            weight = pattern.weight if has_joined else min(pattern.weight, CONSEQUENCE_WEIGHT)
            yield Cause(round(weight * share), pattern.cause, format_reports(events), template=pattern.remedy)


def diagnose_stopped_tasks(evidence: Evidence) -> Iterator[Cause]:
    """Explain why containers stopped, unless the service now runs as many as it should.

    If the fleet has ended and most containers had failed, the failure is why it ended: starting a new fleet is then
    useless until the failure is corrected.
    """
    service, log_tail, fleet = evidence.service, evidence.log_tail, evidence.fleet
    if service is not None and 0 < service.desired <= service.running:
        yield from _diagnose_crashes(evidence)
        return
    recent_tasks = list_recent_reports(evidence, evidence.stopped_tasks)
    failed_tasks = [task for task in recent_tasks if not is_harmless_stop(task.kind, task.message)]
    share = 1.0 if get_running_containers(evidence) == 0 else 0.5
    has_ended = evidence.subject.fleet is not None and evidence.has_observed("fleet")
    has_ended = has_ended and not (fleet is not None and fleet.is_active)
    has_ended_run = has_ended and len(failed_tasks) > len(recent_tasks) / 2
    log = evidence.crash_lines or (log_tail.lines if log_tail else ())
    for pattern, tasks in group_by_pattern(TASK_FAILURE_PATTERNS, failed_tasks):
        if pattern is None:
            continue
        proof, weight = format_reports(tasks), round(pattern.weight * share)
        if pattern.exit_codes and log:
            proof += f"; its log ends: {log[-1]}"
            # ECS reports only an exit code for a program of the wrong processor type; its log has the words.
            pattern = find_failure_pattern(TASK_FAILURE_PATTERNS, "", log[-1]) or pattern
        if has_ended_run:
            weight = FAILED_RUN_WEIGHT
        yield Cause(
            weight, pattern.cause, proof, template=pattern.remedy,
            template_without_image=pattern.remedy_without_image, needs_new_run=has_ended_run,
        )  # fmt: skip


def _diagnose_crashes(evidence: Evidence) -> Iterator[Cause]:
    """Find workers that die again and again, although ECS replaces each of them within seconds."""
    recent_tasks = list_recent_reports(evidence, evidence.stopped_tasks)
    died = [task for task in select_failed_tasks(recent_tasks, 0.0) if any(task.exit_codes)]
    if len(died) < MIN_CRASHES:
        return
    end = f"; its log ends: {evidence.crash_lines[-1]}" if evidence.crash_lines else ""
    yield Cause(
        CRASH_WEIGHT, "workers die while they run jobs", f"{format_reports(died)}{end}", template=CRASH_REMEDY,
        template_without_image=CRASH_REMEDY_WITHOUT_IMAGE,
    )  # fmt: skip


def diagnose_image_pull(evidence: Evidence) -> Iterator[Cause]:
    if evidence.service and evidence.service.pending and not evidence.service.running:
        yield Cause(
            62,
            "containers are starting",
            f"{format_count(evidence.service.pending, 'container')} pending: the machines are pulling the image",
            template=_PULL_REMEDY,
        )


def diagnose_silent_workers(evidence: Evidence) -> Iterator[Cause]:
    """Find workers that log nothing, or log but take no jobs, while jobs are waiting."""
    service, counts, log_tail = evidence.service, evidence.counts, evidence.log_tail
    if not (service and service.running and counts and counts.waiting and not counts.running):
        return
    is_explained = any(paused.protection is not None for paused in evidence.paused_machines)
    if is_explained or not evidence.has_observed("log_tail"):
        return
    silence = evidence.at - log_tail.at if log_tail else None
    if silence is None or silence > SILENT_WORKER_SECONDS:
        last_line = "none" if silence is None else f"{silence / 60:.0f} min ago"
        yield Cause(
            77,
            "workers are running but take no jobs",
            f"{format_count(service.running, 'container')}; last log line: {last_line}",
            "run setupAWS (the workers' role needs sqs:ReceiveMessage and logs:PutLogEvents); check that the image was "
            "built with this package's worker",
        )
    elif log_tail and log_tail.lines:
        yield Cause(
            60,
            "workers are running but take no jobs",
            f"last log line: {log_tail.lines[-1]}",
            "read the workers' log, which shows any errors from AWS",
        )
