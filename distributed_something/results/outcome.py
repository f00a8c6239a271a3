"""The outcome of a run, from the journals of its containers and, where lines are missing, from single records.

A container that was killed has not written its last lines. If the journals do not account for all submitted jobs, the
records are therefore listed (one request per 1,000 objects), and those of the remaining jobs are read.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.core.errors import is_missing_object
from distributed_something.observe.documents.journals import READER_THREADS, JournalReader
from distributed_something.results.job_counter import FailedJob, JobCounter, JobCounts, OverwrittenFiles

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

MAX_RECORDS_READ = 20_000  # records of jobs that no journal mentions
# A record that is this much older or newer than the job's last known end is about another submission of the job, or has
# a line about one.
MAX_RECORD_DELAY_SECONDS = 2.0
MAX_FAILURES_DETAILED = 20  # failed jobs whose records are read for their last lines


@dataclass(frozen=True)
class RunOutcome:
    """How the jobs of a run ended.

    `submitted`: None if unknown, as in runs that an older version started. `left`: jobs in the queue. `failures`: the
    failed jobs, in the order in which they failed; the last lines and logs of the first ones are known. `machines`: how
    many machines ran a container. `overwritten`: files that several jobs wrote. `result_times`: when the oldest and the
    newest results that were already there were written, in seconds since 1970; None if unknown.
    """

    submitted: int | None
    counts: JobCounts
    left: int
    failures: list[FailedJob]
    machines: int
    overwritten: OverwrittenFiles
    result_times: tuple[float, float] | None = None

    @property
    def unrecorded(self) -> int:
        """Number of submitted jobs that neither have a final record nor are in the queue."""
        return max(0, (self.submitted or 0) - self.counts.ended - self.left)

    @property
    def is_complete(self) -> bool:
        """Whether every job is done."""
        return not (self.counts.failed or self.left or self.unrecorded)


def load_run_outcome(s3: S3Client, file: MonitorFile, submitted: int | None, left: int) -> RunOutcome:
    """Return the outcome of the run. `left`: how many jobs are in the queue. AWS errors are not caught."""
    reader, counter = JournalReader(s3, file.MONITOR_BUCKET_NAME, file.keys), JobCounter()
    for line in reader.iter_lines():
        counter.add_end(line)
    if submitted is None or counter.count_jobs().ended + left < submitted:
        _add_missing_records(s3, file, counter)
    counts = counter.count_jobs()
    total = None if submitted is None else max(submitted, counts.ended + left)
    failures = counter.list_failed_jobs()
    detailed = [_add_details(s3, file, failed) for failed in failures[:MAX_FAILURES_DETAILED]]
    machines = reader.read_totals().machines
    failures[:MAX_FAILURES_DETAILED] = detailed
    return RunOutcome(
        total, counts, left, failures, machines, counter.find_overwritten_files(), counter.find_result_times()
    )


def _add_missing_records(s3: S3Client, file: MonitorFile, counter: JobCounter) -> None:
    """Count the records of jobs whose last end no journal mentions, at most MAX_RECORDS_READ.

    The records of jobs that no journal mentions at all are read first.
    """
    prefix, unknown, changed = file.keys.jobs, [], []
    for item in iter_bucket_objects(s3, file.MONITOR_BUCKET_NAME, prefix):
        name = item["Key"].removeprefix(prefix)
        # Below this prefix are also logs, and files of failed attempts in failed/JOB/.
        if "/" in name or not name.endswith(".json"):
            continue
        last_end = counter.find_last_end(name.removesuffix(".json"))
        if last_end is None:
            unknown.append(item["Key"])
        elif abs(item["LastModified"].timestamp() - last_end) > MAX_RECORD_DELAY_SECONDS:
            changed.append(item["Key"])
    keys = [*unknown, *changed][:MAX_RECORDS_READ]
    with ThreadPoolExecutor(READER_THREADS) as pool:
        for record in pool.map(partial(_read_record, s3, file.MONITOR_BUCKET_NAME), keys):
            counter.add_end(record)


def _add_details(s3: S3Client, file: MonitorFile, failed: FailedJob) -> FailedJob:
    record = _read_record(s3, file.MONITOR_BUCKET_NAME, file.keys.record(failed.job))
    lines = record.get("last_lines")
    log = str(record.get("log") or "")
    return replace(failed, last_lines=tuple(map(str, lines)) if isinstance(lines, list) else (), log=log)


def _read_record(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
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
