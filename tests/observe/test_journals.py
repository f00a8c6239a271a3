"""Reading journals: totals with few requests, and all lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from distributed_something.observe.documents.journals import FIRST_LINE_BYTES, JournalReader, RunTotals
from distributed_something.observe.documents.parallel import READER_THREADS
from tests.support.fakes import MONITOR_FILE
from tests.support.run_documents import RunDocuments, emulated_run

BUCKET = MONITOR_FILE.MONITOR_BUCKET_NAME


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(MONITOR_FILE) as documents:
        yield documents


@pytest.fixture
def reader(run: RunDocuments) -> JournalReader:
    return JournalReader(run.s3, BUCKET, MONITOR_FILE.keys)


def list_ranges(run: RunDocuments) -> list[str]:
    return [request.get("Range", "all") for request in run.s3.reads]


def test_the_totals_of_all_containers_are_added(run: RunDocuments, reader: JournalReader) -> None:
    run.write_journal("c1", running=2, slots=4, done=7, failed=1, attempts=9)
    run.write_journal("c2", running=1, slots=4, done=3, already_there=5, attempts=8, machine="i-2")
    assert reader.read_totals() == RunTotals(
        done=10, failed=1, already_there=5, attempts=17, running=3, slots=8, containers=2, machines=2
    )


def test_only_the_last_object_of_a_container_has_its_current_totals(run: RunDocuments, reader: JournalReader) -> None:
    run.write_journal("host-1", done=5)
    run.write_journal("host-1", number=2, done=9)
    run.write_journal("host-1", number=10, done=90)
    assert reader.read_totals().done == 90


def test_only_first_lines_that_have_changed_are_read_again(run: RunDocuments, reader: JournalReader) -> None:
    run.write_journal("c1", done=1)
    run.write_journal("c2", done=1)
    reader.read_totals()
    run.write_journal("c2", done=2)
    assert reader.read_totals().done == 3
    assert list_ranges(run) == [f"bytes=0-{FIRST_LINE_BYTES - 1}"] * 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]\n", b'"x"\n', b"\xff\n", b"{}" * FIRST_LINE_BYTES])
def test_a_journal_that_is_not_valid_is_ignored(run: RunDocuments, reader: JournalReader, body: bytes) -> None:
    run.write_journal("c1", done=1)
    run.put_object(MONITOR_FILE.keys.journal("c2", 1), body)
    assert (reader.read_totals().done, reader.read_totals().containers) == (1, 1)
    assert list(reader.iter_lines()) == []


def test_counts_that_are_not_counts_are_ignored(run: RunDocuments, reader: JournalReader) -> None:
    run.write_journal("c1", done="7", failed=-1, running=None, already_there=2)
    totals = reader.read_totals()
    assert (totals.done, totals.failed, totals.running, totals.already_there) == (0, 0, 0, 2)


def test_other_objects_below_the_prefix_are_not_journals(run: RunDocuments, reader: JournalReader) -> None:
    for name in ("c1.jsonl", "c1-0.jsonl", "-1.jsonl", "c1-1.json", "notes.txt"):
        run.put_object(f"{MONITOR_FILE.keys.journals}{name}", b'{"done": 1}\n')
    assert reader.read_totals() == RunTotals()


def test_all_lines_of_all_objects_are_read(run: RunDocuments, reader: JournalReader) -> None:
    jobs = []
    for n in range(3 * READER_THREADS):
        jobs += [f"a{n}", f"b{n}"]
        run.write_journal(f"c{n % 5}", *(run.end_job(job) for job in jobs[-2:]), number=n + 1)
    assert sorted(line["job"] for line in reader.iter_lines()) == sorted(jobs)


def test_totals_need_no_more_requests_after_all_lines_were_read(run: RunDocuments, reader: JournalReader) -> None:
    for number, done in ((1, 5), (2, 9), (10, 90)):
        run.write_journal("c1", number=number, done=done)
    run.write_journal("c2", done=1)
    assert list(reader.iter_lines()) == []
    assert reader.read_totals().done == 91
    assert list_ranges(run) == ["all"] * 4


def test_a_run_without_journals_has_no_totals(reader: JournalReader) -> None:
    assert reader.read_totals() == RunTotals()
    assert list(reader.iter_lines()) == []


def test_programs_of_lost_containers_do_not_run(run: RunDocuments, reader: JournalReader) -> None:
    """i-2 is gone, and the container c3 on i-1 has taken the place of c1, which died without a last journal."""
    more: dict[str, Any] = {"slots": 2, "running": 2, "ended": False}
    run.write_journal("c1", **more, at="2026-11-23T10:46:00.000Z")
    run.write_journal("c2", **more, at="2026-11-23T10:49:00.000Z", machine="i-2")
    run.write_journal("c3", **more, at="2026-11-23T10:48:00.000Z")
    run.write_journal("c4", **more, at="2026-11-23T10:40:00.000Z", machine="i-3")  # at work on a long job
    totals = reader.read_totals()
    assert (totals.running, totals.lost_running) == (8, 0)
    found = reader.find_lost_programs(totals, ("i-1", "i-3"), tasks_per_machine=1)
    assert (found.running, found.lost_running) == (4, 4)
    found = reader.find_lost_programs(totals, ("i-1", "i-3"), tasks_per_machine=2)
    assert (found.running, found.lost_running) == (6, 2)


def test_a_container_that_does_not_know_its_machine_may_run_programs(run: RunDocuments, reader: JournalReader) -> None:
    run.write_journal("c1", running=2, ended=False, machine="unknown")
    totals = reader.read_totals()
    assert reader.find_lost_programs(totals, (), tasks_per_machine=1) == totals
