"""Decides how many jobs are in which state, so that the numbers that a person or a script sees always add up.

Their sources are of different ages. The journals count the jobs that have ended, and are up to a minute behind. The
queue's counts are approximate, and are up to a minute old. The submissions say how many jobs there are. The latter two
disagree with the first whenever jobs end, so only the jobs that have ended and all jobs are taken from their sources,
and the number of waiting jobs follows from them. The monitor's decisions are based on the sources, not on the numbers
that this module returns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from distributed_something.observe.documents.journals import RunTotals
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.status.document import JobNumbers


@dataclass(frozen=True)
class JobSources:
    """What is known about a run's jobs.

    `submitted`: messages that were sent; None if unknown. `totals` and `counts`: from the first lines of the journals
    and from all lines, which were read later. `running`, `waiting`: from the queue. `retried`: failed jobs that were
    sent again and whose new messages have not ended. `recently_ended`: how many jobs ended so recently that the queue
    may still count them. `replacing`: how many jobs will take the place of those that still wait; None if no
    submission is replacing jobs. `is_empty`: whether the queue is known to be empty. `is_settling`: whether jobs have
    just been sent or replaced, so that the queue's counts say nothing about how many there are.
    """

    submitted: int | None
    totals: RunTotals
    counts: JobCounts
    running: int
    waiting: int
    retried: int = 0
    recently_ended: int = 0
    replacing: int | None = None
    is_empty: bool = False
    is_settling: bool = False


def count_current_jobs(sources: JobSources) -> JobNumbers:
    """Return how many of a run's jobs are in which state. If their number is known, the states add up to it.

    A job that was sent again counts once, and its earlier failure does not count from then on. If the queue holds more
    jobs than can be explained by jobs that have just ended, something else than `submitJob` has sent some of them, and
    these count as submitted too. When the queue is empty, the jobs whose end no journal mentions yet count as running.
    """
    totals, counts = sources.totals, sources.counts
    done = counts.done + max(0, totals.done - counts.done - counts.repeated_done - counts.replaced_done)
    already_there = max(totals.already_there - counts.replaced_already_there, counts.already_there)
    known_failures = counts.failed + counts.repeated_failures + counts.replaced_failures
    failed = counts.failed + max(0, totals.failed - known_failures) - sources.retried
    ended = done + already_there + failed
    replaced_ends = counts.replaced_done + counts.replaced_already_there + counts.replaced_failures
    replaced = max(totals.replaced + replaced_ends, counts.replaced)
    if sources.submitted is None:
        return JobNumbers(None, done, already_there, failed, sources.running, sources.waiting, replaced=replaced)
    submitted = max(ended, sources.submitted - counts.repeated - replaced - sources.retried)
    if sources.replacing is not None:
        submitted = min(submitted, ended + sources.running + sources.replacing)
    elif not sources.is_settling:
        in_queue = sources.running + sources.waiting
        if in_queue > submitted - ended + sources.recently_ended:
            submitted = ended + in_queue
    left = submitted - ended
    running = left if sources.is_empty else min(sources.running, left)
    return JobNumbers(submitted, done, already_there, failed, running, left - running, replaced=replaced)


def count_ended_jobs(submitted: int | None, counts: JobCounts, left: int) -> JobNumbers:
    """Return how many jobs of a run that has ended are in which state. `left`: how many are in the queue.

    If the number of jobs is known, those are unaccounted for that have neither ended nor are in the queue.
    """
    numbers = JobNumbers(None, counts.done, counts.already_there, counts.failed, waiting=left, replaced=counts.replaced)
    if submitted is None:
        return numbers
    total = max(numbers.ended, submitted - counts.repeated - counts.replaced)
    waiting = min(left, total - numbers.ended)
    return replace(numbers, submitted=total, waiting=waiting, unaccounted=total - numbers.ended - waiting)


def select_retried_jobs(failures: Iterable[FailedJob], sent: Mapping[str, float]) -> Collection[str]:
    """Return the failed jobs that were sent again after they failed. `sent`: when each was, in seconds since 1970."""
    return {failed.job for failed in failures if failed.ended < sent.get(failed.job, 0.0)}
