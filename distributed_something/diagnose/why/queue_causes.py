"""Causes in the queue: it is missing or empty, the run has cost what it may, or its jobs are held by nobody."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.diagnose.why.cause import Cause
from distributed_something.observe.evidence import Evidence


def diagnose_missing_queue(evidence: Evidence) -> Iterator[Cause]:
    if evidence.has_observed("counts") and evidence.counts is None:
        yield Cause(
            99, "there is no queue", f"no queue {evidence.subject.queue}", "run setup, then submitJob and startCluster"
        )


def diagnose_empty_queue(evidence: Evidence) -> Iterator[Cause]:
    if evidence.counts is None or evidence.counts.jobs:
        return
    if evidence.dead:
        yield Cause(
            96,
            "every job left has failed",
            f"{evidence.dead:,} jobs in the dead-letter queue, none waiting",
            "look at their records under runs/ in the bucket; correct the cause, then submit them again",
        )
    else:
        seen = f"the queue {evidence.subject.queue} is empty"
        yield Cause(95, "no job waits", seen, "run submitJob; or the run is done")


def diagnose_cost_limit(evidence: Evidence) -> Iterator[Cause]:
    if evidence.closed:
        yield Cause(
            95,
            "the run has cost what it may (MAX_COST)",
            "its monitor has told the workers to begin no job any more",
            "let monitor end it and keep the queue; then startCluster goes on, in a run that may cost as much again",
        )


def diagnose_orphaned_leases(evidence: Evidence) -> Iterator[Cause]:
    """Every job is with a worker, but no container runs: their machines are gone."""
    counts, service = evidence.counts, evidence.service
    if counts and not counts.waiting and counts.running and not (service and service.running):
        yield Cause(
            68,
            "all jobs are still held for workers that are gone",
            f"{counts.running:,} held, none waiting",
            "wait: they come back when SQS_MESSAGE_VISIBILITY is over",
        )
