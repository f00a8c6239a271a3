"""The outcome of a run, from the journals of its containers and, where lines are missing, from single records.

A container that was killed has not written its last lines. If there is such a container, or if the journals do not
account for all submitted jobs, the records are listed (one request per 1,000 records and logs), and those that no line
mentions are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributed_something.observe.documents.journals import JournalReader
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.documents.replacements import NO_REPLACEMENTS, Replacements
from distributed_something.results.causes import FailureGroup, group_failures
from distributed_something.results.job_counter import FailedJob, JobCounter, JobCounts, OverwrittenFiles
from distributed_something.results.job_table import JobTable
from distributed_something.results.next_run.measured_jobs import JobMeasurer, MeasuredJobs
from distributed_something.worker import mask_lines, read_stored_record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.results.report.numbers.attempts import AttemptTable
    from distributed_something.worker import RunKeys

# At 500 per second (an estimate; an emulator on the same computer allows 1,000), reading these records takes three
# minutes. Lambda ends the auto-monitor's call after 15 minutes.
MAX_RECORDS_READ = 100_000
MAX_EXAMPLES_READ = 50  # failure groups whose example's record is read for its last lines; the largest ones


@dataclass(frozen=True)
class RunOutcome:
    """How the jobs of a run ended.

    `submitted`: None if unknown, as in runs that an older version started. `left`: jobs in the queue. `failures`: the
    failed jobs, in the order in which they failed, at most MAX_FAILURES_KEPT. `machines`: how many machines ran a
    container. `overwritten`: files that several jobs wrote. `result_times`: when the oldest and the newest results that
    were already there were written, in seconds since 1970; None if unknown. `unread`: how many records were not read,
    because journals do not account for more than MAX_RECORDS_READ; their ends are not in `counts`. `groups`: `failures`
    by cause, the largest group first; the last lines and logs of the first MAX_EXAMPLES_READ examples are known.
    `total_seconds`: how long all attempts took together. `failing`: the jobs that have not ended and whose latest
    attempt failed; most of them are in the queue. `failing_groups`: the same by cause. `measured`: what the
    jobs needed.
    """

    submitted: int | None
    counts: JobCounts
    left: int
    failures: list[FailedJob]
    machines: int
    overwritten: OverwrittenFiles = field(default_factory=OverwrittenFiles)
    result_times: tuple[float, float] | None = None
    unread: int = 0
    groups: tuple[FailureGroup, ...] = ()
    total_seconds: float = 0.0
    failing: list[FailedJob] = field(default_factory=list)
    failing_groups: tuple[FailureGroup, ...] = ()
    measured: MeasuredJobs = field(default_factory=MeasuredJobs, compare=False)

    @property
    def all_failures(self) -> list[FailedJob]:
        """The jobs that failed for good, and those whose latest attempt failed."""
        return [*self.failures, *self.failing]

    @property
    def unrecorded(self) -> int:
        """Number of submitted jobs that neither have a final record nor are in the queue."""
        return max(0, (self.submitted or 0) - self.counts.ended - self.left - self.unread)

    @property
    def is_complete(self) -> bool:
        """Whether every job is done."""
        return not (self.counts.failed or self.left or self.unrecorded or self.unread)


def load_run_outcome(
    s3: S3Client,
    file: MonitorFile,
    submitted: int | None,
    left: int,
    table: JobTable | None = None,
    *,
    attempts: AttemptTable | None = None,
    replacements: Replacements = NO_REPLACEMENTS,
) -> RunOutcome:
    """Return the outcome of the run. `left`: how many jobs are in the queue. AWS errors are not caught.

    `table` gets a row for each job that has ended, and `attempts` each attempt and each running program. Attempts that
    failed before the last of the `replacements` do not make a job a failing one.
    """
    measurer = JobMeasurer()
    counter = JobCounter(measurer.add_end if table is None else _join(measurer.add_end, table.add_end))
    counter.replacements = replacements
    add_line = counter.add_end if attempts is None else _join(counter.add_end, attempts.add_line)
    reader = JournalReader(s3, file.MONITOR_BUCKET_NAME, file.keys)
    expected = None if submitted is None else submitted - left
    machines, unread = _add_lines(s3, file, reader, counter, add_line, expected)
    if table is not None:
        table.finish(counter.is_last_end)
    if attempts is not None:
        attempts.is_last_end = counter.is_last_end
        for program in reader.iter_programs():
            attempts.add_program(program)
    counter.forget_submissions()
    counts = counter.count_jobs()
    total = None if submitted is None else max(submitted, counts.ended + left)
    failures = counter.list_failed_jobs()
    groups = add_example_details(s3, file, group_failures(failures, counter.group_values))
    failing = counter.list_failing_jobs(replacements.last_removal or 0.0)
    failing_groups = add_example_details(s3, file, group_failures(failing))
    return RunOutcome(
        total, counts, left, failures, machines, counter.find_overwritten_files(), counter.find_result_times(),
        unread, tuple(groups), counter.total_seconds, failing, tuple(failing_groups),
        measurer.finish(counter.total_seconds),
    )  # fmt: skip


def _join(*callbacks: Callable[[Mapping[str, Any]], object]) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that calls each of these with its argument."""

    def call_all(line: Mapping[str, Any]) -> None:
        for callback in callbacks:
            callback(line)

    return call_all


