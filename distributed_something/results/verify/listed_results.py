"""The results that a run's records list, and how many requests it takes to look at all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.results.outcome import iter_records, read_record
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_UNASKED_REQUESTS = 10_000
# A HEAD or GET request to S3 Standard in us-east-1. Most other regions cost up to a third more.
# https://aws.amazon.com/s3/pricing/
USD_PER_REQUEST = 0.0004 / 1000
MAX_EARLIER_RUNS = 20  # in which the checksums of a skipped job's results are looked up
MAX_SAMPLED_RECORDS = 100  # whose results are counted to estimate how many the others list


@dataclass(frozen=True, slots=True)
class ListedResult:
    """A result file as the record of a job lists it.

    `run`: the one that uploaded the file, if its record says so; otherwise the one whose record lists it.
    `checksum_sha256` (hexadecimal) is "" if no record of the job has it, because the job was skipped.
    `checksum_crc32`: S3's checksum of a file that was uploaded in parts, such as `2jmj7w==-3`; "" for other files.
    """

    job: str
    run: str
    bucket: str
    key: str
    size: int
    checksum_sha256: str = ""
    checksum_crc32: str = ""


@dataclass(frozen=True)
class VerificationPlan:
    """How many records a run has, and how many results they list; `is_exact` is False for an estimate.

    `earlier`: how many records of earlier runs may be read, because jobs were skipped.
    """

    records: int
    results: int
    is_exact: bool
    earlier: int = 0

    @property
    def requests(self) -> int:
        """Number of requests, one for each record and each result."""
        return self.records + self.results + self.earlier

    @property
    def cost(self) -> float:
        """What the requests cost, in USD."""
        return self.requests * USD_PER_REQUEST


def plan_verification(s3: S3Client, bucket: str, keys: RunKeys) -> VerificationPlan:
    """Count the run's records, and estimate from some of them how many results they list.

    Takes one request per 1,000 records and logs, and one for each sampled record. AWS errors are not caught.
    """
    count, sample, generator = 0, list[str](), random.Random(keys.run)
    for _, key, _ in iter_records(s3, bucket, keys):
        count += 1
        if len(sample) < MAX_SAMPLED_RECORDS:
            sample.append(key)
        elif (place := generator.randrange(count)) < MAX_SAMPLED_RECORDS:
            sample[place] = key
    records = [record for _, record in read_in_parallel(sample, partial(read_record, s3, bucket))]
    listed = [list_results(record, keys.run) for record in records]
    unknown = sum(any(not result.checksum_sha256 for result in results) for results in listed)
    earlier = unknown * len(list_earlier_runs(s3, bucket, keys)) if unknown else 0
    scale = count / len(sample) if sample else 0
    is_exact = count == len(sample) and not earlier
    return VerificationPlan(count, round(sum(map(len, listed)) * scale), is_exact, round(earlier * scale))


def check_run_exists(s3: S3Client, bucket: str, keys: RunKeys, plan: VerificationPlan) -> None:
    """Raise InputError if the bucket has neither records nor the documents of this run. AWS errors are not caught.

    A monitor file may also be that of a run whose documents are in another bucket, or were deleted.
    """
    if plan.records or any(_has_object(s3, bucket, key) for key in (keys.monitor_file, keys.run_document)):
        return
    problem = f"there is no such run of {keys.app} in s3://{bucket}/{keys.prefix}: neither records nor its documents"
    raise InputError(keys.run, "", problem, "give another monitor file or the name of a run")


def _has_object(s3: S3Client, bucket: str, key: str) -> bool:
    return bool(s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))


def list_earlier_runs(s3: S3Client, bucket: str, keys: RunKeys) -> list[RunKeys]:
    """Return the latest runs of the app before this one, the newest first. AWS errors are not caught."""
    earlier = [run for run in list_runs(s3, bucket, keys.app) if run < keys.run]
    return [RunKeys(keys.app, run) for run in earlier[: -MAX_EARLIER_RUNS - 1 : -1]]


def read_results(s3: S3Client, bucket: str, keys: RunKeys) -> Iterator[tuple[dict[str, Any], list[ListedResult]]]:
    """Yield each of the run's records with the results that it lists; only a few are in memory at a time.

    The record of a skipped job has no checksums; they are in the record of the run that uploaded the results. AWS
    errors are not caught.
    """
    earlier = list_earlier_runs(s3, bucket, keys)

    def read(key: str) -> tuple[dict[str, Any], list[ListedResult]]:
        record = read_record(s3, bucket, key)
        return record, _add_checksums(s3, bucket, list_results(record, keys.run), earlier)

    names = (key for _, key, _ in iter_records(s3, bucket, keys))
    for _, found in read_in_parallel(names, read):
        yield found


def _add_checksums(
    s3: S3Client, bucket: str, results: list[ListedResult], earlier: Sequence[RunKeys]
) -> list[ListedResult]:
    """Return a job's results, as the record of an earlier run lists those that have no checksum."""
    unknown = {(result.bucket, result.key) for result in results if not result.checksum_sha256}
    known: dict[tuple[str, str], ListedResult] = {}
    for keys in earlier:
        if not unknown - known.keys():
            break
        for result in list_results(read_record(s3, bucket, keys.record(results[0].job)), keys.run):
            if result.checksum_sha256:
                known.setdefault((result.bucket, result.key), result)
    return [result if result.checksum_sha256 else known.get((result.bucket, result.key), result) for result in results]


def read_records(s3: S3Client, bucket: str, keys: RunKeys) -> Iterator[dict[str, Any]]:
    """Yield the run's records; only a few are in memory at a time. AWS errors are not caught."""
    names = (key for _, key, _ in iter_records(s3, bucket, keys))
    for _, record in read_in_parallel(names, partial(read_record, s3, bucket)):
        yield record


def list_results(record: Mapping[str, Any], run: str) -> list[ListedResult]:
    """Return the result files that the record of a job in this run lists, if the job is done."""
    if not is_done(record):
        return []
    entries = record.get("outputs")
    return [
        ListedResult(
            str(record.get("job")), run, str(entry.get("bucket")), str(entry.get("key")), int(entry.get("size") or 0),
            str(entry.get("checksum_sha256") or ""), str(entry.get("checksum_crc32") or ""),
        )
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]  # fmt: skip


def is_done(record: Mapping[str, Any]) -> bool:
    """Return whether the job is done, or was skipped because it already was."""
    return record.get("state") in ("done", "skipped")
