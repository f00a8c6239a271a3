"""Selects failed jobs by the values of `retry --only`: a group's ID, a cause, a job's ID, or a value of its group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.text import format_count, format_names, format_value
from distributed_something.results.causes import FailureGroup
from distributed_something.results.job_counter import FailedJob
from distributed_something.worker import remove_hash

MIN_PREFIX_CHARACTERS = 3
_GROUP_PREFIX = re.compile(rf"F[0-9a-f]{{{MIN_PREFIX_CHARACTERS - 1},}}", re.IGNORECASE)


def select_failures(groups: Sequence[FailureGroup], values: Sequence[str]) -> list[FailedJob]:
    """Return the failed jobs that any of the values selects, in the order of the groups; all jobs without values.

    Raise a single InputError that lists the values that select no job or could mean several ones.
    """
    selected: set[str] = set()
    problems = InputProblems()
    for value in values:
        with problems.collect():
            selected.update(job.job for job in _select_by_value(groups, value))
    problems.raise_if_any()
    return [job for group in groups for job in group.jobs if not values or job.job in selected]


def _select_by_value(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    """Return the jobs that the value selects: the first of these meanings that fits decides.

    Complete names come before beginnings, because `s1` also begins the ID of the job `s10`.
    """
    for find in (_find_by_name, _find_by_cause, _find_by_group_value, _find_by_group_id, _find_by_beginning):
        if found := find(groups, value):
            return found
    raise _build_error(value, "no failed job, cause, or group of this run matches", groups)


def _find_by_name(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    """Return the job with this ID, or the jobs of the group with this ID, with this reason class, or with this ID
    without its hash, which may be that of several jobs, for example of two Job files.
    """
    folded = value.strip().casefold()
    return (
        _list_jobs(groups, lambda group, job: job.job == value)
        or _list_jobs(groups, lambda group, job: group.id.casefold() == folded)
        or _list_jobs(groups, lambda group, job: bool(folded) and group.reason_class.casefold() == folded)
        or _list_jobs(groups, lambda group, job: remove_hash(job.job) == value)
    )


def _find_by_cause(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    folded = value.strip().casefold()
    phrase = re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")  # whole words only: "b" does not mean "bad message"
    return [job for group in groups if folded and phrase.search(group.cause.casefold()) for job in group.jobs]


def _find_by_group_value(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    """Return the jobs whose group has this value, which must be that of a single key."""
    jobs = _list_jobs(groups, lambda group, job: bool(value) and value in job.group.values())
    keys = Counter(key for job in jobs for key, text in job.group.items() if text == value)
    if len(keys) > 1:
        names = format_names([f"{key} ({format_count(count, 'failed job')})" for key, count in sorted(keys.items())])
        raise _build_ambiguity(value, f"this is the value of several keys: {names}", "give a job's ID")
    return jobs


def _find_by_group_id(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    if not _GROUP_PREFIX.fullmatch(value):
        return []
    found = [group for group in groups if group.id.casefold().startswith(value.casefold())]
    if len(found) > 1:
        raise _build_error(value, f"{format_count(len(found), 'group')} begin with this", found)
    return list(found[0].jobs) if found else []


def _find_by_beginning(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    found = _list_jobs(groups, lambda group, job: bool(value) and job.job.startswith(value))
    if len(found) > 1:
        names = format_names([job.job for job in found])
        problem = f"{format_count(len(found), 'failed job')} begin with this: {names}"
        raise _build_ambiguity(value, problem, "give more of the ID")
    return found


def _list_jobs(groups: Sequence[FailureGroup], is_meant: Callable[[FailureGroup, FailedJob], bool]) -> list[FailedJob]:
    return [job for group in groups for job in group.jobs if is_meant(group, job)]


def _build_ambiguity(value: str, problem: str, remedy: str) -> InputError:
    return InputError(f"--only {format_value(value)}", "", problem, remedy)


def _build_error(value: str, problem: str, groups: Sequence[FailureGroup]) -> InputError:
    names = format_names([f"{group.id} ({group.reason_class or 'unknown'}, {len(group.jobs):,})" for group in groups])
    return InputError(f"--only {format_value(value)}", "", problem, f"the groups are: {names}")
