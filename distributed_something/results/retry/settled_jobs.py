"""Failed jobs of a run about which nothing is left to do, because of what happened after the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.outcome import RunOutcome, load_failures
from distributed_something.results.retry.retry_jobs import QueueView, RetryReader, RetryState

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

MAX_LOOKUPS = 3_000  # of a failed job in a later run; each takes a request


@dataclass(frozen=True)
class SettledJobs:
    """The IDs of failed jobs that succeeded in later runs, and of those that `submitJob --replace` replaced.

    `at`: when this was observed, in seconds since 1970. `has_later_run`: whether the app started another run since.
    `removed`: how many of the jobs that the run left in the queue `submitJob --replace` removed, at least.
    """

    at: float = 0.0
    succeeded: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    has_later_run: bool = False
    removed: int = 0

    @property
    def jobs(self) -> frozenset[str]:
        return self.succeeded | self.replaced


NOTHING_SETTLED = SettledJobs()


def find_settled_jobs(
    s3: S3Client, file: MonitorFile, failures: Sequence[FailedJob], now: float, left: int = 0, ended: float = math.inf
) -> SettledJobs:
    """Return what became of the run's failed jobs since. AWS errors are not caught.

    If they are too many for MAX_LOOKUPS, only the first ones are looked up in later runs. `left`: how many jobs were in
    the queue when the run ended, at `ended` (seconds since 1970).
    """
    reader = RetryReader(s3, file, QueueView(None, now, 0.0))
    reader.load_links()
    all_failed = frozenset(failed.job for failed in failures)
    runs = max(1, len(reader.later_runs))
    unknown = [failed for failed in failures if not reader.is_replaced(failed)]
    states = reader.find_states(unknown[: MAX_LOOKUPS // runs], all_failed) if reader.has_links else {}
    replaced = all_failed - {failed.job for failed in unknown}
    return SettledJobs(
        now,
        frozenset(job for job, state in states.items() if state is RetryState.SUCCEEDED),
        replaced | {job for job, state in states.items() if state is RetryState.REPLACED},
        bool(reader.later_runs),
        reader.count_removed_jobs(left, ended),
    )


def drop_settled_jobs(outcome: RunOutcome, settled: SettledJobs) -> RunOutcome:
    """Return the outcome without the failed jobs that are settled."""
    failures = [failed for failed in outcome.failures if failed.job not in settled.jobs]
    dropped = len(outcome.failures) - len(failures)
    if not dropped:
        return outcome
    counts = replace(outcome.counts, failed=outcome.counts.failed - dropped, replaced=outcome.counts.replaced + dropped)
    known = {group.id: group.example for group in outcome.groups}  # with their logs
    groups = (replace(group, example=known.get(group.id, group.example)) for group in group_failures(failures))
    return replace(outcome, counts=counts, failures=failures, groups=tuple(groups))


def drop_left_jobs(outcome: RunOutcome) -> RunOutcome:
    """Return the outcome without the jobs that the run left in the queue, which are not there any more."""
    submitted = None if outcome.submitted is None else outcome.submitted - outcome.left
    return replace(outcome, submitted=submitted, left=0, failing=[], failing_groups=())


def count_open_failures(s3: S3Client, file: MonitorFile, now: float) -> int:
    """Return how many failed jobs of the run `retry` would still send. AWS errors are not caught."""
    outcome = load_failures(s3, file)
    if outcome is None:
        return 0
    return drop_settled_jobs(outcome, find_settled_jobs(s3, file, outcome.failures, now)).counts.failed
