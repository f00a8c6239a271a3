"""The summary of a run: its text, its JSON document, and what is already saved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.results.job_counter import FailedJob, JobCounts, OverwrittenFiles
from distributed_something.results.outcome import MAX_RECORDS_READ, RunOutcome
from distributed_something.results.summary import (
    DeadLetters,
    RunSummary,
    find_run_summary,
    format_run_outcome,
    save_run_summary,
)
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeBucket, build_client_error

TEXT_KEY, DATA_KEY = f"runs/App/{RUN}/summary.txt", f"runs/App/{RUN}/summary.json"
COMPLETE = RunOutcome(48, JobCounts(done=48), 0, [], 3)
SUMMARY = RunSummary("run", is_clean=True, is_complete=True, text="removed  everything\njobs done  48")


def format_lines(outcome: RunOutcome, letters: DeadLetters | None = None, seconds: float = 4000.0) -> list[str]:
    return format_run_outcome(outcome, MONITOR_FILE, seconds, letters).splitlines()


def build_failures(count: int) -> list[FailedJob]:
    return [FailedJob(f"job-{n}", float(n), f"exit code {n}") for n in range(count)]


# The text


def test_a_complete_run() -> None:
    assert format_lines(COMPLETE) == [
        "jobs done       48",
        "jobs failed     0",
        "time            67 min",
        "machines        3",
        f"records, logs   s3://app-bucket/runs/App/{RUN}/jobs/",
    ]


def test_every_number_has_a_row_of_its_own() -> None:
    counts = JobCounts(done=12_000, already_there=3_000, failed=2, repeated=1)
    outcome = RunOutcome(15_016, counts, 4, build_failures(2), 1, unread=6)
    assert format_lines(outcome)[:7] == [
        "jobs done       12,000",
        "already there   3,000",
        "jobs failed     2",
        "in the queue    4",
        "no record       3 (neither ended nor in the queue)",
        "                and 1 failure of jobs that were sent again",
        f"not counted     6 records that no journal mentions; only {MAX_RECORDS_READ:,} of them were read",
    ]


@pytest.mark.parametrize(("newest", "age"), [
    (START, "2026-11-23 10:45 UTC"), (START + 86400, "2026-11-23 10:45 to 2026-11-24 10:45 UTC"),
])  # fmt: skip
def test_the_age_of_results_that_were_already_there_is_shown(newest: float, age: str) -> None:
    outcome = replace(COMPLETE, counts=JobCounts(already_there=48), result_times=(START, newest))
    assert format_lines(outcome)[1] == f"already there   48 (results from {age})"


@pytest.mark.parametrize(("count", "last"), [(2, "all/b"), (1_200, "… and 1,198 more files")])
def test_files_that_several_jobs_wrote_are_counted_and_named(count: int, last: str) -> None:
    lines = format_lines(replace(COMPLETE, overwritten=OverwrittenFiles(count, ("all/a", "all/b"))))
    first = lines.index(f"overwritten     {count:,} files, written by several jobs; the last job's content remains:")
    assert lines[first + 1] == "                all/a"
    assert lines[-1] == f"                {last}"


def test_a_run_whose_number_of_jobs_is_unknown_has_no_jobs_without_a_record() -> None:
    lines = format_lines(replace(COMPLETE, submitted=None))
    assert not [line for line in lines if line.startswith("no record")]


def test_a_failed_job_is_shown_with_its_reason_its_last_lines_and_its_log() -> None:
    lines = tuple(f"line {n}" for n in range(7))
    failed = FailedJob("A1-0123456789", 0.0, "exit code 3", "program", 3, 3, lines, "s3://b/log.txt")
    shown = format_lines(replace(COMPLETE, counts=JobCounts(47, failed=1), failures=[failed]))
    assert shown[-7:] == [
        "failed          A1-0123456789: exit code 3 (after 3 attempts)",
        *(f"                | line {n}" for n in range(2, 7)),
        "                log: s3://b/log.txt",
    ]


def test_a_failed_job_about_which_little_is_known_has_one_line() -> None:
    once = FailedJob("a", 0.0, "no reason given", attempts=1)
    shown = format_lines(replace(COMPLETE, failures=[once, replace(once, job="b", attempts=None)]))
    assert shown[-2:] == ["failed          a: no reason given (after 1 attempt)", "failed          b: no reason given"]


@pytest.mark.parametrize(("failed", "last"), [
    (20, "failed          job-19: exit code 19"),
    (21, "… and 1 more failed job; see their records"),
    (5_020, "… and 5,000 more failed jobs; see their records"),
])  # fmt: skip
def test_twenty_failed_jobs_are_shown(failed: int, last: str) -> None:
    counts = JobCounts(done=1, failed=failed)
    shown = format_lines(RunOutcome(failed + 1, counts, 0, build_failures(min(failed, 100)), 1))
    assert sum(line.startswith("failed ") for line in shown) == 20
    assert shown[-1] == last


@pytest.mark.parametrize(("letters", "text"), [
    (DeadLetters("AppDead", 3, 0), "3 in AppDead"),
    (DeadLetters("AppDead", 1_300, 1_200), "1,300 in AppDead, 1,200 of them older than this run"),
    (DeadLetters("AppDead", 3, 7), "3 in AppDead, 3 of them older than this run"),
    (DeadLetters("AppDead", 3, None), "3 in AppDead"),
])  # fmt: skip
def test_letters_in_the_dead_letter_queue_are_mentioned_once(letters: DeadLetters, text: str) -> None:
    mentions = [line for line in format_lines(COMPLETE, letters) if "AppDead" in line]
    assert mentions == [f"dead letters    {text}"]


@pytest.mark.parametrize("letters", [None, DeadLetters("AppDead", 0, 5)])
def test_an_empty_or_unknown_dead_letter_queue_is_not_mentioned(letters: DeadLetters | None) -> None:
    assert format_lines(COMPLETE, letters) == format_lines(COMPLETE)


# What is saved


@pytest.fixture
def bucket() -> Any:
    return FakeBucket()


def save(bucket: Any, summary: RunSummary = SUMMARY, outcome: RunOutcome | None = COMPLETE) -> None:
    save_run_summary(bucket, MONITOR_FILE, summary, outcome)


def test_the_text_and_the_numbers_are_saved(bucket: Any) -> None:
    outcome = RunOutcome(20, JobCounts(done=5, already_there=4, failed=3, repeated=2), 1, [], 2, unread=2)
    save(bucket, replace(SUMMARY, is_complete=False), outcome)
    assert list(bucket.objects) == [TEXT_KEY, DATA_KEY], "the JSON document is last, because it says that both exist"
    assert bucket.objects[TEXT_KEY].decode() == f"{SUMMARY.text}\n"
    assert json.loads(bucket.objects[DATA_KEY]) == {
        "app": "App", "run": RUN, "reason": "run", "clean": True, "complete": False,
        "jobs": {"submitted": 20, "done": 5, "already_there": 4, "failed": 3, "repeated": 2, "left": 1, "unread": 2,
                 "unrecorded": 3, "overwritten_files": 0},
    }  # fmt: skip


def test_counts_that_are_unknown_are_null(bucket: Any) -> None:
    save(bucket, outcome=None)
    assert json.loads(bucket.objects[DATA_KEY])["jobs"] is None
    bucket.objects.clear()
    save(bucket, outcome=replace(COMPLETE, submitted=None))
    assert json.loads(bucket.objects[DATA_KEY])["jobs"]["submitted"] is None


@pytest.mark.parametrize("summary", [
    SUMMARY,
    RunSummary("cost", is_clean=True, is_complete=False, text="größe\n\nlast line"),
    RunSummary("", is_clean=False, is_complete=False, text=""),
])  # fmt: skip
def test_a_saved_summary_is_read_as_it_was(bucket: Any, summary: RunSummary) -> None:
    save(bucket, summary)
    assert find_run_summary(bucket, MONITOR_FILE) == summary


@pytest.mark.parametrize("reason", ["run", "cost"])
def test_a_saved_summary_is_not_overwritten(bucket: Any, reason: str) -> None:
    save(bucket, replace(SUMMARY, reason=reason))
    before = dict(bucket.objects)
    save(bucket, replace(SUMMARY, is_clean=False, is_complete=False, text="nothing was found"), None)
    save(bucket, replace(SUMMARY, text="later"))
    assert bucket.objects == before


def test_a_summary_replaces_one_that_says_that_something_could_not_be_removed(bucket: Any) -> None:
    save(bucket, replace(SUMMARY, is_clean=False, text="NOT REMOVED"))
    save(bucket)
    assert find_run_summary(bucket, MONITOR_FILE) == SUMMARY


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"null", b'"x"', b"\xff"])
def test_a_missing_or_broken_summary_is_ignored_and_replaced(bucket: Any, data: bytes | None) -> None:
    bucket.objects[TEXT_KEY] = b"half a summary"
    if data is not None:
        bucket.objects[DATA_KEY] = data
    assert find_run_summary(bucket, MONITOR_FILE) is None
    save(bucket)
    assert find_run_summary(bucket, MONITOR_FILE) == SUMMARY


def test_numbers_without_the_text_are_ignored(bucket: Any) -> None:
    save(bucket)
    del bucket.objects[TEXT_KEY]
    assert find_run_summary(bucket, MONITOR_FILE) is None


@pytest.mark.parametrize("data", [b"{}", b'{"clean": "yes", "complete": 1, "reason": "run"}'])
def test_a_summary_that_does_not_say_so_is_neither_clean_nor_complete(bucket: Any, data: bytes) -> None:
    bucket.objects = {TEXT_KEY: b"text\n", DATA_KEY: data}
    found = find_run_summary(bucket, MONITOR_FILE)
    assert found is not None
    assert (found.is_clean, found.is_complete, found.text) == (False, False, "text")


def test_a_summary_that_cannot_be_read_is_not_overwritten(bucket: Any) -> None:
    def refuse(**_: object) -> None:
        raise build_client_error("AccessDenied", "GetObject")

    bucket.objects = {TEXT_KEY: b"text\n", DATA_KEY: b"{}"}
    bucket.get_object = refuse
    with pytest.raises(ClientError):
        find_run_summary(bucket, MONITOR_FILE)
    with pytest.raises(ClientError):
        save(bucket)
    assert bucket.objects[TEXT_KEY] == b"text\n"
