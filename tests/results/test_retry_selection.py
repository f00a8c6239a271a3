"""The values of `retry --only`: group IDs, causes, and job IDs."""

from __future__ import annotations

import pytest

from distributed_something.core.errors import InputError
from distributed_something.results.causes import FailureGroup
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.retry.retry_selection import select_failures

HASHES = [f"{number:x}" * 10 for number in range(16)]


def build_failed_jobs(*values: str, **groups: tuple[str, ...]) -> list[FailureGroup]:
    """Return one group of failed jobs. Their groups have these values, and their IDs are made as a worker makes them.

    `groups`: keys of further values; the jobs have the values at the same position.
    """
    names = [dict(zip(groups, pair, strict=True)) for pair in zip(*groups.values(), strict=True)]
    names = names or [{"sample": value} for value in values]
    failed = tuple(
        FailedJob(f"{'-'.join(group.values()).replace('/', '-')}-{digest}", 0.0, "exit code 7", "program", group=group)
        for group, digest in zip(names, HASHES, strict=False)
    )
    return [FailureGroup("F01dead", "exit code 7", "program", None, failed, failed[0], 0.0, ())]


def select_jobs(groups: list[FailureGroup], *values: str) -> list[str]:
    return [failed.job for failed in select_failures(groups, values)]


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
    assert lines[1] == "--only 'A0': 2 failed jobs begin with this: A01-1, A02-1; give more of the ID"
    assert [line.split(": ")[1][:15] for line in lines[2:]] == ["no failed job, "] * 3


def test_a_job_id_without_its_hash_selects_this_job_although_other_ids_begin_with_it() -> None:
    groups = build_failed_jobs("s1", "s10", "s1-b", "s100")
    assert select_jobs(groups, "s1") == [f"s1-{HASHES[0]}"]
    assert select_jobs(groups, "s10") == [f"s10-{HASHES[1]}"]
    assert select_jobs(groups, f"s1-{HASHES[0]}") == [f"s1-{HASHES[0]}"]


def test_a_job_whose_id_looks_like_a_group_or_a_word_of_a_cause_is_selected_by_its_complete_id() -> None:
    groups = build_failed_jobs("F01", "7", "code")
    assert select_jobs(groups, "F01") == [f"F01-{HASHES[0]}"]
    assert select_jobs(groups, "7") == [f"7-{HASHES[1]}"]
    assert len(select_jobs(groups, "F01dead")) == len(select_jobs(groups, "F01d")) == len(groups[0].jobs)


def test_a_cause_wins_over_a_job_of_the_same_name() -> None:
    groups = build_failed_jobs("program", "s1")
    assert len(select_jobs(groups, "program")) == 2


def test_a_value_of_groups_selects_all_failed_jobs_that_have_it_although_other_ids_begin_with_it() -> None:
    groups = build_failed_jobs(plate=("P1", "P1", "P10"), well=("A01", "A10", "A01"))
    assert select_jobs(groups, "P1") == [f"P1-A01-{HASHES[0]}", f"P1-A10-{HASHES[1]}"]
    assert select_jobs(groups, "A01") == [f"P1-A01-{HASHES[0]}", f"P10-A01-{HASHES[2]}"]


def test_a_value_of_a_group_is_found_as_it_is_in_the_job_file() -> None:
    assert select_jobs(build_failed_jobs("in/a.tif", "in/b.tif"), "in/b.tif") == [f"in-b.tif-{HASHES[1]}"]


def test_a_value_that_several_keys_have_is_refused_with_the_keys() -> None:
    groups = build_failed_jobs(site=("1", "2"), well=("2", "1"))
    with pytest.raises(InputError) as caught:
        select_failures(groups, ["2"])
    assert str(caught.value) == (
        "--only '2': this is the value of several keys: site (1 failed job), well (1 failed job); give a job's ID"
    )


def test_the_beginning_of_several_ids_is_refused_with_these_ids() -> None:
    groups = build_failed_jobs(*(f"s1{number}" for number in range(9)))
    with pytest.raises(InputError) as caught:
        select_failures(groups, ["s1"])
    message, names = str(caught.value), [f"s1{number}-{HASHES[number]}" for number in range(9)]
    assert message.startswith(f"--only 's1': 9 failed jobs begin with this: {names[0]}, {names[1]}")
    assert message.endswith("and 4 more; give more of the ID")
    assert "\n" not in message
