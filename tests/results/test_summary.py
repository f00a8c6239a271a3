"""The summary of a run: its text, its JSON document, and what is already saved."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.core.text import measure_columns
from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import FailedJob, JobCounts, OverwrittenFiles
from distributed_something.results.outcome import MAX_RECORDS_READ, RunOutcome
from distributed_something.results.summary import (
    DeadLetters,
    RunSummary,
    find_run_summary,
    format_retry_example,
    format_run_outcome,
    save_run_summary,
)
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeBucket, build_client_error

TEXT_KEY, DATA_KEY = f"runs/App/{RUN}/summary.txt", f"runs/App/{RUN}/summary.json"
COMPLETE = RunOutcome(48, JobCounts(done=48), 0, [], 3)
SUMMARY = RunSummary("run", is_clean=True, is_complete=True, text="removed  everything\njobs done  48")


def format_lines(outcome: RunOutcome, letters: DeadLetters | None = None, seconds: float = 4000.0) -> list[str]:
    return format_run_outcome(outcome, MONITOR_FILE, seconds, letters).splitlines()


# The text


def test_a_complete_run() -> None:
    assert format_lines(COMPLETE) == [
        "verdict         every job is done",
        "jobs done       48",
        "jobs failed     0",
        "time            67 min",
        "machines        3",
        f"records, logs   s3://app-bucket/runs/App/{RUN}/jobs/",
    ]


def test_every_number_has_a_row_of_its_own() -> None:
    counts = JobCounts(done=12_000, already_there=3_000, failed=2, repeated_failures=1)
    outcome = RunOutcome(15_016, counts, 4, [FailedJob("a", 1.0, "r")], 1, unread=6)
    assert format_lines(outcome)[:9] == [
        "verdict         2 of 15,015 jobs failed, 4 jobs left in the queue, 9 jobs",
        "                unaccounted for",
        "jobs done       12,000",
        "already there   3,000",
        "jobs failed     2",
        "in the queue    4",
        "no record       3 (neither ended nor in the queue)",
        "                and 1 more end of jobs that were sent again",
        f"not counted     6 records that no journal mentions (the limit is {MAX_RECORDS_READ:,})",
    ]


@pytest.mark.parametrize(("newest", "age"), [
    (START, "2026-11-23 10:45 UTC"), (START + 86400, "2026-11-23 10:45 to 2026-11-24 10:45 UTC"),
])  # fmt: skip
def test_the_age_of_results_that_were_already_there_is_shown(newest: float, age: str) -> None:
    outcome = replace(COMPLETE, counts=JobCounts(already_there=48), result_times=(START, newest))
    assert format_lines(outcome)[2] == f"already there   48 (results from {age})"


@pytest.mark.parametrize(("count", "last"), [(2, "all/b"), (1_200, "… and 1,198 more files")])
def test_files_that_several_jobs_wrote_are_counted_and_named(count: int, last: str) -> None:
    lines = format_lines(replace(COMPLETE, overwritten=OverwrittenFiles(count, ("all/a", "all/b"))))
    first = lines.index(f"overwritten     {count:,} files, each written by several jobs; the last is kept:")
    assert lines[first + 1] == "                all/a"
    assert lines[-1] == f"                {last}"


def test_a_run_whose_number_of_jobs_is_unknown_has_no_jobs_without_a_record() -> None:
    lines = format_lines(replace(COMPLETE, submitted=None))
    assert not [line for line in lines if line.startswith("no record")]


def build_outcome(failures: list[FailedJob], **more: Any) -> RunOutcome:
    counts = JobCounts(done=1, failed=len(failures))
    return RunOutcome(len(failures) + 1, counts, 0, failures, 1, groups=tuple(group_failures(failures)), **more)


def format_failures_of(outcome: RunOutcome, cost: float | None = None) -> list[str]:
    lines = format_run_outcome(outcome, MONITOR_FILE, 4000.0, None, cost).splitlines()
    return lines[lines.index(next(line for line in lines if line.startswith("failed, by cause"))) :]


def test_failed_jobs_are_shown_by_cause_with_an_example() -> None:
    failures = [
        FailedJob(f"P7-A0{n}-0123456789", float(n), "exit code 3", "program", 3, 3, log=f"s3://b/{n}.log.txt",
                  telling_line=f"ValueError: shape mismatch ({n}, 4)", group={"plate": "P7", "well": f"A0{n}"})
        for n in range(3)
    ]  # fmt: skip
    failures.append(
        FailedJob("P1-A01-0123456789", 9.0, "no reason given", "time-out", 1, -15, time_limit_seconds=3600.0)
    )
    first, second = group_failures(failures)
    assert format_failures_of(build_outcome(failures)) == [
        f"failed, by cause{'jobs':>64}",
        f"{first.id}  exit code 3: ValueError: shape mismatch (#, #){'3':>25}",
        "         for example P7-A00-0123456789 (after 3 attempts)",
        "         | ValueError: shape mismatch (0, 4)",
        "         3 of 3 have plate = P7",
        "         log: s3://b/0.log.txt",
        f"{second.id}  timed out after 60 minutes{'1':>45}",
        "         for example P1-A01-0123456789 (after 1 attempt)",
        "         | no reason given",
    ]


def test_a_reason_is_not_cut_off_and_is_shown_beside_the_log_if_the_log_does_not_explain_the_failure() -> None:
    address = f"s3://{'bucket' * 5}/{'images/' * 5}A01.tif"
    missing = FailedJob("a", 1.0, f"the input {address} does not exist (NoSuchKey)", "missing input")
    upload = FailedJob("b", 2.0, "the upload was refused", "upload", exit_code=0, telling_line="5 images done")
    lines = [line.strip() for line in format_failures_of(build_outcome([missing, upload]))]
    assert [line for line in lines if line.startswith("|")] == [
        f"| the input {address[:59]}", f"| {address[59:]} does not exist (NoSuchKey)",
        "| the upload was refused", "| 5 images done",
    ]  # fmt: skip


@pytest.mark.parametrize("command", [
    "python run.py retry files/AppSpotFleetRequestId.json",
    "python run.py --local --project '/tmp/a folder/project' retry '/tmp/a folder/project/files/AppSpotFleet.json'",
])  # fmt: skip
def test_the_command_that_runs_the_jobs_of_one_cause_again_is_shown(command: str) -> None:
    outcome = build_outcome([FailedJob("a", 1.0, "r", "disk")])
    text = format_retry_example(outcome.groups, command)
    _, hint, shown = text.partition("to run only the jobs of one cause again, give its ID, for example:\n")
    assert hint
    assert max(map(len, shown.splitlines())) <= 80
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {shown}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines() == shlex.split(f"{command} --only {outcome.groups[0].id}")


def test_the_cost_of_each_cause_is_shown_if_it_is_known() -> None:
    failures = [FailedJob("a", 1.0, "r", "disk", seconds=900.0), FailedJob("b", 2.0, "r", "upload", seconds=1.0)]
    outcome = build_outcome(failures, total_seconds=3600.0)
    rows = [line[-16:] for line in format_failures_of(outcome, 2.0) if line.startswith(("failed", "F"))]
    assert rows == ["    jobs     USD", "       1    0.50", "       1   <0.01"]
    assert all(line.endswith("       1") for line in format_failures_of(outcome) if line.startswith("F"))


def test_nothing_about_failures_is_wider_than_a_terminal_except_the_address_of_a_log() -> None:
    wide = "画像" * 100
    failures = [FailedJob(wide, 1.0, "r", "program", 12, 1, log="s3://b/" + "x" * 100, telling_line=wide,
                          group={"plate": wide})] * 3  # fmt: skip
    failures.append(FailedJob("b", 1.0, "r\n\x1b[31m" * 100, "aws"))
    lines = format_failures_of(build_outcome(failures, total_seconds=9.0), 123456.0)
    widths = [measure_columns(line) for line in lines if "s3://" not in line]
    assert max(widths) <= 80
    assert all(line.isprintable() for line in lines)
    assert sum("…" in line for line in lines) >= 5


def test_twenty_causes_are_shown_and_the_others_are_counted() -> None:
    failures = [FailedJob(f"job-{n}-{m}", float(n), "", "program", 1, n + 1) for n in range(22) for m in range(2)]
    shown = format_failures_of(build_outcome(failures[:40]))
    assert sum(line.startswith("F") for line in shown) == 20
    assert not shown[-1].startswith("…")
    shown = format_failures_of(build_outcome(failures))
    assert sum(line.startswith("F") for line in shown) == 20
    assert shown[-1] == "… and 2 more causes (4 failed jobs); see jobs.tsv"


def test_failed_jobs_beyond_those_that_are_kept_in_memory_are_mentioned() -> None:
    outcome = build_outcome([FailedJob("a", 1.0, "r", "disk")])
    shown = format_failures_of(replace(outcome, counts=JobCounts(done=1, failed=30_001)))
    assert shown[-1] == "… and 30,000 more failed jobs that are not grouped; see jobs.tsv"


def test_the_table_of_all_jobs_is_mentioned_if_it_is_saved() -> None:
    lines = format_run_outcome(COMPLETE, MONITOR_FILE, 1.0, None, has_table=True).splitlines()
    assert lines[-1] == f"all jobs        s3://app-bucket/runs/App/{RUN}/jobs.tsv"


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
    failed = FailedJob("a", 1.0, "exit code 3", "program", 1, 3, log="s3://b/log", telling_line="no image 5")
    (group,) = group_failures([failed])
    counts = JobCounts(done=5, already_there=4, failed=3, repeated_failures=2)
    outcome = RunOutcome(20, counts, 1, [failed], 2, unread=2, groups=(group,))
    save(bucket, replace(SUMMARY, is_complete=False), outcome)
    assert list(bucket.objects) == [TEXT_KEY, DATA_KEY], "the JSON document is last, because it says that both exist"
    assert bucket.objects[TEXT_KEY].decode() == f"{SUMMARY.text}\n"
    assert json.loads(bucket.objects[DATA_KEY]) == {
        "app": "App", "run": RUN, "reason": "run", "clean": True, "complete": False, "ended": None, "report": "",
        "jobs": {"submitted": 20, "done": 5, "already_there": 4, "failed": 3, "repeated": 2, "replaced": 0, "left": 1,
                 "unread": 2, "unrecorded": 3, "overwritten_files": 0},
        "failing": [], "start_failure": None,
        "failures": [{
            "id": group.id, "cause": "exit code 3: no image #", "reason_class": "program", "exit_code": 3, "jobs": 1,
            "example": {"job": "a", "telling_line": "no image 5", "log": "s3://b/log"},
        }],
    }  # fmt: skip


def test_counts_that_are_unknown_are_null(bucket: Any) -> None:
    save(bucket, outcome=None)
    document = json.loads(bucket.objects[DATA_KEY])
    assert (document["jobs"], document["failures"]) == (None, None)
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


def test_a_run_that_ended_before_any_job_failed_for_good_names_the_causes_of_the_failed_attempts() -> None:
    failing = [FailedJob(f"job-{n}", 1.0, "the program 'none' cannot be started", "program") for n in range(12)]
    outcome = replace(
        RunOutcome(60, JobCounts(), 60, [], 1), failing=failing, failing_groups=tuple(group_failures(failing))
    )
    lines = format_lines(outcome)
    assert lines[0] == "verdict         60 jobs left in the queue"
    assert lines[2] == "jobs failed     0"
    start = lines.index(next(line for line in lines if line.startswith("failed attempts of jobs that have not ended")))
    assert lines[start].split()[-1] == "jobs"
    assert lines[start + 1].split()[1:] == ["the", "program", "'none'", "cannot", "be", "started", "12"]
    assert all(measure_columns(line) <= 80 for line in lines)
    bucket: Any = FakeBucket()
    save_run_summary(bucket, MONITOR_FILE, SUMMARY, outcome)
    (saved,) = json.loads(bucket.objects[DATA_KEY])["failing"]
    assert (saved["jobs"], saved["cause"]) == (12, "the program 'none' cannot be started")


def test_jobs_that_failed_after_they_were_replaced_have_a_row_and_are_not_missing() -> None:
    outcome = RunOutcome(65, JobCounts(done=60, replaced=5), 0, [], 2)
    lines = format_lines(outcome)
    assert lines[0] == "verdict         every job is done"
    assert "replaced        5 that failed; submitJob --replace has sent new ones" in lines
    assert format_lines(RunOutcome(65, JobCounts(done=59, failed=1, replaced=5), 0, [], 2))[0] == (
        "verdict         1 of 60 jobs failed"
    )


def test_a_single_job_is_not_called_jobs() -> None:
    outcome = RunOutcome(1, JobCounts(failed=1), 0, [FailedJob("a", 1.0, "r")], 1)
    assert format_lines(outcome)[0] == "verdict         1 of 1 job failed"
    assert format_lines(replace(outcome, submitted=None))[0] == "verdict         1 job failed"


@pytest.mark.parametrize(("machines", "cost", "shown"), [(2, 0.5, "2"), (0, 0.5, "unknown"), (0, 0.0, "0")])
def test_a_run_that_cost_something_had_machines(machines: int, cost: float, shown: str) -> None:
    outcome = replace(COMPLETE, machines=machines)
    text = format_run_outcome(outcome, MONITOR_FILE, 60.0, None, cost)
    assert f"machines        {shown}\n" in text
