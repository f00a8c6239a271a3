"""Reads from the records how jobs that failed on this machine did on other machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.stored_record import read_stored_record


@dataclass(frozen=True)
class EndsElsewhere:
    """The IDs of jobs that were done on another machine, and of those that failed on another machine."""

    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def find_ends_elsewhere(s3: Any, bucket: str, keys: RunKeys, machine: str, jobs: Iterable[str]) -> EndsElsewhere:
    """Return how these jobs did on machines other than `machine`: one request for each. AWS errors are not caught."""
    records = {job: read_stored_record(s3, bucket, keys.record(job))[0] or {} for job in jobs}
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
