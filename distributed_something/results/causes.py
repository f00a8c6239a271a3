"""Groups failed jobs by cause."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from distributed_something.results.job_counter import FailedJob


@dataclass(frozen=True)
class FailureGroup:
    """Failed jobs with the same cause. `first`: when the first of them failed, in seconds since 1970."""

    id: str
    cause: str
    reason_class: str
    exit_code: int | None
    jobs: tuple[FailedJob, ...]
    example: FailedJob
    first: float
    shared: tuple[object, ...] = ()


def group_failures(failures: Sequence[FailedJob]) -> list[FailureGroup]:
    """Return the failed jobs in groups, the largest first."""
    groups: dict[tuple[str, int | None], list[FailedJob]] = {}
    for failed in failures:
        groups.setdefault((failed.reason_class, failed.exit_code), []).append(failed)
    return [
        FailureGroup(
            "F" + hashlib.sha256(repr(key).encode()).hexdigest()[:6], jobs[0].reason, *key, tuple(jobs), jobs[0],
            min(job.ended for job in jobs),
        )
        for key, jobs in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
