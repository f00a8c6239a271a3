"""The container's journal: totals first, then a line per finished attempt, in objects of about 1 MB."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.observe.documents.journals import FIRST_LINE_BYTES
from distributed_something.worker.container import journal as journal_module
from distributed_something.worker.container.journal import LINE_KEYS, Journal


class Bucket:
    """The journal's objects; the test decides whether writing them fails."""

    def __init__(self) -> None:
        self.objects: dict[int, list[dict[str, Any]]] = {}
        self.writes = 0
        self.is_down = False

    def write(self, number: int, body: bytes) -> None:
        if self.is_down:
            raise EndpointConnectionError(endpoint_url="s3")
        self.writes += 1
        self.objects[number] = [json.loads(line) for line in body.splitlines()]

    @property
    def totals(self) -> dict[str, Any]:
        return self.objects[max(self.objects)][0]

    @property
    def jobs(self) -> list[str]:
        return [line["job"] for number in sorted(self.objects) for line in self.objects[number][1:]]


def build_record(job: str, state: str = "done", *, final: bool = True, **more: Any) -> dict[str, Any]:
    return {"job": job, "state": state, "final": final, "attempts": 1, "reason": None, "last_lines": [], **more}


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def build_journal(bucket: Bucket, running: int = 0) -> Journal:
    return Journal(bucket.write, {"container": "c1", "slots": 4}, lambda: dict.fromkeys(range(running), 1.5))


def test_the_first_line_has_the_totals_and_the_next_ones_the_attempts(bucket: Bucket) -> None:
    journal = build_journal(bucket, running=3)
    for record in (build_record("a"), build_record("b", "failed", final=False), build_record("b", "failed"),
                   build_record("c", "skipped"), build_record("d", "interrupted", final=False)):  # fmt: skip
        journal.add_attempt(record)
    journal.write_changes(0.0)
    starts = [[slot, "1970-01-01T00:00:01.500Z"] for slot in range(3)]
    expected = {"done": 1, "failed": 1, "already_there": 1, "attempts": 5, "replaced": 0, "running": 3,
                "program_starts": starts, "ended": False}  # fmt: skip
    assert bucket.totals == {"container": "c1", "slots": 4, "at": "1970-01-01T00:00:00.000Z", **expected}
    assert bucket.jobs == ["a", "b", "b", "c", "d"]


