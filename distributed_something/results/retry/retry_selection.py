"""Selects failed jobs by the values of `retry --only`: the ID of a group, a cause, or the ID of a job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.text import format_count, format_names, format_value
from distributed_something.results.causes import FailureGroup
from distributed_something.results.job_counter import FailedJob

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
    """Return the jobs that the value selects: the first of these meanings that fits decides."""
    jobs = [job for group in groups for job in group.jobs]
    if exact := [job for job in jobs if job.job == value]:
        return exact
    if by_id := _find_by_group_id(groups, value):
        return by_id
    folded = value.strip().casefold()
    phrase = re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")  # whole words only: "b" does not mean "bad message"
    for fits in (
        lambda group: folded == group.reason_class.casefold(),
        lambda group: bool(folded) and bool(phrase.search(group.cause.casefold())),
    ):
        if chosen := [job for group in groups if fits(group) for job in group.jobs]:
            return chosen
    by_prefix = [job for job in jobs if value and job.job.startswith(value)]
    if len(by_prefix) == 1:
        return by_prefix
    if by_prefix:
        names = format_names([job.job for job in by_prefix], 3)
        raise _build_error(value, f"{format_count(len(by_prefix), 'failed job')} begin with this: {names}", groups)
    raise _build_error(value, "no failed job, cause, or group of this run matches", groups)


def _find_by_group_id(groups: Sequence[FailureGroup], value: str) -> list[FailedJob]:
    if not _GROUP_PREFIX.fullmatch(value):
        return []
    found = [group for group in groups if group.id.casefold().startswith(value.casefold())]
    if len(found) > 1:
        raise _build_error(value, f"{format_count(len(found), 'group')} begin with this", found)
    return list(found[0].jobs) if found else []


def _build_error(value: str, problem: str, groups: Sequence[FailureGroup]) -> InputError:
    names = format_names([f"{group.id} ({group.reason_class or 'unknown'}, {len(group.jobs):,})" for group in groups])
    return InputError(f"--only {format_value(value)}", "", problem, f"the groups are: {names}")
