"""When a container stops taking jobs because it, and not they, seem to be sick; and when it takes them again."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distributed_something.worker.admission import health
from distributed_something.worker.admission.health import (
    DISK_CHECK_SECONDS,
    MAX_REPORTED_JOBS,
    MIN_FAILED_JOBS,
    MIN_FREE_BYTES,
    SICK_PAUSE_SECONDS,
    UNRELATED_REASON_CLASSES,
    ContainerHealth,
    HealthReporter,
    Pause,
    build_health_document,
    build_health_key,
    has_disk_space,
)
from distributed_something.worker.job.run_keys import RunKeys
from tests.support.fakes import START

IDLE_ALARM_SECONDS = 15 * 60
SLOTS = 4


def sick(now: float = START) -> ContainerHealth:
    made = ContainerHealth()
    for n in range(MIN_FAILED_JOBS):
        made.record_failure(f"job-{n}", f"reason {n}", "program", now)
    return made


def test_a_healthy_container_takes_what_it_wants() -> None:
    assert ContainerHealth().count_places(3, START) == 3
    assert ContainerHealth().current_pause is None


def test_several_different_jobs_that_fail_in_a_row_pause_the_container() -> None:
    made = ContainerHealth()
    for n in range(MIN_FAILED_JOBS):
        assert made.count_places(SLOTS, START) == SLOTS
        made.record_failure(f"job-{n}", "exit code 1", "program", START)
    assert made.count_places(SLOTS, START) == made.count_places(SLOTS, START + SICK_PAUSE_SECONDS - 1) == 0


def test_the_pause_is_longer_than_the_idle_alarm_waits() -> None:
    assert SICK_PAUSE_SECONDS >= IDLE_ALARM_SECONDS + 4 * 60  # CPU reports come every 5 minutes, and late


def test_one_job_that_fails_again_and_again_is_not_the_machines_fault() -> None:
    made = ContainerHealth()
    for _ in range(10 * MIN_FAILED_JOBS):
        made.record_failure("job", "exit code 1", "program", START)
    assert made.count_places(1, START) == 1


def test_a_success_in_between_begins_the_count_anew() -> None:
    made = ContainerHealth()
    for n in range(10 * MIN_FAILED_JOBS):
        made.record_failure(f"job-{n}", "exit code 1", "program", START)
        if n % (MIN_FAILED_JOBS - 1) == 0:
            made.record_success(START)
    assert made.count_places(1, START) == 1


@pytest.mark.parametrize("kind", sorted(UNRELATED_REASON_CLASSES))
def test_failures_that_say_nothing_of_the_machine_do_not_count(kind: str) -> None:
    made = ContainerHealth()
    for n in range(10 * MIN_FAILED_JOBS):
        made.record_failure(f"job-{n}", "elsewhere", kind, START)
    assert made.count_places(1, START) == 1


def test_after_the_pause_one_job_is_let_through() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    assert made.count_places(SLOTS, end - 1) == 0
    assert [made.count_places(SLOTS, end + second) for second in range(3)] == [1, 0, 0]


def test_the_job_that_was_let_through_succeeds_and_all_are_taken_again() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    made.count_places(1, end)
    made.record_success(end + 5)
    assert made.current_pause is None
    assert made.count_places(SLOTS, end + 5) == SLOTS
    made.record_failure("job", "exit code 1", "program", end + 6)
    assert made.count_places(SLOTS, end + 6) == SLOTS


def test_where_the_job_that_was_let_through_fails_too_waiting_longer_would_be_of_no_use() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    made.count_places(1, end)
    made.record_failure("job-0", "exit code 1", "program", end + 5)
    assert made.current_pause is None
    for n in range(2 * MIN_FAILED_JOBS):
        made.record_failure(f"later-{n}", "exit code 1", "program", end + 6)
    assert made.count_places(SLOTS, end + 6) == SLOTS


def test_after_a_success_a_container_that_gave_up_to_pause_may_pause_again() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    made.count_places(1, end)
    made.record_failure("job-0", "exit code 1", "program", end + 5)
    made.record_success(end + 6)
    for n in range(MIN_FAILED_JOBS):
        made.record_failure(f"later-{n}", "exit code 1", "program", end + 7)
    assert made.count_places(SLOTS, end + 7) == 0


def test_while_another_machine_pauses_it_is_the_jobs_and_not_this_machine() -> None:
    others = [True]
    made = ContainerHealth(others_pause=lambda: others[0])
    for n in range(2 * MIN_FAILED_JOBS):
        made.record_failure(f"job-{n}", "exit code 1", "program", START)
    assert made.count_places(SLOTS, START) == SLOTS
    others[0] = False
    made.record_failure("job", "exit code 1", "program", START)
    assert made.count_places(SLOTS, START) == 0


@pytest.mark.parametrize("kind", [None, *sorted(UNRELATED_REASON_CLASSES)])
def test_where_the_one_job_says_nothing_another_is_let_through_at_once(kind: str | None) -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    assert made.count_places(1, end) == 1
    if kind is None:
        made.release_probe(end + 5)  # such as a poll that was empty
    else:
        made.record_failure("job", "elsewhere", kind, end + 5)
    assert [made.count_places(1, end + 5), made.count_places(1, end + 6)] == [1, 0]


def test_a_job_whose_end_is_never_told_does_not_block_the_container_for_ever() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    assert made.count_places(1, end) == 1
    assert made.count_places(1, end + SICK_PAUSE_SECONDS) == 1


def test_nothing_ends_a_pause_early_but_a_success() -> None:
    made = sick()
    made.record_failure("late", "exit code 1", "program", START + 60)
    made.record_failure("later", "elsewhere", "interrupted", START + 120)
    made.release_probe(START + 180)
    assert made.count_places(1, START + SICK_PAUSE_SECONDS - 1) == 0
    made.record_success(START + 240)  # a job that was under way when the pause began
    assert made.count_places(1, START + 240) == 1


class Container(RuleBasedStateMachine):
    """Any order of takes, ends and times, beside a history that is read anew for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.health = ContainerHealth()
        self.now = START
        self.row: set[str] = set()  # different jobs that failed since the last success
        self.gave_up = False
        self.until: float | None = None
        self.let_through: float | None = None  # since when, within this pause

    @rule(seconds=st.sampled_from([1.0, 60.0, SICK_PAUSE_SECONDS - 1, SICK_PAUSE_SECONDS, 86_400.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(job=st.sampled_from([f"job-{n}" for n in range(2 * MIN_FAILED_JOBS)]))
    def a_job_fails(self, job: str) -> None:
        self.health.record_failure(job, "exit code 1", "program", self.now)
        self.row.add(job)
        if self.until is not None and self.now >= self.until:
            self.until, self.gave_up = None, True
        elif self.until is None and len(self.row) >= MIN_FAILED_JOBS and not self.gave_up:
            self.until, self.let_through = self.now + SICK_PAUSE_SECONDS, None

    @rule()
    def several_jobs_fail(self) -> None:
        for n in range(MIN_FAILED_JOBS):
            self.a_job_fails(job=f"job-{n}")

    @rule(kind=st.sampled_from(sorted(UNRELATED_REASON_CLASSES)))
    def a_job_fails_for_another_reason(self, kind: str) -> None:
        self.health.record_failure("any", "elsewhere", kind, self.now)
        self.let_through = None

    @rule()
    def a_poll_is_empty(self) -> None:
        self.health.release_probe(self.now)
        self.let_through = None

    @rule()
    def a_job_succeeds(self) -> None:
        self.health.record_success(self.now)
        self.row.clear()
        self.gave_up = False
        self.until = self.let_through = None

    @precondition(lambda self: self.until is None)
    @rule(wanted=st.integers(0, 16))
    def a_healthy_container_takes_all(self, wanted: int) -> None:
        assert self.health.count_places(wanted, self.now) == wanted

    @precondition(lambda self: self.until is not None)
    @rule(wanted=st.integers(0, 16))
    def a_paused_one_takes_none_or_after_the_pause_one(self, wanted: int) -> None:
        assert self.until is not None
        unheard = self.let_through is not None and self.now < self.let_through + SICK_PAUSE_SECONDS
        may = wanted > 0 and self.now >= self.until and not unheard
        assert self.health.count_places(wanted, self.now) == int(may)
        if may:
            self.let_through = self.now

    @invariant()
    def it_says_whether_it_is_paused(self) -> None:
        pause = self.health.current_pause
        assert (pause.until if pause else None) == self.until


TestContainer = Container.TestCase


@given(st.integers(1, 64))
def test_of_many_slots_that_ask_at_once_only_one_job_is_let_through(slots: int) -> None:
    made = sick()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: made.count_places(1, START + SICK_PAUSE_SECONDS), range(slots))) == 1


# Disk


def test_no_job_is_taken_while_the_disk_is_full_and_it_is_looked_at_every_minute() -> None:
    looks: list[float] = []
    now, room = START, False

    def look() -> bool:
        looks.append(now)
        return room

    made, taken = ContainerHealth(look), []
    for second in range(0, 200, 10):
        now, room = START + second, second >= 90
        taken.append(made.count_places(2, now))
    assert taken == [0] * 12 + [2] * 8
    assert looks[:3] == [START, START + DISK_CHECK_SECONDS, START + 2 * DISK_CHECK_SECONDS]
    assert len(looks) == 2 + 8  # with room it is looked at before every job


def test_a_full_disk_is_a_pause_without_an_end() -> None:
    made = ContainerHealth(lambda: False)
    made.count_places(1, START)
    assert made.current_pause == Pause(START, None, "the disk is full, or cannot be written")


def test_a_full_disk_holds_back_even_the_job_that_would_be_let_through() -> None:
    room = [True]
    made, end = ContainerHealth(lambda: room[0]), START + SICK_PAUSE_SECONDS
    for n in range(MIN_FAILED_JOBS):
        made.record_failure(f"job-{n}", "exit code 1", "program", START)
    room[0] = False
    assert made.count_places(1, end) == 0
    room[0] = True
    assert made.count_places(1, end + DISK_CHECK_SECONDS) == 1


def disk(**changed: int) -> Any:
    """What statvfs says of a disk with just enough room."""
    enough = {"f_bavail": MIN_FREE_BYTES // 4096, "f_frsize": 4096, "f_files": 10**6, "f_favail": 1000, "f_flag": 0}
    return lambda _: SimpleNamespace(**(enough | changed))


@pytest.mark.parametrize(
    ("found", "room"),
    [({}, True), ({"f_bavail": MIN_FREE_BYTES // 4096 - 1}, False), ({"f_favail": 999}, False),
     ({"f_files": 0, "f_favail": 0}, True), ({"f_flag": os.ST_RDONLY}, False)],
)  # fmt: skip
def test_a_disk_has_room_with_enough_bytes_and_files_left_if_it_can_be_written(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, int], *, room: bool
) -> None:
    monkeypatch.setattr(health.os, "statvfs", disk(**found))
    assert has_disk_space(Path("/")) is room


def test_how_many_bytes_must_be_free_can_be_said(tmp_path: Path) -> None:
    assert has_disk_space(tmp_path, least_bytes=1)
    total = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert not has_disk_space(tmp_path, least_bytes=total + 1)


def test_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    assert not has_disk_space(tmp_path / "gone")


# What the run is told


def reported(made: ContainerHealth) -> tuple[HealthReporter, list[dict[str, Any]]]:
    written: list[dict[str, Any]] = []
    return HealthReporter(made, written.append, "i-0123", "box"), written


def test_a_pause_and_its_end_are_written_once_each() -> None:
    made = sick()
    report, written = reported(made)
    for second in range(3):
        report.tick(START + second)
    made.record_success(START + 60)
    for second in range(3):
        report.tick(START + 60 + second)
    assert json.loads(json.dumps(written)) == [
        {
            "machine": "i-0123", "container": "box", "state": "paused",
            "since": "2026-11-23T10:45:00.000Z", "until": "2026-11-23T11:05:00.000Z",
            "reason": "5 different jobs failed in a row, at last: reason 4",
            "jobs": ["job-0", "job-1", "job-2", "job-3", "job-4"],
        },
        {
            "machine": "i-0123", "container": "box", "state": "working",
            "since": "2026-11-23T10:46:00.000Z", "until": None, "reason": None, "jobs": [],
        },
    ]  # fmt: skip


def test_a_container_that_never_paused_writes_nothing() -> None:
    made = ContainerHealth()
    report, written = reported(made)
    made.record_failure("job", "exit code 1", "program", START)
    report.tick(START)
    assert written == []


def test_a_job_let_through_is_not_written_and_the_end_of_pausing_is() -> None:
    made, end = sick(), START + SICK_PAUSE_SECONDS
    report, written = reported(made)
    report.tick(START)
    made.count_places(1, end)
    report.tick(end)
    made.record_failure("job-0", "exit code 1", "program", end + 5)
    report.tick(end + 5)
    assert [one["state"] for one in written] == ["paused", "working"]


def test_a_document_that_could_not_be_written_is_written_later() -> None:
    tries: list[dict[str, Any]] = []

    def write(told: dict[str, Any]) -> None:
        tries.append(told)
        if len(tries) == 1:
            raise OSError("S3 is away")

    report = HealthReporter(sick(), write, "i-0123", "box")
    with pytest.raises(OSError, match="away"):
        report.tick(START)
    report.tick(START + 1)
    report.tick(START + 2)
    assert len(tries) == 2


def test_a_document_stays_small_however_much_failed() -> None:
    made = ContainerHealth()
    for n in range(1000):
        made.record_failure(f"{n:091}", "x" * 100_000, "program", START)
    told = build_health_document("i-0123", "box", made.current_pause, START)
    assert len(told["jobs"]) <= MAX_REPORTED_JOBS
    assert told["reason"].startswith("5 different jobs")
    assert len(json.dumps(told)) < 4000


def test_a_full_disk_is_told_without_an_end() -> None:
    told = build_health_document("i-0123", "box", Pause(START, None, "the disk is full"), START)
    assert (told["state"], told["until"], told["jobs"]) == ("paused", None, [])


def test_documents_lie_beside_the_jobs_records_each_container_having_its_own() -> None:
    assert (
        build_health_key(RunKeys("App", "20261123T104500Z"), "i-0123", "box")
        == "runs/App/20261123T104500Z/machines/i-0123-box.json"
    )
    assert build_health_key(RunKeys("App", "r"), "../a b", "ü/1").startswith("runs/App/r/machines/..-a-b--")
