"""The outcome of a run: from its journals, and from single records if the journals do not account for all jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from distributed_something.results import outcome as outcome_module
from distributed_something.results.causes import SharedValue
from distributed_something.results.job_counter import JobCounts, OverwrittenFiles
from distributed_something.results.outcome import RunOutcome, load_failures, load_run_outcome
from distributed_something.worker.machine.times import build_utc_timestamp
from tests.support.fakes import MONITOR_FILE
from tests.support.run_documents import RunDocuments, emulated_run

BUCKET = MONITOR_FILE.MONITOR_BUCKET_NAME


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(MONITOR_FILE) as documents:
        yield documents


def list_records_read(run: RunDocuments) -> list[str]:
    keys = [request["Key"] for request in run.s3.reads]
    return [key.rpartition("/")[2] for key in keys if "/jobs/" in key]


def load(run: RunDocuments, submitted: int | None, left: int = 0) -> RunOutcome:
    return load_run_outcome(run.s3, MONITOR_FILE, submitted, left)


def test_journals_that_account_for_all_jobs_are_read_without_any_record(run: RunDocuments) -> None:
    run.write_journal("c1", run.end_job("a"), run.end_job("b", "skipped"))
    run.write_journal("c2", run.end_job("c"), machine="i-2")
    outcome = load(run, submitted=3)
    assert outcome == RunOutcome(3, JobCounts(done=2, already_there=1), 0, [], 2, OverwrittenFiles())
    assert list_records_read(run) == []
    assert outcome.is_complete


def test_records_fill_the_gaps_of_a_container_that_was_killed(run: RunDocuments) -> None:
    run.write_journal("c1", run.end_job("a"))
    run.end_job("b")
    run.end_job("c", "failed", reason="exit code 1")
    run.end_job("d", "failed", final=False)
    run.put("a.1-abc.log.txt", b"a log is not a record")
    run.put("failed/c/a.json", b"{}")
    run.put("broken.json", b"{")
    outcome = load(run, submitted=4)
    assert outcome.counts == JobCounts(done=2, failed=1)
    assert (outcome.unrecorded, outcome.is_complete) == (1, False)


def test_only_records_of_jobs_that_no_journal_mentions_are_read(run: RunDocuments) -> None:
    now = build_utc_timestamp(time.time())
    run.write_journal("c1", *(run.end_job(f"a{n}", ended=now) for n in range(5)))
    run.end_job("b")
    assert load(run, submitted=6).counts.done == 6
    assert list_records_read(run) == ["b.json"]


def test_a_job_that_was_submitted_again_is_counted_by_its_record_if_the_later_end_is_in_no_journal(
    run: RunDocuments,
) -> None:
    run.write_journal("c1", run.end_job("a", "failed", message_id="first"))
    run.end_job("a", message_id="second", ended="2026-11-23T10:51:00.000Z")
    assert load(run, submitted=2).counts == JobCounts(done=1, repeated_failures=1)


def test_a_second_submission_that_was_skipped_is_counted_by_its_record_if_it_is_in_no_journal(
    run: RunDocuments,
) -> None:
    """The record of a job that was done gets a line about the submission that was skipped."""
    run.write_journal("c1", run.end_job("a"))
    run.end_job("a", other_submissions=[{"message_id": "second", "state": "skipped", "ended": "2026-11-23T10:50:00Z"}])
    assert load(run, submitted=2).counts == JobCounts(done=1, already_there=1)


def test_files_that_several_jobs_wrote_are_named(run: RunDocuments) -> None:
    run.write_journal("c1", run.end_job("a", overwritten=[{"key": "all/a", "job": "b"}]))
    assert load(run, submitted=1).overwritten == OverwrittenFiles(1, ("all/a",))


@pytest.mark.parametrize(("submitted", "unrecorded"), [(5, 0), (9, 4), (None, 0)])
def test_the_number_of_records_read_is_limited_and_the_outcome_says_how_many_were_not_read(
    run: RunDocuments, monkeypatch: pytest.MonkeyPatch, submitted: int | None, unrecorded: int
) -> None:
    monkeypatch.setattr(outcome_module, "MAX_RECORDS_READ", 2)
    for n in range(5):
        run.end_job(f"a{n}")
    outcome = load(run, submitted)
    assert (outcome.counts.done, outcome.unread, outcome.unrecorded) == (2, 3, unrecorded)
    assert not outcome.is_complete


def test_a_run_of_an_older_version_without_journals_is_counted_by_its_records(run: RunDocuments) -> None:
    for job, state in (("a", "done"), ("b", "failed"), ("c", "interrupted")):
        run.put(f"{job}.json", json.dumps({"job": job, "state": state, "attempts": 1}).encode())
    outcome = load(run, submitted=None)
    assert (outcome.submitted, outcome.counts, outcome.unrecorded) == (None, JobCounts(done=1, failed=1), 0)


def test_jobs_in_the_queue_are_neither_done_nor_unknown(run: RunDocuments) -> None:
    run.write_journal("c1", run.end_job("a"))
    outcome = load(run, submitted=4, left=3)
    assert (outcome.left, outcome.unrecorded, outcome.is_complete) == (3, 0, False)


def test_a_failed_jobs_last_lines_and_log_come_from_its_record(run: RunDocuments) -> None:
    line = run.end_job("a", "failed", reason="exit code 1", last_lines=["one", "token=x"], log="s3://b/a.log")
    run.write_journal("c1", line)
    (group,) = load(run, submitted=1).groups
    assert (group.example.last_lines, group.example.log) == (("one", "***"), "s3://b/a.log")


def test_details_are_read_only_for_one_failed_job_of_each_of_the_largest_groups(
    run: RunDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_module, "MAX_EXAMPLES_READ", 2)
    for number, count in enumerate((1, 3, 2)):
        failed = [
            run.end_job(f"job{number}{n}", "failed", exit_code=number + 1, log="s3://b/log") for n in range(count)
        ]
        run.write_journal(f"c{number}", *failed)
    outcome = load(run, submitted=6)
    assert [(group.cause, len(group.jobs)) for group in outcome.groups] == [
        ("exit code 2", 3), ("exit code 3", 2), ("exit code 1", 1),
    ]  # fmt: skip
    assert [group.example.log for group in outcome.groups] == ["s3://b/log", "s3://b/log", ""]
    assert sorted(list_records_read(run)) == ["job10.json", "job20.json"]


def test_the_usual_values_of_all_jobs_tell_which_ones_failed_jobs_share(run: RunDocuments) -> None:
    jobs = [("P7" if n < 3 else f"P{n}", "failed" if n < 3 else "done") for n in range(20)]
    lines = [
        run.end_job(f"j{n}", state, message={"group": {"plate": plate, "kind": "x"}})
        for n, (plate, state) in enumerate(jobs)
    ]
    run.write_journal("c1", *lines)
    (group,) = load(run, submitted=20).groups
    assert group.shared == (SharedValue("plate", "P7", 3, 3),), "all jobs have kind = x"


def test_a_lost_line_does_not_hide_the_time_of_the_attempts(run: RunDocuments) -> None:
    times = [f"2026-11-23T10:{minute}:00.000Z" for minute in (40, 41, 43)]
    earlier = {"attempt": 1, "state": "failed", "started": times[0], "ended": times[1]}
    end = {"attempts": 2, "started": times[1], "ended": times[2], "earlier_attempts": [earlier]}
    run.write_journal("c1", run.end_job("a", started=times[0], ended=times[1]))
    run.end_job("b", "failed", **end)
    outcome = load(run, submitted=2)
    assert outcome.total_seconds == 60 + 60 + 120
    assert outcome.groups[0].seconds == 180


def test_memory_and_machine_come_from_the_first_line_of_the_journal(run: RunDocuments) -> None:
    end = run.end_job("a", "failed", reason="out of memory: …", reason_class="out of memory")
    run.write_journal("c1", end, memory_limit_bytes=3_500 * 2**20)
    assert [group.cause for group in load(run, submitted=1).groups] == [
        "out of memory: killed at the limit of 3,500 MiB"
    ]


def test_files_of_failed_attempts_are_not_listed(run: RunDocuments) -> None:
    """A job with `keep_failed` may have thousands of them."""
    for n in range(3):
        run.put(f"failed/a/{n}", b"")
    run.end_job("b")
    pages: list[Any] = []
    run.s3.meta.events.register("after-call.s3.ListObjectsV2", lambda parsed, **_: pages.append(parsed))
    assert load(run, submitted=2).counts.done == 1
    assert [len(page.get("Contents", [])) for page in pages if page["Prefix"].endswith("/jobs/")] == [1]


def test_a_run_without_any_documents_has_lost_all_its_jobs(run: RunDocuments) -> None:
    outcome = load(run, submitted=7)
    assert (outcome.counts.ended, outcome.unrecorded, outcome.machines) == (0, 7, 0)


def test_jobs_in_the_queue_whose_attempts_failed_are_grouped_by_cause_with_an_example(run: RunDocuments) -> None:
    last = {"last_lines": ["no such plate"], "telling_line": "no such plate", "log": "s3://b/a.log"}
    lines = [
        run.end_job(job, "failed", final=False, reason="exit code 3", exit_code=3, reason_class="program", **last)
        for job in ("a", "b", "b")
    ]
    run.write_journal("c1", *lines)
    outcome = load(run, submitted=5, left=5)
    assert (outcome.counts, outcome.groups) == (JobCounts(), ())
    (group,) = outcome.failing_groups
    assert (group.cause, [failed.job for failed in group.jobs]) == ("exit code 3: no such plate", ["a", "b"])
    assert group.example.log == "s3://b/a.log"
    known = load_failures(run.s3, MONITOR_FILE)
    assert known is not None
    assert [failed.job for failed in known.all_failures] == ["a", "b"]


def test_no_line_is_read_if_no_attempt_has_failed(run: RunDocuments) -> None:
    run.write_journal("c1", run.end_job("a"))
    assert load_failures(run.s3, MONITOR_FILE) is None
