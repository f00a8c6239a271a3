"""The values of `retry --only`: group IDs, causes, and job IDs."""

from __future__ import annotations

import pytest

from distributed_something.core.errors import InputError
from distributed_something.results.causes import FailureGroup
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.retry.retry_selection import select_failures


def build_group(group_id: str, cause: str, reason_class: str, *jobs: str) -> FailureGroup:
    failed = tuple(FailedJob(job, 0.0, cause, reason_class) for job in jobs)
    return FailureGroup(group_id, cause, reason_class, None, failed, failed[0], 0.0, ())


GROUPS = [
    build_group("Fab1234", "ran longer than the limit", "time-out", "A01-1", "A02-1"),
    build_group("Fab9876", "KeyError: 'well'", "program", "B01-1"),
    build_group("F01abcd", "exit code 2", "program", "time-out", "B02-1"),
]


@pytest.mark.parametrize(("values", "jobs"), [
    ((), ["A01-1", "A02-1", "B01-1", "time-out", "B02-1"]),
    (("Fab1",), ["A01-1", "A02-1"]),
    (("fAB9876",), ["B01-1"]),
    (("F01",), ["time-out", "B02-1"]),
    (("Program",), ["B01-1", "time-out", "B02-1"]),
    (("keyerror",), ["B01-1"]),
    (("the limit",), ["A01-1", "A02-1"]),
    (("A01",), ["A01-1"]),
    (("time-out",), ["time-out"]),
    (("A02-1", "F01"), ["A02-1", "time-out", "B02-1"]),
])  # fmt: skip
def test_a_value_selects_a_group_a_cause_or_a_job(values: tuple[str, ...], jobs: list[str]) -> None:
    assert [failed.job for failed in select_failures(GROUPS, values)] == jobs


@pytest.mark.parametrize("value", ["a", "long", "he limi", "exit code 22"])
def test_a_part_of_a_word_in_a_cause_selects_nothing(value: str) -> None:
    with pytest.raises(InputError, match="no failed job, cause, or group"):
        select_failures(GROUPS, [value])


def test_all_values_that_are_ambiguous_or_match_nothing_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        select_failures(GROUPS, ["Fab", "A0", "F0", "", "nothing"])
    lines = str(caught.value).splitlines()
    assert (
        lines[0]
        == "--only 'Fab': 2 groups begin with this; the groups are: Fab1234 (time-out, 2), Fab9876 (program, 1)"
    )
    assert lines[1].startswith("--only 'A0': 2 failed jobs begin with this: A01-1, A02-1; the groups are: Fab1234")
    assert [line.split(": ")[1][:15] for line in lines[2:]] == ["no failed job, "] * 3
