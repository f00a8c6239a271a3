"""The results that a run's records list, and how many requests it takes to look at all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.results.outcome import iter_records, read_record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.worker import RunKeys

MAX_UNASKED_REQUESTS = 10_000
# A HEAD or GET request to S3 Standard in us-east-1. Most other regions cost up to a third more.
# https://aws.amazon.com/s3/pricing/
USD_PER_REQUEST = 0.0004 / 1000
MAX_SAMPLED_RECORDS = 100  # whose results are counted to estimate how many the others list


@dataclass(frozen=True, slots=True)
class ListedResult:
    """A result file as the record of a job lists it.

    `checksum_sha256` (hexadecimal) is "" if the worker did not upload the file, because the job was skipped.
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
    """How many records a run has, and how many results they list; `is_exact` is False for an estimate."""

    records: int
    results: int
    is_exact: bool

    @property
    def requests(self) -> int:
        """Number of requests, one for each record and each result."""
        return self.records + self.results

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
    records = read_in_parallel(sample, partial(read_record, s3, bucket))
    listed = sum(len(list_results(record, keys.run)) for _, record in records)
    return VerificationPlan(count, round(listed * count / len(sample)) if sample else 0, count == len(sample))


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