def test_a_line_has_the_same_keys_as_the_record_and_short_texts(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    texts = {"reason": "r" * 1000, "last_lines": ["first", "x" * 1000], "telling_line": "t" * 1000}
    journal.add_attempt(build_record("a", "failed", exit_code=7, **texts))
    journal.write_changes(0.0)
    line = bucket.objects[1][1]
    assert set(line) == {
        *LINE_KEYS, "reason", "last_line", "telling_line", "overwritten", "results_modified", "group",
    }  # fmt: skip
    assert (line["exit_code"], line["reason"], line["last_line"]) == (7, "r" * 300, "x" * 200)
    assert line["telling_line"] == "t" * 300


@pytest.mark.parametrize(("message", "group"), [
    ({"group": {"plate": "P1"}, "command": "x"}, {"plate": "P1"}),
    ({"group": "P1"}, "P1"),
    ({"group": {"images": ["x" * 100] * 11}}, None),
    ("{", None),
])  # fmt: skip
def test_a_line_has_the_jobs_group_unless_it_is_large(bucket: Bucket, message: object, group: object) -> None:
    journal = build_journal(bucket)
    journal.add_attempt(build_record("a", message=message))
    journal.write_changes(0.0)
    assert bucket.objects[1][1]["group"] == group


def test_a_line_of_a_skipped_job_says_how_old_its_results_are(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    results_of = {"run": "20261101T104500Z", "modified": "2026-11-01T11:00:00.000Z"}
    journal.add_attempt(build_record("a", "skipped", results_of=results_of))
    journal.write_changes(0.0)
    assert bucket.objects[1][1]["results_modified"] == "2026-11-01T11:00:00.000Z"


def test_a_line_names_the_files_of_other_jobs_that_the_job_overwrote(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    journal.add_attempt(build_record("a", overwritten=[{"key": "all/a", "job": "b"}]))
    journal.write_changes(0.0)
    assert bucket.objects[1][1]["overwritten"] == ["all/a"]


def test_only_a_line_of_an_attempt_that_lacked_an_input_names_it(bucket: Bucket) -> None:
    journal, missing = build_journal(bucket), {"missing_input": "s3://b/in/a.tif", "input_endpoint": None}
    journal.add_attempt(build_record("a") | missing)
    journal.add_attempt(build_record("b") | {"missing_input": None, "input_endpoint": None})
    journal.write_changes(0.0)
    first, second = bucket.objects[1][1:]
    assert missing.items() <= first.items()
    assert not missing.keys() & second.keys()


def test_an_unchanged_journal_is_not_written_again(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    journal.write_changes(0.0)
    journal.write_changes(60.0)
    assert bucket.writes == 1
    journal.add_attempt(build_record("a"))
    journal.write_changes(120.0)
    assert bucket.writes == 2


def test_lines_are_not_lost_if_writing_fails(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    journal.add_attempt(build_record("a"))
    bucket.is_down = True
    with pytest.raises(EndpointConnectionError):
        journal.write_changes(0.0)
    bucket.is_down = False
    journal.write_changes(1.0)
    assert bucket.jobs == ["a"]


@given(st.lists(st.integers(min_value=0, max_value=5), max_size=30))
def test_a_full_object_is_followed_by_another_and_no_line_is_lost_or_repeated(counts: list[int]) -> None:
    bucket = Bucket()
    journal, number = build_journal(bucket), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "MAX_JOURNAL_BYTES", 2000)
        for count in counts:
            for _ in range(count):
                journal.add_attempt(build_record(f"job-{number}"))
                number += 1
            journal.write_changes(0.0)
    assert bucket.jobs == [f"job-{n}" for n in range(number)]
    assert sorted(bucket.objects) == list(range(1, len(bucket.objects) + 1))
    if bucket.objects:
        assert bucket.totals["done"] == number


def test_the_journal_is_written_at_the_start_and_at_the_end_of_the_container(bucket: Bucket) -> None:
    journal, ended = build_journal(bucket, running=2), threading.Event()
    ended.set()
    journal.run(ended, 60.0, lambda: 0.0)
    assert bucket.writes == 2
    assert (bucket.totals["running"], bucket.totals["program_starts"], bucket.totals["ended"]) == (0, [], True)


def test_the_first_line_of_a_container_with_many_slots_is_read_entirely(bucket: Bucket) -> None:
    facts = {"container": "c" * 64, "machine": "i" * 64, "image": "x" * 300, "image_digest": "y" * 71}
    journal = Journal(bucket.write, facts, lambda: dict.fromkeys(range(500), 1.5))
    journal.write_changes(0.0)
    assert bucket.totals["running"] == 500
    assert len(json.dumps(bucket.totals)) < FIRST_LINE_BYTES


def test_a_line_of_an_attempt_whose_worker_was_lost_names_no_machine(bucket: Bucket) -> None:
    journal = build_journal(bucket)
    place = {"machine": None, "container": None}
    for record in (build_record("a", "failed", **place), build_record("b", machine="i-1", container="c1")):
        journal.add_attempt(record)
    journal.write_changes(0.0)
    lost, other = bucket.objects[1][1:]
    assert (lost["machine"], lost["container"]) == (None, None)
    assert not {"machine", "container"} & set(other)  # the first line has them


def test_an_error_from_aws_does_not_end_the_journal(bucket: Bucket) -> None:
    journal, ended = build_journal(bucket), threading.Event()
    bucket.is_down = True
    ended.set()
    journal.run(ended, 60.0, lambda: 0.0)
    assert bucket.writes == 0
