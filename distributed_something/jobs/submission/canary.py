"""The canary of a Job file: a few jobs that differ as much as all of them, to measure before the others are sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from distributed_something.core.errors import InputError
from distributed_something.core.text import format_count
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.sources import JobGroup, ProblemHandler


@dataclass(frozen=True)
class Canary:
    """The chosen jobs of a Job file. `job_file`: yields only them. `is_by_size`: how they were chosen."""

    job_file: JobFile
    is_by_size: bool


def choose_canary(job_file: JobFile, count: int, total: int, sizes: Sequence[int] | None) -> Canary:
    """Return `count` of the file's `total` jobs, in the order of the file. The same arguments give the same jobs.

    `sizes`: of each job's inputs, in bytes; None if unknown. The jobs, ordered by size or else as in the file, are
    divided into `count` equal parts, and the middle job of each part is chosen. Thus, no part of the sizes weighs more
    than it does in the Job file. Raise InputError if there are not more jobs than that.
    """
    check_canary_count(job_file, count, total)
    is_by_size = sizes is not None and len(sizes) == total and min(sizes) < max(sizes)
    order = sorted(range(total), key=lambda number: (sizes[number], number)) if is_by_size and sizes else range(total)
    chosen = frozenset(order[(2 * part + 1) * total // (2 * count)] for part in range(count))
    return Canary(_select_jobs(job_file, chosen), is_by_size)


def check_canary_count(job_file: JobFile, count: int, total: int) -> None:
    """Raise InputError if a canary of `count` jobs is not a part of the file's `total` jobs."""
    if count < 1:
        raise InputError(job_file.path, "--canary", f"{count} is not a number of jobs", "write at least 1")
    if count >= total:
        problem = f"{count:,} is not fewer than the {format_count(total, 'job')} of the file"
        raise InputError(job_file.path, "--canary", problem, "write a smaller number, or leave out --canary")


def _select_jobs(job_file: JobFile, chosen: frozenset[int]) -> JobFile:
    """Return the job file with only these jobs, which are counted from 0. All of its jobs must be valid."""
    numbers, source = sorted(chosen), job_file.groups

    def read(on_problem: ProblemHandler) -> Iterator[JobGroup]:
        return (group for number, group in enumerate(source.read(on_problem)) if number in chosen)

    return replace(
        job_file, groups=replace(source, read=read, locate=lambda number: source.locate(numbers[number - 1] + 1))
    )
