"""Failed jobs grouped by cause."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results.causes import (
    Cause,
    SharedValue,
    compute_group_cost,
    find_cause,
    group_failures,
)
from distributed_something.results.group_values import (
    MAX_VALUES_COUNTED,
    GroupValueCounter,
    read_group_values,
)
from distributed_something.results.job_counter import FailedJob


def build_failure(job: str = "a", reason_class: str = "program", exit_code: int | None = 1, **more: Any) -> FailedJob:
    return FailedJob(job, more.pop("ended", 0.0), more.pop("reason", "r"), reason_class, 1, exit_code, **more)


@pytest.mark.parametrize(("failed", "text"), [
    (build_failure(telling_line="ValueError: shape mismatch (3, 4)"),
     "exit code 1: ValueError: shape mismatch (#, #)"),
    (build_failure("P1-A01-0123", exit_code=2, telling_line="no A01 in P1-A01-0123", group={"well": "A01"}),
     "exit code 2: no # in #"),
    (build_failure(exit_code=3, reason="exit code 3"), "exit code 3"),
    (build_failure(reason_class="", exit_code=4, reason="no reason given"), "exit code 4"),
    (build_failure(exit_code=5, reason="done contains 'Partial'"), "exit code 5: done contains 'Partial'"),
    (build_failure(exit_code=5, reason="done contains 'Partial'", telling_line="no x"), "exit code 5: no x"),
    (build_failure(exit_code=139, telling_line="step 3"), "segmentation fault"),
    (build_failure(exit_code=-11, reason_class="signal", telling_line="step 4"), "segmentation fault"),
    (build_failure(exit_code=137), "killed, probably for memory"),
    (build_failure(exit_code=-9, reason_class="signal"), "killed, probably for memory"),
    (build_failure(exit_code=-6, reason_class="signal"), "killed by SIGABRT"),
    (build_failure(exit_code=-200, reason_class="signal"), "killed by signal 200"),
    (build_failure(exit_code=0, reason="1 of 2 expected files written"), "# of # expected files written"),
    (build_failure(exit_code=None, reason="the program 'x' cannot be started: no such file"),
     "the program 'x' cannot be started: no such file"),
    (build_failure(reason_class="time-out", exit_code=-15, time_limit_seconds=3600.0), "timed out after 60 minutes"),
    (build_failure(reason_class="time-out", exit_code=-15, time_limit_seconds=60.0), "timed out after 1 minute"),
    (build_failure(reason_class="time-out", exit_code=-9, time_limit_seconds=1.8), "timed out after 1.8 seconds"),
    (build_failure(reason_class="time-out"), "timed out"),
    (build_failure(reason_class="out of memory", exit_code=-9, memory_limit_bytes=3_500 * 2**20),
     "out of memory: killed at the limit of 3,500 MiB"),
    (build_failure(reason_class="out of memory", exit_code=1), "out of memory"),
    (build_failure(reason_class="disk", exit_code=1), "the disk is full"),
    (build_failure(reason_class="missing input", exit_code=None, reason="the input s3://b/a does not exist (404)"),
     "missing input: the input PATH does not exist (#)"),
    (build_failure(reason_class="aws", exit_code=None, reason="AWS: SlowDown"), "AWS: SlowDown"),
    (build_failure(reason_class="worker code", exit_code=None, reason="KeyError: 'x'"), "worker code: KeyError: 'x'"),
])  # fmt: skip
def test_the_cause_of_a_failure(failed: FailedJob, text: str) -> None:
    assert find_cause(failed).text == text


def test_the_id_of_a_cause_is_the_same_in_all_runs() -> None:
    assert Cause("program", 1, "exit code 1: ValueError: shape mismatch (#, #)").id == "Fa5d543"


def test_a_reason_counts_only_as_far_as_a_journal_has_it() -> None:
    long = build_failure(reason_class="aws", exit_code=None, reason="no " * 1000)
    assert find_cause(long) == find_cause(replace(long, reason=long.reason[:300]))


def test_failures_are_grouped_by_cause_the_largest_group_first() -> None:
    failures = [build_failure(f"segv-{n}", "signal", (-11, 139)[n % 2], ended=float(n)) for n in range(5)]
    failures += [build_failure(f"one-{n}", ended=10.0 + n, telling_line=f"error {n} at {n}") for n in range(4)]
    failures += [build_failure(f"slow-{n}", "time-out", -15 + 6 * n, time_limit_seconds=1.8) for n in range(2)]
    groups = group_failures(failures)
    assert [(group.cause, len(group.jobs), group.exit_code) for group in groups] == [
        ("segmentation fault", 5, 139), ("exit code 1: error # at #", 4, 1), ("timed out after 1.8 seconds", 2, None),
    ]  # fmt: skip
    assert (groups[1].example.job, groups[1].first) == ("one-0", 10.0)
    assert group_failures([]) == []


FAILURES = st.builds(
    build_failure,
    st.sampled_from("abcdef"),
    st.sampled_from(["program", "signal", "time-out", "aws"]),
    st.sampled_from([None, 1, 2, -11, 139]),
    ended=st.integers(0, 3).map(float),
    telling_line=st.sampled_from(["", "no 1", "no 2", "other"]),
    group=st.fixed_dictionaries({"plate": st.sampled_from(["P1", "P2"])}),
)


@given(st.lists(FAILURES, unique_by=lambda failed: failed.job), st.randoms(use_true_random=False))
def test_the_order_of_the_failures_does_not_matter(failures: list[FailedJob], rng: random.Random) -> None:
    groups = group_failures(failures)
    shuffled = list(failures)
    rng.shuffle(shuffled)
    assert group_failures(shuffled) == groups
    assert sorted(job.job for group in groups for job in group.jobs) == sorted(failed.job for failed in failures)
    assert len({group.id for group in groups}) == len(groups)
    part = {group.cause: group.id for group in group_failures(failures[::2])}
    assert part.items() <= {group.cause: group.id for group in groups}.items(), "an ID never changes"


def test_the_cost_of_a_group_is_its_share_of_the_time_of_all_attempts() -> None:
    (group,) = group_failures([build_failure("a", seconds=60.0), build_failure("b", seconds=30.0)])
    assert compute_group_cost(group, 2.0, 900.0) == pytest.approx(0.2)
    assert compute_group_cost(group, None, 900.0) is None
    assert compute_group_cost(group, 2.0, 0.0) is None


# Shared values


def build_sharing_failures(count: int, others: int) -> list[FailedJob]:
    """Return failures with the same cause: `count` of plate P7 and `others` of different plates."""
    plates = ["P7"] * count + [f"Q{n}" for n in range(others)]
    return [build_failure(f"{n}", group={"plate": plate, "kind": "x"}) for n, plate in enumerate(plates)]


def count_usual(jobs: int, with_plate: int) -> GroupValueCounter:
    usual = GroupValueCounter()
    for n in range(jobs):
        usual.add_job({"plate": "P7" if n < with_plate else "P1", "kind": "x"})
    return usual


def test_a_value_that_failed_jobs_have_unusually_often_is_named() -> None:
    (group,) = group_failures(build_sharing_failures(38, 3), count_usual(1000, 50))
    assert group.shared == (SharedValue("plate", "P7", 38, 41),)


@pytest.mark.parametrize(("count", "others", "with_plate"), [(5, 5, 10), (38, 3, 850), (2, 0, 10)])
def test_a_value_that_few_failed_jobs_or_many_other_jobs_have_is_not_named(
    count: int, others: int, with_plate: int
) -> None:
    (group,) = group_failures(build_sharing_failures(count, others), count_usual(1000, with_plate))
    assert group.shared == ()


def test_without_the_values_of_all_jobs_a_value_is_named_if_other_failed_jobs_do_not_have_it() -> None:
    failures = build_sharing_failures(4, 0)
    assert group_failures(failures)[0].shared == ()
    failures.append(build_failure("other", exit_code=2, group={"plate": "P1", "kind": "x"}))
    assert group_failures(failures)[0].shared == (SharedValue("plate", "P7", 4, 4),)


@pytest.mark.parametrize(
    ("count", "others", "jobs", "with_plate", "is_named"),
    [
        (25, 5, 60, 30, True),  # one bad plate of two
        (10, 0, 60, 30, True),
        (9, 0, 60, 30, False),  # by chance in 1 of 512 cases
        (18, 12, 60, 30, False),
        (30, 10, 90, 30, True),  # one bad plate of three
        (38, 3, 1000, 300, True),
        (60, 0, 60, 60, False),  # everything fails, on the only plate
        (50, 10, 60, 50, False),  # everything fails, and most jobs are on one plate
        (3, 2, 100, 12, True),  # five times the usual share
    ],
)
def test_a_value_that_many_jobs_of_the_run_have_is_named_if_chance_does_not_explain_its_share(
    count: int, others: int, jobs: int, with_plate: int, is_named: bool
) -> None:
    (group,) = group_failures(build_sharing_failures(count, others), count_usual(jobs, with_plate))
    assert group.shared == ((SharedValue("plate", "P7", count, count + others),) if is_named else ())


def count_values(groups: list[dict[str, str]]) -> GroupValueCounter:
    usual = GroupValueCounter()
    for group in groups:
        usual.add_job(group)
    return usual


def test_a_value_that_separates_few_jobs_exactly_is_named() -> None:
    groups = [{"w": str(w), "mb": mb} for w in (1, 2, 3) for mb in ("20", "700")]
    failures = [build_failure(f"{n}", group=group) for n, group in enumerate(groups) if group["mb"] == "700"]
    (group,) = group_failures(failures, count_values(groups))
    assert group.shared == (SharedValue("mb", "700", 3, 3),)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=4, max_size=12), st.randoms())
def test_in_a_small_run_a_value_of_all_failed_jobs_and_of_no_other_job_is_always_named(
    values: list[str], rng: random.Random
) -> None:
    groups = [{"key": value, "job": str(n), "kind": "x"} for n, value in enumerate(values)]
    failed = [group["key"] == "a" for group in groups]
    failures = [build_failure(group["job"], group=group) for group, fails in zip(groups, failed, strict=True) if fails]
    names = {shared.key for group in group_failures(failures, count_values(groups)) for shared in group.shared}
    assert ("key" in names) == (3 <= sum(failed) <= 0.9 * len(groups))
    assert "kind" not in names, "all jobs have this value"
    # One more job with this value that does not fail, and chance may explain it.
    (exception,) = rng.sample(range(len(failures)), 1) if failures else (None,)
    others = [failure for n, failure in enumerate(failures) if n != exception]
    named = {shared.key for group in group_failures(others, count_values(groups)) for shared in group.shared}
    assert not named - {"key"}


def test_keys_with_very_many_values_are_not_counted() -> None:
    usual = GroupValueCounter()
    for number in range(MAX_VALUES_COUNTED + 1):
        usual.add_job({"image": str(number), "plate": "P1"})
    assert usual.find_share("image", "5") is None
    assert usual.find_share("plate", "P1") == 1.0
    assert usual.find_share("well", "A01") is None


@pytest.mark.parametrize(("line", "values"), [
    ({"group": {"plate": "P1", "site": 3, "none": None, "list": ["ü"]}},
     {"plate": "P1", "site": "3", "none": "", "list": '["ü"]'}),
    ({"group": "Metadata_Plate=P1,Metadata_Well=A01"}, {"Metadata_Plate": "P1", "Metadata_Well": "A01"}),
    ({"group": {"Metadata": "Metadata_Plate=P1"}}, {"Metadata_Plate": "P1"}),
    ({"group": {"Metadata": {"Plate": "P1"}}}, {"Plate": "P1"}),
    ({"group": {"plate": "P1"}}, {"plate": "P1"}),
    ({"group": "P1"}, {"group": "P1"}),
    ({"group": None, "message": {"group": {"plate": "P1"}}}, {"plate": "P1"}),
    ({"message": "{"}, {}),
    ({"group": 5}, {}),
    ({}, {}),
])  # fmt: skip
def test_the_values_of_a_jobs_group(line: dict[str, Any], values: dict[str, str]) -> None:
    assert read_group_values(line) == values