def load_failures(
    s3: S3Client, file: MonitorFile, *, replacements: Replacements = NO_REPLACEMENTS
) -> RunOutcome | None:
    """Return how the jobs ended so far, from the journals alone; None if no attempt has failed.

    `replacements`: as in `load_run_outcome`. AWS errors are not caught. If every attempt was the last one of its job,
    and none failed, this takes only one listing and a small request for each container.
    """
    totals = JournalReader(s3, file.MONITOR_BUCKET_NAME, file.keys).read_totals()
    if not totals.failed and totals.attempts <= totals.ended:
        return None
    outcome = load_run_outcome(s3, file, submitted=0, left=0, replacements=replacements)
    return outcome if outcome.all_failures else None


def _add_lines(
    s3: S3Client, file: MonitorFile, reader: JournalReader, counter: JobCounter,
    add_line: Callable[[Mapping[str, Any]], None], expected: int | None,
) -> tuple[int, int]:  # fmt: skip
    """Add the lines of all journals and, where they are incomplete, records.

    `expected`: how many jobs must have ended, or None if unknown. Return how many machines there were, and how many
    records were not read.
    """
    for line in reader.iter_lines():
        add_line(line)
    totals = reader.read_totals()
    # A container that was killed may also have run jobs that nobody submitted, such as those of a script.
    if expected is None or counter.count_jobs().ended < expected or totals.unended:
        return totals.machines, _add_missing_records(s3, file, counter, add_line)
    return totals.machines, 0


def _add_missing_records(
    s3: S3Client, file: MonitorFile, counter: JobCounter, add_line: Callable[[Mapping[str, Any]], None]
) -> int:
    """Add the records that no journal knows, at most MAX_RECORDS_READ. Return how many were not read."""
    missing = (
        key
        for job, key, etag in iter_records(s3, file.MONITOR_BUCKET_NAME, file.keys)
        if not counter.has_record(job, etag)
    )
    read = partial(read_record, s3, file.MONITOR_BUCKET_NAME)
    for _, record in read_in_parallel(islice(missing, MAX_RECORDS_READ), read):
        add_line(record)
    return sum(1 for _ in missing)


def iter_records(s3: S3Client, bucket: str, keys: RunKeys) -> Iterator[tuple[str, str, str]]:
    """Yield each job of the run that has a record, and the record's key and ETag. AWS errors are not caught."""
    prefix, suffix = keys.jobs, ".json"
    # With a delimiter, the files of failed attempts in failed/JOB/ are not listed. There may be many of them.
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    for page in pages:
        for item in page.get("Contents", []):
            if item["Key"].endswith(suffix):  # there are also logs
                yield item["Key"].removeprefix(prefix).removesuffix(suffix), item["Key"], item["ETag"]


def add_example_details(s3: S3Client, file: MonitorFile, groups: Sequence[FailureGroup]) -> list[FailureGroup]:
    """Return the groups; the first MAX_EXAMPLES_READ ones with what only the record of their example says."""
    keys = [file.keys.record(group.example.job) for group in groups[:MAX_EXAMPLES_READ]]
    records = [record for _, record in read_in_parallel(keys, partial(read_record, s3, file.MONITOR_BUCKET_NAME))]
    detailed = [_add_example(group, record) for group, record in zip(groups, records, strict=False)]
    return [*detailed, *groups[MAX_EXAMPLES_READ:]]


def _add_example(group: FailureGroup, record: dict[str, Any]) -> FailureGroup:
    lines = record.get("last_lines")
    last_lines = mask_lines(lines) if isinstance(lines, list) else ()
    message, log = record.get("message"), str(record.get("log") or "")
    keys = tuple(message) if isinstance(message, dict) else ()
    return replace(group, example=replace(group.example, last_lines=last_lines, log=log, message_keys=keys))


def read_record(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    """Return the record, or an empty object if it does not exist or is not valid."""
    return read_stored_record(s3, bucket, key)[0] or {}
