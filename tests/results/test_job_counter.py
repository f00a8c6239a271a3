"""Counting how jobs ended: each submission once, and each job by its latest submission."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.submission import SubmissionDocument
from distributed_something.observe.documents.replacements import Replacements
from distributed_something.results import job_counter
from distributed_something.results.job_counter import JobCounter, JobCounts, OverwrittenFiles, build_failed_job


def build_line(job: str, state: str = "done", ended: int = 0, *, message: str = "m1", **more: Any) -> dict[str, Any]:
    time = f"2026-11-23T10:45:{ended:02}.000Z"
    return {"job": job, "state": state, "final": True, "message_id": f"{job}/{message}", "ended": time, **more}


def count_ends(*lines: dict[str, Any]) -> JobCounts:
    counter = JobCounter()
    for line in lines:
        counter.add_end(line)
    return counter.count_jobs()


def test_done_failed_and_skipped_jobs_are_counted_apart() -> None:
    lines = [build_line("a"), build_line("b", "failed"), build_line("c", "skipped"), build_line("d")]
    assert count_ends(*lines) == JobCounts(done=2, already_there=1, failed=1)


def test_attempts_that_another_one_follows_are_not_counted() -> None:
    lines = [build_line("a", "failed", final=False), build_line("a", "interrupted", final=False)]
    assert count_ends(*lines) == JobCounts()


def test_a_submission_that_is_reported_twice_is_counted_once() -> None:
    assert count_ends(build_line("a", "failed"), build_line("a", "failed", 5)) == JobCounts(failed=1)


def test_a_job_that_failed_and_was_then_submitted_again_counts_by_its_later_end() -> None:
    first = build_line("a", "failed", 1)
    assert count_ends(first, build_line("a", "done", 2, message="m2")) == JobCounts(done=1, repeated_failures=1)
    assert count_ends(first, build_line("a", "skipped", 2, message="m2")) == JobCounts(
        already_there=1, repeated_failures=1
    )
    assert count_ends(first, build_line("a", "failed", 2, message="m2")) == JobCounts(failed=1, repeated_failures=1)


def test_a_job_that_was_done_and_then_failed_when_submitted_again_has_failed() -> None:
    counts = count_ends(build_line("a", "done", 1), build_line("a", "failed", 2, message="m2"))
    assert counts == JobCounts(done=1, failed=1)


def test_a_job_that_was_done_twice_is_one_job() -> None:
    """For example, two of its messages were delivered at the same time."""
    lines = [build_line("a", "done", 1), build_line("a", "skipped", 2, message="m2"),
             build_line("a", "done", 3, message="m3")]  # fmt: skip
    counts = count_ends(*lines)
    assert counts == JobCounts(done=1, already_there=1, repeated_done=1)
    assert counts.ended == 3
    assert count_ends(*reversed(lines)) == counts


def test_records_from_older_workers_which_do_not_say_whether_they_are_final_count() -> None:
    old = {"job": "a", "state": "failed", "attempts": 3, "ended": "2026-11-23T10:45:00.000Z"}
    assert count_ends(old, {"job": "b", "state": "done"}, {"job": "c", "state": "interrupted"}) == JobCounts(1, 0, 1)


def test_a_record_also_counts_the_jobs_other_submissions() -> None:
    others = [{"message_id": "a/m2", "state": "skipped", "ended": "2026-11-23T10:46:00.000Z"},
              {"message_id": "a/m3", "state": "failed", "ended": "2026-11-23T10:40:00.000Z"}, None]  # fmt: skip
    record = build_line("a", other_submissions=others)
    assert count_ends(record) == JobCounts(done=1, already_there=1, repeated_failures=1)
    skip = build_line("a", "skipped", message="m2")  # from a journal
    assert count_ends(skip, record, record) == JobCounts(done=1, already_there=1, repeated_failures=1)


def test_lines_that_are_not_valid_are_not_counted() -> None:
    assert count_ends({}, {"job": 5, "state": "done"}, {"job": "a"}, {"job": "a", "state": ["done"]}) == JobCounts()


def test_failed_jobs_are_listed_in_the_order_in_which_they_failed_with_the_details_of_their_last_end() -> None:
    counter = JobCounter()
    counter.add_end(build_line("late", "failed", 9, reason="r", exit_code=3, attempts=2, last_line="Error: no"))
    counter.add_end(build_line("early", "failed", 1, reason="first"))
    counter.add_end(build_line("early", "failed", 5, message="m2", reason="second"))
    early, late = counter.list_failed_jobs()
    assert (early.job, early.reason) == ("early", "second")
    assert (late.job, late.reason, late.exit_code, late.attempts, late.last_lines) == (
        "late",
        "r",
        3,
        2,
        ("Error: no",),
    )


def test_all_failed_jobs_are_counted_but_only_some_are_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(job_counter, "MAX_FAILURES_KEPT", 3)
    counter = JobCounter()
    for n in range(10):
        counter.add_end(build_line(f"job-{n}", "failed"))
    assert (counter.count_jobs().failed, len(counter.list_failed_jobs())) == (10, 3)


def test_the_oldest_and_the_newest_results_that_were_already_there_are_known() -> None:
    counter = JobCounter()
    assert counter.find_result_times() is None
    for job, time in (("a", "2026-11-03T00:00:00.000Z"), ("b", "2026-11-01T00:00:00.000Z"), ("c", None)):
        counter.add_end(build_line(job, "skipped", results_modified=time))
    counter.add_end(build_line("d", "skipped", results_of={"run": "r", "modified": "2026-11-02T00:00:00.000Z"}))
    counter.add_end(build_line("e", results_modified="2020-01-01T00:00:00.000Z"))  # done in this run
    days = [datetime(2026, 11, day, tzinfo=UTC).timestamp() for day in (1, 3)]
    assert counter.find_result_times() == tuple(days)


def test_files_that_several_jobs_wrote_are_counted_once_and_named(monkeypatch: Any) -> None:
    monkeypatch.setattr(job_counter, "MAX_FILE_NAMES_KEPT", 2)
    counter = JobCounter()
    counter.add_end(build_line("a", overwritten=["all/y", "all/x"]))
    counter.add_end(
        build_line("b", overwritten=[{"key": "all/x", "job": "a"}, {"key": "all/z", "job": "a"}])
    )  # a record
    counter.add_end(build_line("c", overwritten=[None, {}, 5]))
    assert counter.find_overwritten_files() == OverwrittenFiles(3, ("all/x", "all/y"))


def build_attempt(job: str, number: int, start: int, end: int, state: str = "failed", **more: Any) -> dict[str, Any]:
    """Return the line of an attempt from second `start` to second `end`."""
    started = f"2026-11-23T10:45:{start:02}.000Z"
    return build_line(job, state, end, attempts=number, started=started, **more)


def test_the_time_of_all_attempts_is_added_up_each_once_in_any_order() -> None:
    lines = [
        build_attempt("a", 1, 0, 10, final=False),
        build_attempt("a", 2, 10, 15, "interrupted", final=False),
        build_attempt("a", 3, 20, 50),
        build_attempt("b", 1, 0, 7, final=False),
        build_attempt("b", 2, 10, 12, "done"),
    ]
    short = [{**line, "attempt": line["attempts"]} for line in lines[:2]]
    lines.append({**lines[2], "earlier_attempts": [*short, None, {"attempt": 9, "state": "unknown"}]})  # the record
    for _ in range(20):
        random.shuffle(lines)
        counter = JobCounter()
        for line in [*lines, *lines]:
            counter.add_end(line)
        (failed,) = counter.list_failed_jobs()
        assert (failed.seconds, counter.total_seconds) == (45.0, 54.0)


def test_a_failed_job_has_what_its_cause_depends_on() -> None:
    counter = JobCounter()
    numbers = {"time_limit_seconds": 60, "peak_memory_bytes": 5, "memory_limit_bytes": 9}
    counter.add_end(build_line("a", "failed", telling_line="why", last_line="bye", group={"plate": "P1"}, **numbers))
    counter.add_end(build_line("b", "failed", 1, last_line="bye"))  # from an older worker
    new, old = counter.list_failed_jobs()
    assert (new.telling_line, new.group, old.telling_line, old.group) == ("why", {"plate": "P1"}, "bye", {})
    assert (new.time_limit_seconds, new.peak_memory_bytes, new.memory_limit_bytes) == (60.0, 5, 9)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["done", "skipped", "failed"]), st.integers(0, 3)),
        unique_by=lambda end: (end[0], end[2]),
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_and_the_number_of_reports_do_not_matter(
    ends: list[tuple[str, str, int]], rng: random.Random
) -> None:
    lines = [build_line(job, state, number, message=f"m{number}") for job, state, number in ends]
    shuffled = [*lines, *lines]
    rng.shuffle(shuffled)
    counts = count_ends(*shuffled)
    assert counts == count_ends(*lines)
    assert counts.ended == len(ends)
    last_states = {job: state for job, state, _ in sorted(ends, key=lambda end: end[2])}
    assert counts.failed == list(last_states.values()).count("failed")


def list_failing(*lines: dict[str, Any], since: float = 0.0) -> list[str]:
    counter = JobCounter()
    for line in lines:
        counter.add_end(line)
    return [failed.job for failed in counter.list_failing_jobs(since)]


def test_a_job_is_failing_while_its_latest_attempt_failed_and_it_has_not_ended() -> None:
    first, second = build_line("a", "failed", 1, final=False), build_line("a", "failed", 2, final=False)
    other = build_line("b", "failed", 3, final=False)
    assert list_failing(other, second, first) == ["a", "b"]
    counter = JobCounter()
    for line in (second, first):
        counter.add_end(line | {"reason": f"at {line['ended']}"})
    assert [failed.reason for failed in counter.list_failing_jobs()] == [f"at {second['ended']}"]
    for end in ("done", "failed", "skipped"):
        ended = build_line("a", end, 4)
        assert list_failing(first, ended) == list_failing(ended, first) == []


def test_a_job_that_ended_and_was_sent_again_is_failing_if_it_fails_then() -> None:
    done, again = build_line("a", "done", 1), build_line("a", "failed", 2, message="m2", final=False)
    assert list_failing(done, again) == ["a"]
    assert list_failing(again, build_line("a", "done", 3, message="m3")) == []


def test_attempts_at_jobs_that_were_replaced_do_not_make_them_failing() -> None:
    lines = [build_line(job, "failed", ended, final=False) for job, ended in (("a", 1), ("b", 5))]
    replaced_at = datetime(2026, 11, 23, 10, 45, 3, tzinfo=UTC).timestamp()
    assert list_failing(*lines, since=replaced_at) == ["b"]


def test_an_interrupted_attempt_does_not_make_a_job_failing() -> None:
    assert list_failing(build_line("a", "interrupted", 1, final=False)) == []


def test_a_job_that_failed_after_it_was_replaced_needs_nothing_more() -> None:
    lines = [build_line("a", "failed", 1, final=False), build_line("a", "failed", 2, final=False, replaced=True)]
    assert count_ends(*lines, lines[1]) == JobCounts(replaced=1)
    assert count_ends(*lines).ended == 1
    assert list_failing(*lines) == list_failing(*reversed(lines)) == []


def test_the_time_of_an_attempt_does_not_include_waiting_for_a_slot() -> None:
    times = {"started": "2026-11-23T10:45:00.000Z", "ended": "2026-11-23T10:45:20.000Z"}
    counter = JobCounter()
    counter.add_end({**build_line("a", "failed"), **times, "seconds": 0.5})
    counter.add_end({**build_line("b", "failed"), **times})  # from an older worker
    assert [failed.seconds for failed in counter.list_failed_jobs()] == [0.5, 20.0]
    assert counter.total_seconds == 20.5


def test_jobs_that_were_replaced_are_neither_failed_nor_done() -> None:
    """Their ends may have been added before the replacement was known."""
    counter = JobCounter()
    lines = [
        build_line("a", "failed", 30, sent=format_sent(10)), build_line("b", "done", 31, sent=format_sent(10)),
        build_line("new-a", "done", 50, sent=format_sent(40)), build_line("new-b", "failed", 51, sent=format_sent(40)),
    ]  # fmt: skip
    for line in lines:
        counter.add_end(line)
    assert counter.count_jobs() == JobCounts(done=2, failed=2)
    counter.replacements = REPLACED_AT_38
    assert counter.count_jobs() == JobCounts(done=1, failed=1, replaced=2, replaced_done=1, replaced_failures=1)
    assert counter.count_jobs().ended == 4
    assert [failed.job for failed in counter.list_failed_jobs()] == ["new-b"]
    assert [counter.is_last_end(line) for line in lines] == [False, False, True, True]


def test_a_replaced_job_that_was_sent_unchanged_counts_once() -> None:
    counter = JobCounter()
    counter.replacements = REPLACED_AT_38
    counter.add_end(build_line("a", "done", 30, sent=format_sent(10)))
    counter.add_end(build_line("a", "skipped", 50, message="m2", sent=format_sent(40)))
    counter.add_end(build_line("b", "failed", 30, sent=format_sent(10)))
    counter.add_end(build_line("b", "failed", 50, message="m2", sent=format_sent(40)))
    counter.add_end(build_line("c", "skipped", 30, sent=format_sent(10)))
    counter.add_end(build_line("c", "skipped", 50, message="m2", sent=format_sent(40)))
    counts = counter.count_jobs()
    assert (counts.done, counts.already_there, counts.failed, counts.ended) == (0, 2, 1, 6)
    assert counts.ended - counts.repeated - counts.replaced == 3
    assert (counts.replaced_done, counts.repeated_done) == (0, 1), "a job is not both already there and replaced"


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_replaced_job_counts_once_also_if_its_first_end_is_only_in_the_record_of_the_second(
    state: str, is_known: bool
) -> None:
    """The lines of a journal are read in any order, and older workers did not say when the first message was sent."""
    counter = JobCounter()
    counter.replacements = REPLACED_AT_38
    first = build_line("a", state, 30, sent=format_sent(10), submission="20261123T104510.000Z")
    keys = ("message_id", "state", "ended", *(("sent", "submission") if is_known else ()))
    last = "skipped" if state == "done" else "done"
    counter.add_end(build_line(
        "a", last, 50, message="m2", sent=format_sent(40), other_submissions=[{key: first[key] for key in keys}],
    ))  # fmt: skip
    counter.add_end(first)
    counts = counter.count_jobs()
    assert (counts.ended, counts.ended - counts.repeated - counts.replaced) == (2, 1)
    assert (counts.done, counts.already_there, counts.failed) == (last == "done", last == "skipped", 0)


def format_sent(second: int) -> str:
    return f"2026-11-23T10:45:{second:02}.000Z"


def _build_document(second: int, **more: Any) -> SubmissionDocument:
    time = f"20261123T1045{second:02}.000Z"
    return SubmissionDocument("app", "queue", time, "a.json", "digest", 2, 2, time, **more)


REPLACED_AT_38 = Replacements((_build_document(10), _build_document(38, replace=True, replaced=True)))


def test_secrets_that_a_program_has_printed_are_masked() -> None:
    failed = build_failed_job({
        "job": "a", "reason": "no login: token=abc", "telling_line": "DB_PASSWORD=geheim",
        "last_lines": ["start", "AWS_SECRET_ACCESS_KEY=geheim"],
    })  # fmt: skip
    assert (failed.reason, failed.telling_line, failed.last_lines) == ("no login: ***", "***", ("start", "***"))
    assert build_failed_job({"job": "a", "last_line": "password: geheim"}).telling_line == "***"
