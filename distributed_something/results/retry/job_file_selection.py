"""Selects the failed jobs that `retry --with` makes from a corrected Job file: those that were made from it before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from distributed_something.core.errors import InputError
from distributed_something.core.submission import is_same_path
from distributed_something.core.text import format_count
from distributed_something.results.job_source import JobSource
from distributed_something.results.retry.retry_jobs import RetryJob, RetryState


@dataclass(frozen=True)
class JobFileSelection:
    """The failed jobs that a corrected Job file may make again, and the others, by their Job file ("": a script)."""

    jobs: list[RetryJob]
    others: dict[str, list[RetryJob]]


def select_by_job_file(
    jobs: Sequence[RetryJob],
    source: JobSource,
    job_file: str,
    sendable: Collection[RetryState],
    *,
    is_explicit: bool,
) -> JobFileSelection:
    """Return which of the jobs `job_file` makes again; a job of no known Job file may be made from any, and one of a
    script unless other jobs came from `job_file`.

    `source`: where the run's jobs came from. `is_explicit`: whether the user selected the jobs. If they came from
    another Job file, this one may then be a corrected copy of it. Raise InputError if they came from several others or,
    unless they were selected, if this is another Job file of the run.
    """
    by_file: dict[str, list[RetryJob]] = {}
    for job in jobs:
        by_file.setdefault(find_job_file(job, source.job_files), []).append(job)
    for path in [path for path in by_file if path]:  # the same file may have been typed in different folders
        first = next(other for other in by_file if other and is_same_path(other, path))
        if first != path:
            by_file[first] += by_file.pop(path)
    own = next((path for path in by_file if path and is_same_path(path, job_file)), "")
    others = {path: found for path, found in by_file.items() if path not in ("", own)}
    if own and (scripted := [job for job in by_file.get("", []) if _read_submission(job) == ""]):
        others[""] = scripted
    if not own:
        left = {path: [job for job in found if job.state in sendable] for path, found in others.items()}
        is_other = any(is_same_path(path, job_file) for path in (source.job_file, *source.other_files) if path)
        _check_others({path: found for path, found in left.items() if found}, job_file, is_other and not is_explicit)
        return JobFileSelection([*jobs], {})
    left_out = {job.failed.job for found in others.values() for job in found}
    return JobFileSelection([job for job in jobs if job.failed.job not in left_out], others)


def find_job_file(job: RetryJob, job_files: Mapping[str, str]) -> str:
    """Return the Job file from which the job's message was made, as the user typed it; "" if it is unknown.

    `job_files`: keyed by the submission's time.
    """
    return job_files.get(_read_submission(job) or "", "")


def _read_submission(job: RetryJob) -> str | None:
    """Return the time of the submission that made the job's message; "" if a script sent it, None if it is unknown."""
    return job.submission or job.failed.submission


def _check_others(others: Mapping[str, Sequence[RetryJob]], job_file: str, is_other: bool) -> None:
    """Raise InputError if jobs of these Job files must not all be made from `job_file`."""
    names = " and ".join(f"{path} ({format_count(len(found), 'job')})" for path, found in others.items())
    if len(others) > 1:
        problem = f"the failed jobs were made from several Job files: {names}"
        remedy = "give one of these files, or select jobs of one of them with --only"
        raise InputError(f"--with {job_file}", "", problem, remedy)
    if others and is_other:
        problem = f"no failed job was made from this Job file; they were made from {names}"
        raise InputError(f"--with {job_file}", "", problem, "give that file, or select the jobs with --only")
