"""The failed jobs of a run that can be sent again: their messages, and what has become of them since.

A failed job is looked up in all later runs of the app, and in the lists of jobs that earlier `retry` commands sent.
This takes one request for each failed job and later run, until a run is found in which the job has ended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS, iter_bucket_objects
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.submission import RetryList, parse_retry_list
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.documents.replacements import NO_REPLACEMENTS, Replacements, load_replacements
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.outcome import read_record
from distributed_something.results.status.attempt_lines import parse_time
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.observe.queue import QueueState


class RetryState(Enum):
    """What has become of a failed job since it failed."""

    FAILED = "failed"  # it can be sent again
    SUCCEEDED = "succeeded"
    SENT = "sent"  # it was sent again, and its message may still be in the queue
    # It was sent again with another ID, and failed in the same run with this ID; or `submitJob --replace` replaced it.
    REPLACED = "replaced"


@dataclass(frozen=True)
class RetryJob:
    """A failed job, and what its record says about sending it again.

    `message`: None if the record does not exist or has no message; text if the worker could not read it. `again_since`,
    `submission`: the message's attributes of these names, or "". Memory is in bytes; None if unknown. `sent`: when it
    was last sent again, in seconds since 1970; 0 if it was not.
    """

    failed: FailedJob
    state: RetryState
    message: dict[str, Any] | str | None
    again_since: str = ""
    peak_memory: int | None = None
    memory_limit: int | None = None
    sent: float = 0.0
    submission: str = ""


@dataclass(frozen=True)
class QueueView:
    """What the job queue tells about jobs that were sent. `queue`: None if it does not exist.

    `now`: AWS's time. `settling_seconds`: how long SQS's counts may not include jobs that were just sent. `emptied`:
    when the last submission began that removed all waiting jobs, in seconds since 1970; 0 if there was none.
    """

    queue: QueueState | None
    now: float
    settling_seconds: float
    emptied: float = 0.0

    def may_contain(self, sent: float) -> bool:
        """Return whether a message that was sent at `sent` (seconds since 1970) may still be in the queue."""
        if self.queue is None or sent < max(self.queue.created - CLOCK_TOLERANCE_SECONDS - 1, self.emptied):
            return False
        return self.queue.counts.jobs > 0 or self.now - sent < self.settling_seconds


@dataclass(frozen=True)
class LaterEnds:
    """The ends of a job in later runs: whether it succeeded, and when it last failed (seconds since 1970, or 0)."""

    is_success: bool = False
    failed: float = 0.0
    begun: float = 0.0  # when an attempt that was not the last one ended


@dataclass(frozen=True)
class RetryLinks:
    """What `retry` did with a failed job: when it was last sent (seconds since 1970, or 0), and the IDs it got then."""

    sent: float
    new_ids: frozenset[str]


class RetryChain:
    """The lists of jobs that `retry` sent again, of a run and of all later ones.

    A job that failed again in a later run, and was sent again from there, may have another ID in each of these runs.
    """

    def __init__(self, lists: Iterable[RetryList]) -> None:
        self._steps: dict[str, list[tuple[float, str]]] = {}  # when the job was sent and its new ID, by its ID
        for retries in lists:
            for job, new_id in retries.jobs.items():
                self._steps.setdefault(job, []).append((retries.began, new_id))

    def follow(self, job: str) -> RetryLinks:
        """Return what became of the job, over any number of retries."""
        sent, found, open_ids = 0.0, {job}, [job]
        while open_ids:
            for began, new_id in self._steps.get(open_ids.pop(), ()):
                sent = max(sent, began)
                open_ids += [] if new_id in found else [new_id]
                found.add(new_id)
        return RetryLinks(sent, frozenset(found - {job}))


@dataclass
class RetryReader:
    """Reads what became of the failed jobs of the run in `file`. AWS errors are not caught."""

    s3: S3Client
    file: MonitorFile
    view: QueueView
    later_runs: list[str] = field(default_factory=list)  # newest first
    has_links: bool = False  # whether anything may have become of a failed job
    _chain: RetryChain = field(default_factory=lambda: RetryChain(()))
    _replacements: Replacements = NO_REPLACEMENTS

    def load_links(self) -> None:
        """Read which runs there are, which jobs `retry` sent again, and what `submitJob --replace` replaced."""
        bucket, app = self.file.MONITOR_BUCKET_NAME, self.file.MONITOR_APP_NAME
        runs = list_runs(self.s3, bucket, app)
        self.later_runs = sorted((run for run in runs if run > self.file.run), reverse=True)
        keys = [RunKeys(app, run) for run in (self.file.run, *self.later_runs)]
        lists = [
            retries
            for _, found in read_in_parallel(keys, partial(load_retry_lists, self.s3, bucket))
            for retries in found
        ]
        self._chain, self.has_links = RetryChain(lists), bool(self.later_runs or lists)
        self._replacements = load_replacements(self.s3, self.file, self.view.now)

    def load_jobs(self, failures: Sequence[FailedJob], all_failed: Iterable[str]) -> list[RetryJob]:
        """Return what is known about each failed job, in the same order. `all_failed`: all failed jobs of the run."""
        self.load_links()
        read = partial(self._load_job, frozenset(all_failed))
        return [job for _, job in read_in_parallel(failures, read)]

    def find_states(self, failures: Sequence[FailedJob], all_failed: frozenset[str]) -> dict[str, RetryState]:
        """Return what became of each failed job, by its ID, after `load_links`. Its message is not read."""
        find = partial(self._find_state, all_failed)
        return {failed.job: state for failed, state in read_in_parallel(failures, find)}

    def count_removed_jobs(self, left: int, ended: float) -> int:
        """Return how many of the jobs that the run left in the queue `submitJob --replace` removed before a later run.

        `ended`: when the run ended, in seconds since 1970.
        """
        until = (parse_run_start(self.later_runs[-1]) if self.later_runs else None) or math.inf
        return self._replacements.count_removed_jobs(left, ended, until)

    def is_replaced(self, failed: FailedJob) -> bool:
        """Return whether `submitJob --replace` has replaced the job since it was sent."""
        return self._replacements.is_replaced(failed.sent, failed.submission)

    def _load_job(self, all_failed: frozenset[str], failed: FailedJob) -> RetryJob:
        record = self._read_record(self.file.run, failed.job)
        message, links = record.get("message"), self._chain.follow(failed.job)
        return RetryJob(
            failed,
            self._find_state(all_failed, failed),
            message if isinstance(message, (dict, str)) else None,
            str(record.get("again_since") or ""),
            _read_bytes(record, "peak_memory_bytes"),
            _read_bytes(record, "memory_limit_bytes"),
            links.sent,
            str(record.get("submission") or ""),
        )

    def _find_state(self, all_failed: frozenset[str], failed: FailedJob) -> RetryState:
        links = self._chain.follow(failed.job)
        sent, new_ids = links.sent, links.new_ids
        if new_ids & all_failed or self.is_replaced(failed):
            return RetryState.REPLACED
        ends = [self._find_later_ends(failed.job, self.later_runs)]
        ends += (self._find_later_ends(new_id, [*self.later_runs, self.file.run]) for new_id in sorted(new_ids))
        if any(end.is_success for end in ends):
            return RetryState.SUCCEEDED
        sent = max([sent, *(end.begun for end in ends)])
        is_open = sent > max([failed.ended, *(end.failed for end in ends)])
        return RetryState.SENT if is_open and self.view.may_contain(sent) else RetryState.FAILED

    def _find_later_ends(self, job: str, runs: Iterable[str]) -> LaterEnds:
        """Return how the job ended in the newest of these runs in which it has ended."""
        begun = 0.0
        for run in runs:
            record = self._read_record(run, job)
            ended = parse_time(record.get("ended"))
            if record.get("state") in ("done", "skipped"):
                return LaterEnds(is_success=True)
            if record.get("state") == "failed" and record.get("final", True):
                return LaterEnds(failed=ended, begun=begun)
            begun = max(begun, ended)
        return LaterEnds(begun=begun)

    def _read_record(self, run: str, job: str) -> dict[str, Any]:
        key = RunKeys(self.file.MONITOR_APP_NAME, run).record(job)
        return read_record(self.s3, self.file.MONITOR_BUCKET_NAME, key)


def load_retry_lists(s3: S3Client, bucket: str, keys: RunKeys) -> list[RetryList]:
    """Return the lists of jobs that `retry` sent again. A list that is not valid is left out."""

    def read(key: str) -> RetryList | None:
        try:
            return parse_retry_list(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ValueError:
            return None

    names = [item["Key"] for item in iter_bucket_objects(s3, bucket, keys.retries)]
    return [retries for _, retries in read_in_parallel(names, read) if retries is not None]


def count_states(jobs: Iterable[RetryJob]) -> Counter[RetryState]:
    """Return how many of the jobs are in each state."""
    return Counter(job.state for job in jobs)


def split_replaced_jobs(jobs: list[RetryJob]) -> tuple[list[RetryJob], list[RetryJob]]:
    """Return the jobs that the latest `retry` sent or that may wait in the queue, and the others.

    If none was sent yet, all jobs are among the former.
    """
    latest = max((job.sent for job in jobs), default=0.0)
    is_chosen = [job.sent == latest or job.state is RetryState.SENT for job in jobs]
    return list(compress(jobs, is_chosen)), list(compress(jobs, map(not_, is_chosen)))


def _read_bytes(record: dict[str, Any], key: str) -> int | None:
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
