"""The outcome of a run, from the journals of its containers and, where lines are missing, from single records.

A container that was killed has not written its last lines. If the journals do not account for all submitted jobs, the
records are therefore listed (one request per 1,000 records and logs), and those of the remaining jobs are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.observe.documents.journals import JournalReader
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.results.job_counter import FailedJob, JobCounter, JobCounts, OverwrittenFiles

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

# At 500 per second (an estimate; an emulator on the same computer allows 1,000), reading these records takes three
# minutes. Lambda ends the auto-monitor's call after 15 minutes.
MAX_RECORDS_READ = 100_000
MAX_FAILURES_DETAILED = 20  # failed jobs whose records are read for their last lines


@dataclass(frozen=True)
class RunOutcome:
    """How the jobs of a run ended.

    `submitted`: None if unknown, as in runs that an older version started. `left`: jobs in the queue. `failures`: the
    failed jobs, in the order in which they failed; the last lines and logs of the first ones are known. `machines`: how
    many machines ran a container. `overwritten`: files that several jobs wrote. `result_times`: when the oldest and the
    newest results that were already there were written, in seconds since 1970; None if unknown. `unread`: how many
    records were not read, because journals do not account for more than MAX_RECORDS_READ; their ends are not in
    `counts`.
    """

    submitted: int | None
    counts: JobCounts
    left: int
    failures: list[FailedJob]
    machines: int
    overwritten: OverwrittenFiles = field(default_factory=OverwrittenFiles)
    result_times: tuple[float, float] | None = None
    unread: int = 0

    @property
    def unrecorded(self) -> int:
        """Number of submitted jobs that neither have a final record nor are in the queue."""
        return max(0, (self.submitted or 0) - self.counts.ended - self.left - self.unread)

    @property
    def is_complete(self) -> bool:
        """Whether every job is done."""
        return not (self.counts.failed or self.left or self.unrecorded or self.unread)


def load_run_outcome(s3: S3Client, file: MonitorFile, submitted: int | None, left: int) -> RunOutcome:
    """Return the outcome of the run. `left`: how many jobs are in the queue. AWS errors are not caught."""
    reader, counter = JournalReader(s3, file.MONITOR_BUCKET_NAME, file.keys), JobCounter()
    unread = 0
    for line in reader.iter_lines():
        counter.add_end(line)
    if submitted is None or counter.count_jobs().ended + left < submitted:
        unread = _add_missing_records(s3, file, counter)
    counts = counter.count_jobs()
    total = None if submitted is None else max(submitted, counts.ended + left)
    failures = counter.list_failed_jobs()
    detailed = [_add_details(s3, file, failed) for failed in failures[:MAX_FAILURES_DETAILED]]
    machines = reader.read_totals().machines
    failures[:MAX_FAILURES_DETAILED] = detailed
    return RunOutcome(
        total, counts, left, failures, machines, counter.find_overwritten_files(), counter.find_result_times(), unread
    )


def _add_missing_records(s3: S3Client, file: MonitorFile, counter: JobCounter) -> int:
    """Count the ends in records that no journal knows, at most MAX_RECORDS_READ. Return how many were not read."""
    missing = (key for job, key, etag in _iter_records(s3, file) if not counter.has_record(job, etag))
    read = partial(read_record, s3, file.MONITOR_BUCKET_NAME)
    for _, record in read_in_parallel(islice(missing, MAX_RECORDS_READ), read):
        counter.add_end(record)
    return sum(1 for _ in missing)


def _iter_records(s3: S3Client, file: MonitorFile) -> Iterator[tuple[str, str, str]]:
    """Yield each job that has a record, and the record's key and ETag."""
    prefix, suffix = file.keys.jobs, ".json"
    # With a delimiter, the files of failed attempts in failed/JOB/ are not listed. There may be many of them.
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=file.MONITOR_BUCKET_NAME, Prefix=prefix, Delimiter="/")
    for page in pages:
        for item in page.get("Contents", []):
            if item["Key"].endswith(suffix):  # there are also logs
                yield item["Key"].removeprefix(prefix).removesuffix(suffix), item["Key"], item["ETag"]


def _add_details(s3: S3Client, file: MonitorFile, failed: FailedJob) -> FailedJob:
    record = read_record(s3, file.MONITOR_BUCKET_NAME, file.keys.record(failed.job))
    lines = record.get("last_lines")
    log = str(record.get("log") or "")
    return replace(failed, last_lines=tuple(map(str, lines)) if isinstance(lines, list) else (), log=log)


def read_record(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    """Return the record, or an empty object if it does not exist or is not valid."""
    try:
        record = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if is_missing_object(error):
            return {}
        raise
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
