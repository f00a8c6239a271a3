"""Causes in the queue: it is missing or empty, the run is at its cost limit, or dead workers still lease its jobs."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.text import format_count
from distributed_something.diagnose.why.cause import (
    Cause,
    build_start_cause,
    get_running_containers,
    has_active_fleet,
    list_start_steps,
)
from distributed_something.observe.evidence import Evidence
from distributed_something.results.command_line import RUN_COMMANDS


def diagnose_missing_queue(evidence: Evidence) -> Iterator[Cause]:
    if evidence.has_observed("counts") and evidence.counts is None:
        yield build_start_cause(99, "there is no queue", f"SQS has no queue {evidence.subject.queue}", evidence)


def diagnose_empty_queue(evidence: Evidence) -> Iterator[Cause]:
    if evidence.counts is None or evidence.counts.jobs:
        return
    proof = f"the queue {evidence.subject.queue} is empty"
    is_active = has_active_fleet(evidence)
    if is_active is False:
        yield build_start_cause(95, "there are no jobs", proof, evidence)
    elif is_active:
        remedy = (
            "if all jobs have ended, monitor ends the run and lists those that failed; otherwise, run submitJob first:"
        )
        yield Cause(95, "there are no jobs", proof, remedy, steps=("monitor",))
    else:
        remedy = "if the fleet is still active, monitor ends the run; otherwise, type, in this order:"
        yield Cause(95, "there are no jobs", proof, remedy, steps=list_start_steps(evidence))


def diagnose_cost_limit(evidence: Evidence) -> Iterator[Cause]:
    if evidence.is_closed:
        yield Cause(
            95,
            "the run has reached its cost limit (MAX_COST)",
            "the monitor has told the workers to start no more jobs",
            "let monitor end the run and keep the queue; then startCluster continues with the queue in a new run with "
            "its own limit:",
            steps=RUN_COMMANDS[2:] if has_active_fleet(evidence) is False else RUN_COMMANDS[3:] + RUN_COMMANDS[2:],
        )


def diagnose_orphaned_leases(evidence: Evidence) -> Iterator[Cause]:
    """Find jobs that are still leased although no container is running, because their machines were terminated."""
    counts = evidence.counts
    if counts and not counts.waiting and counts.running and get_running_containers(evidence) == 0:
        yield Cause(
            68,
            "all jobs are leased by workers that no longer run",
            f"{format_count(counts.running, 'leased job')}, none waiting, no container running",
            "wait: the jobs return to the queue when their leases expire (SQS_MESSAGE_VISIBILITY)",
        )
