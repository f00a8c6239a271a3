"""Stand-in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from distributed_something.results.job_counter import FailedJob


@dataclass(frozen=True)
class SharedValue:
    key: str
    value: str
    jobs: int


@dataclass(frozen=True)
class FailureGroup:
    id: str
    cause: str
    reason_class: str
    exit_code: int | None
    jobs: tuple[FailedJob, ...]
    shared: tuple[SharedValue, ...] = ()

    @property
    def example(self) -> FailedJob:
        return self.jobs[0]

    @property
    def first(self) -> float:
        return min(job.ended for job in self.jobs)


def group_failures(failures: Sequence[FailedJob]) -> list[FailureGroup]:
    groups: dict[tuple[str, int | None], list[FailedJob]] = {}
    for job in failures:
        groups.setdefault((job.reason_class, job.exit_code), []).append(job)
    return sorted(
        (
            FailureGroup("F" + hashlib.sha256(repr(k).encode()).hexdigest()[:6], f"{k[0]} {k[1]}", k[0], k[1], tuple(v))
            for k, v in groups.items()
        ),
        key=lambda g: -len(g.jobs),
    )
