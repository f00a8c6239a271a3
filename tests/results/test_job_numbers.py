"""The numbers of jobs that a person sees: they add up, however old their sources are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.observe.documents.journals import RunTotals
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.status.document import JobNumbers
from distributed_something.results.status.job_numbers import (
    JobSources,
    count_current_jobs,
    count_ended_jobs,
    select_retried_jobs,
)


def build_sources(submitted: int | None, counts: JobCounts, running: int, waiting: int, **more: object) -> JobSources:
    return JobSources(submitted, RunTotals(), counts, running, waiting, **more)  # type: ignore[arg-type]


def add_up(numbers: JobNumbers) -> int:
    return numbers.ended + numbers.running + numbers.waiting + numbers.unaccounted


counts = st.integers(0, 500)
job_counts = st.builds(JobCounts, *[counts] * 6)
totals = st.builds(RunTotals, done=counts, failed=counts, already_there=counts, replaced=counts)


@given(
    st.builds(
        JobSources, counts, totals, job_counts, counts, counts, recently_ended=counts,
        replacing=st.none() | counts, is_empty=st.booleans(), is_settling=st.booleans(),
    )
)  # fmt: skip
def test_the_states_add_up_to_the_submitted_jobs_whatever_the_sources_say(sources: JobSources) -> None:
    numbers = count_current_jobs(sources)
    assert add_up(numbers) == numbers.submitted
    assert min(numbers.done, numbers.already_there, numbers.failed, numbers.running, numbers.waiting) >= 0
    assert numbers.share is None or 0 <= numbers.share <= 1


@given(counts, job_counts, counts)
def test_the_states_of_a_run_that_has_ended_add_up_too(submitted: int, counts: JobCounts, left: int) -> None:
    numbers = count_ended_jobs(submitted, counts, left)
    assert add_up(numbers) == numbers.submitted


def test_after_the_run_jobs_that_neither_ended_nor_wait_are_unaccounted_for() -> None:
    assert count_ended_jobs(9, JobCounts(4, 0, 2), 1) == JobNumbers(9, 4, 0, 2, waiting=1, unaccounted=2)


@pytest.mark.parametrize(
    ("submitted", "done", "failed", "running", "waiting", "expected"),
    [
        (96, 16, 0, 4, 87, (4, 76)),  # the queue still counts jobs that have just ended
        (104, 8, 0, 0, 96, (0, 96)),
        (420, 20, 221, 0, 169, (0, 179)),  # the journals are behind the queue
    ],
)
def test_the_waiting_jobs_are_those_that_neither_ended_nor_run(
    submitted: int, done: int, failed: int, running: int, waiting: int, expected: tuple[int, int]
) -> None:
    sources = build_sources(submitted, JobCounts(done, 0, failed), running, waiting, recently_ended=done + failed)
    numbers = count_current_jobs(sources)
    assert (numbers.submitted, numbers.running, numbers.waiting) == (submitted, *expected)


def test_jobs_that_something_else_sent_count_as_submitted() -> None:
    numbers = count_current_jobs(build_sources(10, JobCounts(8), 2, 40, recently_ended=3))
    assert (numbers.submitted, numbers.running, numbers.waiting) == (50, 2, 40)


def test_jobs_that_were_sent_again_count_once_and_have_not_failed() -> None:
    """Three of six jobs failed and were sent again; then one of them is done, and two fail again."""
    before = count_current_jobs(build_sources(9, JobCounts(3, 0, 3), 1, 2, retried=3))
    assert before == JobNumbers(6, 3, 0, 0, running=1, waiting=2)
    after = count_current_jobs(build_sources(9, JobCounts(4, 0, 2, repeated_failures=3), 0, 0))
    assert after == JobNumbers(6, 4, 0, 2)
    assert count_ended_jobs(9, JobCounts(4, 0, 2, repeated_failures=3), 0) == after


def test_while_jobs_are_replaced_those_that_will_be_removed_do_not_count() -> None:
    """22 of 30 jobs wait and are being removed; 30 others will be sent."""
    numbers = count_current_jobs(build_sources(60, JobCounts(5), 3, 0, replacing=30))
    assert numbers == JobNumbers(38, 5, running=3, waiting=30)


def test_jobs_that_left_an_empty_queue_do_not_wait() -> None:
    numbers = count_current_jobs(build_sources(48, JobCounts(16, 0, 31), 0, 0, is_empty=True))
    assert (numbers.running, numbers.waiting) == (1, 0)


def test_an_unknown_number_of_jobs_stays_unknown() -> None:
    assert count_current_jobs(build_sources(None, JobCounts(2), 1, 4)) == JobNumbers(None, 2, running=1, waiting=4)


def test_a_job_that_failed_again_after_it_was_sent_again_has_failed() -> None:
    failures = [FailedJob("a", 10.0, "r"), FailedJob("b", 30.0, "r"), FailedJob("c", 10.0, "r")]
    assert select_retried_jobs(failures, {"a": 20.0, "b": 20.0}) == {"a"}
