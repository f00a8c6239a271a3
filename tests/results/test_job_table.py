"""The table of a run's jobs: one row per job, which spreadsheets and scripts can read."""

from __future__ import annotations

import csv
import errno
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results import job_table
from distributed_something.results.job_counter import JobCounter
from distributed_something.results.job_table import JobTable
from distributed_something.results.outcome import load_run_outcome
from tests.support.fakes import MONITOR_FILE, FakeBucket
from tests.support.run_documents import RunDocuments, emulated_run

TIMES = {"started": "2026-11-23T10:45:00.000Z", "ended": "2026-11-23T10:46:30.500Z"}


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(MONITOR_FILE) as documents:
        yield documents


def parse_table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))


def write_table(*lines: dict[str, Any]) -> str:
    """Return the table of a run with these lines."""
    table, s3 = JobTable(), FakeBucket()
    counter = JobCounter(table.add_end)
    for line in lines:
        counter.add_end(line)
    table.finish(counter.is_last_end)
    table.save(s3, MONITOR_FILE)  # type: ignore[arg-type]
    assert not table.problem
    return s3.objects[MONITOR_FILE.keys.job_table].decode()


def build_line(job: str, state: str = "done", **more: Any) -> dict[str, Any]:
    return {"job": job, "state": state, "final": True, "message_id": job, "attempts": 1, **TIMES, **more}


def test_each_job_has_a_row_with_everything_that_the_journals_say(run: RunDocuments) -> None:
    location = "s3://app-bucket/results/a"
    run.write_journal(
        "c1",
        run.end_job("a", exit_code=0, peak_memory_bytes=5, output_location=location,
                    message={"group": {"plate": "P1", "well": "A01"}}, **TIMES),
        run.end_job("b", "failed", reason_class="program", exit_code=3, reason="exit code 3", telling_line="no 5",
                    **TIMES),
        machine="i-7",
    )  # fmt: skip
    run.end_job("c", machine="i-8", message={"group": {"plate": "P2"}})  # its container was killed
    table = JobTable()
    outcome = load_run_outcome(run.s3, MONITOR_FILE, submitted=3, left=0, table=table)
    table.save(run.s3, MONITOR_FILE)
    body = run.s3.get_object(Bucket=MONITOR_FILE.MONITOR_BUCKET_NAME, Key=MONITOR_FILE.keys.job_table)["Body"].read()
    lines = [line.split("\t") for line in body.decode().splitlines()]
    cause = outcome.groups[0].id
    assert lines == [
        ["job", "group.plate", "group.well", "state", "attempts", "started", "seconds", "exit_code", "cause", "machine",
         "peak_memory_bytes", "output_location", "reason"],
        ["a", "P1", "A01", "done", "1", TIMES["started"], "90.5", "0", "", "i-7", "5", location, ""],
        ["b", "", "", "failed", "1", TIMES["started"], "90.5", "3", cause, "i-7", "", "", "exit code 3; no 5"],
        ["c", "P2", "", "done", "1", "", "", "", "", "i-8", "", "", ""],
    ]  # fmt: skip


def test_a_job_that_was_submitted_several_times_has_a_row_for_its_last_end() -> None:
    first = build_line("a", "failed")
    second = build_line("a", message_id="2", attempts=2, ended="2026-11-23T10:50:00.000Z")
    for lines in ((first, second), (second, first), (first, second, first)):
        rows = parse_table(write_table(*lines))
        assert [(row["job"], row["state"], row["attempts"]) for row in rows] == [("a", "done", "2")]


def test_attempts_that_were_not_the_last_one_have_no_row() -> None:
    lines = [build_line("a", "failed", final=False), build_line("a", "failed", attempts=2)]
    assert [row["attempts"] for row in parse_table(write_table(*lines))] == ["2"]


@pytest.mark.parametrize(
    ("recorded", "cell"), [(-11, "139"), (139, "139"), (-9, "137"), (3, "3"), (None, ""), ("x", "")]
)
def test_a_program_that_a_signal_ended_has_the_exit_code_that_a_shell_reports(recorded: object, cell: str) -> None:
    (row,) = parse_table(write_table(build_line("a", "failed", exit_code=recorded)))
    assert row["exit_code"] == cell


def test_a_job_whose_last_worker_was_lost_has_no_machine_and_no_times() -> None:
    lost = {"machine": None, "reason_class": "crash", "seconds": 0.1}
    (row,) = parse_table(write_table(build_line("a", "failed", **lost)))
    assert (row["machine"], row["started"], row["seconds"]) == ("", "", "")
    (row,) = parse_table(write_table(build_line("a", "failed", **lost | {"machine": "i-1"})))
    assert (row["machine"], row["started"], row["seconds"]) == ("i-1", TIMES["started"], "0.1")


def test_a_later_submission_that_only_the_record_mentions_has_the_jobs_group() -> None:
    skip = {"message_id": "2", "state": "skipped", "ended": "2026-11-23T10:59:00.000Z"}
    (row,) = parse_table(write_table(build_line("a", group={"plate": "P1"}, other_submissions=[skip])))
    assert (row["state"], row["group.plate"]) == ("skipped", "P1")


def test_a_run_without_ends_has_a_table_with_only_the_names_of_the_columns() -> None:
    assert write_table().startswith("job\tstate\t")
    assert write_table().count("\n") == 1


@pytest.mark.parametrize(("value", "cell"), [
    ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("+cmd", "'+cmd"), ("-cmd", "'-cmd"), ("@SUM(1)", "'@SUM(1)"),
    ("-1.5", "-1.5"), ("+3e-5", "+3e-5"), ("-1+1", "'-1+1"), ("a\tb\nc\r\\", "a\\tb\\nc\\r\\\\"),
    ("\x1b\x00", "\\x1b\\x00"),
    ("ü", "ü"), ("\ud800", "\\ud800"), (-5, "-5"), (None, ""), ("a=b", "a=b"),
])  # fmt: skip
def test_no_value_is_a_formula_or_breaks_the_table(value: object, cell: str) -> None:
    (row,) = parse_table(write_table(build_line("a", group={"x": value})))
    assert row["group.x"] == cell


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=4), st.text(min_size=1))
def test_each_row_has_as_many_cells_as_there_are_columns(group: dict[str, str], job: str) -> None:
    lines = write_table(build_line(job, group=group), build_line("other")).split("\n")
    assert len(lines) == 4
    assert lines[3] == ""
    assert {line.count("\t") for line in lines[:3]} == {lines[0].count("\t")}


def test_the_number_of_columns_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "MAX_GROUP_COLUMNS", 2)
    header = write_table(build_line("a", group={"x": 1, "y": 2, "z": 3})).partition("\n")[0]
    assert [name for name in header.split("\t") if name.startswith("group.")] == ["group.x", "group.y"]


def test_a_full_disk_gives_no_table_but_the_outcome(run: RunDocuments, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_table.tempfile, "TemporaryFile", fail)
    run.write_journal("c1", run.end_job("a"), run.end_job("b"))
    table = JobTable()
    assert load_run_outcome(run.s3, MONITOR_FILE, submitted=2, left=0, table=table).counts.done == 2
    assert table.problem == "a temporary file: [Errno 28] No space left on device"
    table.save(run.s3, MONITOR_FILE)
    keys = run.s3.list_objects_v2(Bucket=MONITOR_FILE.MONITOR_BUCKET_NAME)["Contents"]
    assert MONITOR_FILE.keys.job_table not in [item["Key"] for item in keys]
