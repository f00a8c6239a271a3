"""Reads from the records how jobs that failed on this machine did on other machines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import is_missing_object
from distributed_something.worker.job.run_keys import RunKeys


@dataclass(frozen=True)
class EndsElsewhere:
    """The IDs of jobs that were done on another machine, and of those that failed on another machine."""

    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def find_ends_elsewhere(s3: Any, bucket: str, keys: RunKeys, machine: str, jobs: Iterable[str]) -> EndsElsewhere:
    """Return how these jobs did on machines other than `machine`: one request for each. AWS errors are not caught."""
    records = {job: _read_record(s3, bucket, keys.record(job)) for job in jobs}
    states = {
        job: {
            attempt.get("state")
            for attempt in (record, *(record.get("earlier_attempts") or ()))
            if attempt.get("machine") not in (None, machine)
        }
        for job, record in records.items()
    }
    done, failed = (frozenset(job for job, seen in states.items() if state in seen) for state in ("done", "failed"))
    return EndsElsewhere(done, failed)


def _read_record(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    try:
        record = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if is_missing_object(error):
            return {}
        raise
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
