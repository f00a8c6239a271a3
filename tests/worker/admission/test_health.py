"""Tests for container health: when a container pauses because of failed jobs or a full disk, and how a pause ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distributed_something.worker.admission.elsewhere import EndsElsewhere
from distributed_something.worker.admission.health import (
    DISK_CHECK_SECONDS,
    JOB_LIMIT_CLASSES,
    MAX_REPORTED_JOBS,
    MIN_FAILED_JOBS,
    MIN_FREE_BYTES,
    MIN_REPEATED_FAILURES,
    UNRELATED_REASON_CLASSES,
    ContainerHealth,
    HealthReporter,
    Pause,
    build_health_document,
    build_health_key,
    has_disk_space,
)
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.job.worker_settings import DEFAULT_SICK_PAUSE_SECONDS
from distributed_something.worker.machine.scale_in_protection import ProtectionRefusal
from tests.support.fakes import START

IDLE_ALARM_SECONDS = 15 * 60
SLOTS = 4


def build_sick_health(now: float = START) -> ContainerHealth:
    """Return the health of a container that paused at `now`."""
    health = ContainerHealth()
    for n in range(MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", f"reason {n}", "program", now)
    return health


def test_a_healthy_container_takes_all_requested_jobs() -> None:
    assert ContainerHealth().count_allowed_jobs(3, START) == 3
    assert ContainerHealth().current_pause is None


def test_a_container_pauses_when_several_different_jobs_fail_in_a_row() -> None:
    health = ContainerHealth()
    for n in range(MIN_FAILED_JOBS):
        assert health.count_allowed_jobs(SLOTS, START) == SLOTS
        health.record_failure(f"job-{n}", "exit code 1", "program", START)
    assert (
        health.count_allowed_jobs(SLOTS, START)
        == health.count_allowed_jobs(SLOTS, START + DEFAULT_SICK_PAUSE_SECONDS - 1)
        == 0
    )


def test_the_pause_is_longer_than_the_idle_alarms_delay() -> None:
    assert DEFAULT_SICK_PAUSE_SECONDS >= IDLE_ALARM_SECONDS + 4 * 60  # CPU metrics arrive every 5 minutes, with a delay


def test_one_job_that_fails_repeatedly_does_not_pause_the_container() -> None:
    health = ContainerHealth()
    for _ in range(10 * MIN_FAILED_JOBS):
        health.record_failure("job", "exit code 1", "program", START)
    assert health.count_allowed_jobs(1, START) == 1


def fail_two_jobs(health: ContainerHealth, times: int) -> None:
    """Let two jobs fail in turn, `times` attempts in all."""
    for attempt in range(times):
        health.record_failure(f"job-{attempt % 2}", f"reason {attempt}", "program", START)


def test_a_container_pauses_if_the_last_few_jobs_fail_again_and_again_while_another_machine_does_jobs() -> None:
    health = ContainerHealth(is_other_working=lambda: True)
    fail_two_jobs(health, MIN_REPEATED_FAILURES - 1)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS
    fail_two_jobs(health, 1)
    pause = health.current_pause
    assert health.count_allowed_jobs(SLOTS, START) == 0
    assert pause is not None
    assert pause.reason == "2 jobs failed 5 times in a row, only on this machine; the last failure: reason 0"
    assert set(pause.jobs) == {"job-0", "job-1"}


class Elsewhere:
    """How jobs did on other machines; `asked` are the jobs that were looked up last."""

    def __init__(self, done: str = "", failed: str = "") -> None:
        self.ends, self.asked = EndsElsewhere(frozenset(done.split()), frozenset(failed.split())), [""]

    def find(self, jobs: Iterable[str]) -> EndsElsewhere:
        self.asked = sorted(jobs)
        return self.ends


def test_a_healthy_machine_does_not_pause_because_the_last_jobs_of_a_run_fail_everywhere() -> None:
    """They happened to be tried only here so far. Other jobs have succeeded here before."""
    elsewhere = Elsewhere()
    health = ContainerHealth(is_other_working=lambda: True, find_ends_elsewhere=elsewhere.find)
    health.record_success(START)
    fail_two_jobs(health, 10 * MIN_REPEATED_FAILURES)
    assert elsewhere.asked == ["job-0", "job-1"]
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


def test_a_machine_that_breaks_later_pauses_if_another_machine_has_done_one_of_its_jobs() -> None:
    elsewhere = Elsewhere(done="job-0")
    health = ContainerHealth(is_other_working=lambda: True, find_ends_elsewhere=elsewhere.find)
    health.record_success(START)
    fail_two_jobs(health, MIN_REPEATED_FAILURES)
    assert health.count_allowed_jobs(SLOTS, START) == 0


def test_jobs_that_have_failed_elsewhere_in_the_meantime_do_not_count() -> None:
    elsewhere = Elsewhere(failed="job-0")
    health = ContainerHealth(is_other_working=lambda: True, find_ends_elsewhere=elsewhere.find)
    fail_two_jobs(health, 10 * MIN_REPEATED_FAILURES)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


def test_jobs_that_say_nothing_about_the_machine_after_all_are_forgotten() -> None:
    health = ContainerHealth(is_other_working=lambda: True)
    for attempt in range(10 * MIN_FAILED_JOBS):
        health.record_failure(f"other-{attempt}", "reason", "program", START)
        health.forget_job(f"other-{attempt}", START)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


@pytest.mark.parametrize("reason_class", sorted(JOB_LIMIT_CLASSES))
def test_few_jobs_that_reach_their_own_limits_do_not_pause_the_container_but_many_do(reason_class: str) -> None:
    health = ContainerHealth(is_other_working=lambda: True)
    for attempt in range(40):
        health.record_failure(f"job-{attempt % (MIN_FAILED_JOBS - 1)}", "a limit", reason_class, START)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS
    health.record_failure("another", "a limit", reason_class, START)
    assert health.count_allowed_jobs(SLOTS, START) == 0


def test_a_container_does_not_pause_for_few_jobs_if_no_other_machine_could_take_them() -> None:
    health = ContainerHealth(is_other_working=lambda: False)
    fail_two_jobs(health, 10 * MIN_REPEATED_FAILURES)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


def test_a_container_does_not_pause_for_few_jobs_if_jobs_fail_on_another_machine_too() -> None:
    health = ContainerHealth(is_other_failing=lambda: True, is_other_working=lambda: True)
    fail_two_jobs(health, 10 * MIN_REPEATED_FAILURES)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


def test_one_job_that_fails_repeatedly_does_not_pause_the_container_even_if_another_machine_does_jobs() -> None:
    health = ContainerHealth(is_other_working=lambda: True)
    for _ in range(10 * MIN_REPEATED_FAILURES):
        health.record_failure("job", "exit code 1", "program", START)
    assert health.count_allowed_jobs(1, START) == 1


def test_a_success_in_between_proves_that_the_machine_works() -> None:
    health = ContainerHealth(is_other_working=lambda: True)
    for _ in range(10):
        fail_two_jobs(health, MIN_REPEATED_FAILURES - 1)
        health.record_success(START)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS


def test_a_success_resets_the_count_of_failures() -> None:
    health = ContainerHealth()
    for n in range(10 * MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", "exit code 1", "program", START)
        if n % (MIN_FAILED_JOBS - 1) == 0:
            health.record_success(START)
    assert health.count_allowed_jobs(1, START) == 1


@pytest.mark.parametrize("reason_class", sorted(UNRELATED_REASON_CLASSES))
def test_failures_that_are_unrelated_to_the_machine_do_not_count(reason_class: str) -> None:
    health = ContainerHealth()
    for n in range(10 * MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", "elsewhere", reason_class, START)
    assert health.count_allowed_jobs(1, START) == 1


def test_one_job_is_taken_as_a_probe_after_the_pause() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    assert health.count_allowed_jobs(SLOTS, end - 1) == 0
    assert [health.count_allowed_jobs(SLOTS, end + second) for second in range(3)] == [1, 0, 0]


def test_all_jobs_are_taken_again_after_the_probe_succeeds() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    health.count_allowed_jobs(1, end)
    health.record_success(end + 5)
    assert health.current_pause is None
    assert health.count_allowed_jobs(SLOTS, end + 5) == SLOTS
    health.record_failure("job", "exit code 1", "program", end + 6)
    assert health.count_allowed_jobs(SLOTS, end + 6) == SLOTS


def test_all_jobs_are_taken_again_after_the_probe_fails() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    health.count_allowed_jobs(1, end)
    health.record_failure("job-0", "exit code 1", "program", end + 5)
    assert health.current_pause is None
    for n in range(2 * MIN_FAILED_JOBS):
        health.record_failure(f"later-{n}", "exit code 1", "program", end + 6)
    assert health.count_allowed_jobs(SLOTS, end + 6) == SLOTS


def test_a_container_can_pause_again_after_a_failed_probe_and_a_success() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    health.count_allowed_jobs(1, end)
    health.record_failure("job-0", "exit code 1", "program", end + 5)
    health.record_success(end + 6)
    for n in range(MIN_FAILED_JOBS):
        health.record_failure(f"later-{n}", "exit code 1", "program", end + 7)
    assert health.count_allowed_jobs(SLOTS, end + 7) == 0


def test_a_container_does_not_pause_while_another_machine_is_paused() -> None:
    is_other_failing = [True]
    health = ContainerHealth(is_other_failing=lambda: is_other_failing[0])
    for n in range(2 * MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", "exit code 1", "program", START)
    assert health.count_allowed_jobs(SLOTS, START) == SLOTS
    is_other_failing[0] = False
    health.record_failure("job", "exit code 1", "program", START)
    assert health.count_allowed_jobs(SLOTS, START) == 0


def test_machines_that_start_to_pause_at_the_same_time_take_jobs_again_because_the_jobs_are_at_fault() -> None:
    documents: dict[str, dict[str, Any]] = {}

    def is_other_failing(machine: str) -> bool:
        others = (document for name, document in documents.items() if name != machine)
        return any(document["state"] == "paused" or document["jobs_at_fault"] for document in others)

    machines = {}
    for name in ("i-1", "i-2"):
        health = ContainerHealth(is_other_failing=partial(is_other_failing, name))
        machines[name] = (health, HealthReporter(health, partial(documents.__setitem__, name), name, "box"))
    for health, _ in machines.values():
        for n in range(MIN_FAILED_JOBS):
            health.record_failure(f"job-{n}", "exit code 1", "program", START)
        assert health.count_allowed_jobs(SLOTS, START) == 0
    for tick in range(3):
        for _, reporter in machines.values():
            reporter.tick(START + tick)
    for name, (health, _) in machines.items():
        assert health.count_allowed_jobs(SLOTS, START + 3) == SLOTS
        assert (documents[name]["state"], documents[name]["jobs_at_fault"]) == ("working", True)


@pytest.mark.parametrize("reason_class", [None, *sorted(UNRELATED_REASON_CLASSES)])
def test_another_probe_is_allowed_at_once_if_the_first_probe_has_no_result(reason_class: str | None) -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    assert health.count_allowed_jobs(1, end) == 1
    if reason_class is None:
        health.release_probe(end + 5)  # for example, after an empty poll
    else:
        health.record_failure("job", "elsewhere", reason_class, end + 5)
    assert [health.count_allowed_jobs(1, end + 5), health.count_allowed_jobs(1, end + 6)] == [1, 0]


def test_a_probe_that_never_reports_a_result_does_not_block_the_container_forever() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    assert health.count_allowed_jobs(1, end) == 1
    assert health.count_allowed_jobs(1, end + DEFAULT_SICK_PAUSE_SECONDS) == 1


def test_only_a_success_ends_a_pause_early() -> None:
    health = build_sick_health()
    health.record_failure("late", "exit code 1", "program", START + 60)
    health.record_failure("later", "elsewhere", "interrupted", START + 120)
    health.release_probe(START + 180)
    assert health.count_allowed_jobs(1, START + DEFAULT_SICK_PAUSE_SECONDS - 1) == 0
    health.record_success(START + 240)  # a job that was running when the pause began
    assert health.count_allowed_jobs(1, START + 240) == 1


class Container(RuleBasedStateMachine):
    """A model of a container, compared with ContainerHealth for any order of jobs, results, and times."""

    def __init__(self) -> None:
        super().__init__()
        self.health = ContainerHealth()
        self.now = START
        self.failed_jobs: set[str] = set()  # different jobs that failed since the last success
        self.has_given_up = False
        self.until: float | None = None
        self.probe_since: float | None = None  # the time when the current probe was admitted

    @rule(seconds=st.sampled_from([1.0, 60.0, DEFAULT_SICK_PAUSE_SECONDS - 1, DEFAULT_SICK_PAUSE_SECONDS, 86_400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(job=st.sampled_from([f"job-{n}" for n in range(2 * MIN_FAILED_JOBS)]))
    def a_job_fails(self, job: str) -> None:
        self.health.record_failure(job, "exit code 1", "program", self.now)
        self.failed_jobs.add(job)
        if self.until is not None and self.now >= self.until:
            self.until, self.has_given_up = None, True
        elif self.until is None and len(self.failed_jobs) >= MIN_FAILED_JOBS and not self.has_given_up:
            self.until, self.probe_since = self.now + DEFAULT_SICK_PAUSE_SECONDS, None

    @rule()
    def several_jobs_fail(self) -> None:
        for n in range(MIN_FAILED_JOBS):
            self.a_job_fails(job=f"job-{n}")

    @rule(reason_class=st.sampled_from(sorted(UNRELATED_REASON_CLASSES)))
    def a_job_fails_for_an_unrelated_reason(self, reason_class: str) -> None:
        self.health.record_failure("any", "elsewhere", reason_class, self.now)
        self.probe_since = None

    @rule()
    def a_poll_is_empty(self) -> None:
        self.health.release_probe(self.now)
        self.probe_since = None

    @rule()
    def a_job_succeeds(self) -> None:
        self.health.record_success(self.now)
        self.failed_jobs.clear()
        self.has_given_up = False
        self.until = self.probe_since = None

    @precondition(lambda self: self.until is None)
    @rule(requested=st.integers(0, 16))
    def a_healthy_container_takes_all_jobs(self, requested: int) -> None:
        assert self.health.count_allowed_jobs(requested, self.now) == requested

    @precondition(lambda self: self.until is not None)
    @rule(requested=st.integers(0, 16))
    def a_paused_container_takes_no_job_or_one_probe(self, requested: int) -> None:
        assert self.until is not None
        has_probe = self.probe_since is not None and self.now < self.probe_since + DEFAULT_SICK_PAUSE_SECONDS
        is_admitted = requested > 0 and self.now >= self.until and not has_probe
        assert self.health.count_allowed_jobs(requested, self.now) == int(is_admitted)
        if is_admitted:
            self.probe_since = self.now

    @invariant()
    def current_pause_has_the_expected_end(self) -> None:
        pause = self.health.current_pause
        assert (pause.until if pause else None) == self.until


TestContainer = Container.TestCase


@given(st.integers(1, 64))
def test_only_one_probe_is_admitted_for_many_slots_at_the_same_time(slots: int) -> None:
    health = build_sick_health()
    with ThreadPoolExecutor(8) as pool:
        assert (
            sum(pool.map(lambda _: health.count_allowed_jobs(1, START + DEFAULT_SICK_PAUSE_SECONDS), range(slots))) == 1
        )


# Disk


def test_jobs_are_taken_again_within_seconds_after_the_disk_has_room() -> None:
    """Otherwise, a job that filled the disk for a moment would stop the container's other slots for a long time."""
    check_times: list[float] = []
    now, has_space = START, False

    def has_room() -> bool:
        check_times.append(now)
        return has_space

    health, counts = ContainerHealth(has_room), []
    for number in range(10):
        now, has_space = START + number * DISK_CHECK_SECONDS / 2, number >= 5
        counts.append(health.count_allowed_jobs(2, now))
    assert DISK_CHECK_SECONDS <= 5
    assert counts == [0] * 6 + [2] * 4
    assert check_times[:3] == [START, START + DISK_CHECK_SECONDS, START + 2 * DISK_CHECK_SECONDS]
    assert len(check_times) == 3 + 4  # a disk with room is checked before every job


def test_a_full_disk_causes_a_pause_without_an_end() -> None:
    health = ContainerHealth(lambda: False)
    health.count_allowed_jobs(1, START)
    assert health.current_pause == Pause(START, None, "the disk is full or cannot be written to")


def test_no_probe_is_taken_while_the_disk_is_full() -> None:
    has_space = [True]
    health, end = ContainerHealth(lambda: has_space[0]), START + DEFAULT_SICK_PAUSE_SECONDS
    for n in range(MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", "exit code 1", "program", START)
    has_space[0] = False
    assert health.count_allowed_jobs(1, end) == 0
    has_space[0] = True
    assert health.count_allowed_jobs(1, end + DISK_CHECK_SECONDS) == 1


def build_statvfs(**changes: int) -> Any:
    """Return a replacement for statvfs that reports a disk with just enough room, except for `changes`."""
    values = {"f_bavail": MIN_FREE_BYTES // 4096, "f_frsize": 4096, "f_files": 10**6, "f_favail": 1000, "f_flag": 0}
    return lambda _: SimpleNamespace(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "has_space"),
    [({}, True), ({"f_bavail": MIN_FREE_BYTES // 4096 - 1}, False), ({"f_favail": 999}, False),
     ({"f_files": 0, "f_favail": 0}, True), ({"f_flag": os.ST_RDONLY}, False)],
)  # fmt: skip
def test_a_disk_has_room_if_it_is_writable_and_enough_bytes_and_files_are_free(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], *, has_space: bool
) -> None:
    monkeypatch.setattr(os, "statvfs", build_statvfs(**changes))
    assert has_disk_space(Path("/")) is has_space


def test_the_required_number_of_free_bytes_can_be_changed(tmp_path: Path) -> None:
    assert has_disk_space(tmp_path, min_bytes=1)
    disk_bytes = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert not has_disk_space(tmp_path, min_bytes=disk_bytes + 1)


def test_a_folder_that_does_not_exist_has_no_room(tmp_path: Path) -> None:
    assert not has_disk_space(tmp_path / "missing")


# Health documents


def build_reporter(health: ContainerHealth) -> tuple[HealthReporter, list[dict[str, Any]]]:
    """Return a reporter and the list to which it appends its documents."""
    documents: list[dict[str, Any]] = []
    return HealthReporter(health, documents.append, "i-0123", "box"), documents


def test_the_start_and_the_end_of_a_pause_are_each_written_once() -> None:
    health = build_sick_health()
    reporter, documents = build_reporter(health)
    for second in range(3):
        reporter.tick(START + second)
    health.record_success(START + 60)
    for second in range(3):
        reporter.tick(START + 60 + second)
    assert json.loads(json.dumps(documents)) == [
        {
            "machine": "i-0123", "container": "box", "jobs_at_fault": False, "state": "paused",
            "since": "2026-11-23T10:45:00.000Z", "until": "2026-11-23T11:05:00.000Z",
            "reason": "5 different jobs failed in a row; the last failure: reason 4",
            "jobs": ["job-0", "job-1", "job-2", "job-3", "job-4"], "earlier_pauses": [],
        },
        {
            "machine": "i-0123", "container": "box", "jobs_at_fault": False, "state": "working",
            "since": "2026-11-23T10:46:00.000Z", "until": None, "reason": None, "jobs": [],
            "earlier_pauses": [{
                "since": "2026-11-23T10:45:00.000Z", "until": "2026-11-23T10:46:00.000Z",
                "reason": "5 different jobs failed in a row; the last failure: reason 4",
            }],
        },
    ]  # fmt: skip


def test_a_container_that_never_paused_writes_nothing() -> None:
    health = ContainerHealth()
    reporter, documents = build_reporter(health)
    health.record_failure("job", "exit code 1", "program", START)
    reporter.tick(START)
    assert documents == []


def test_a_probe_writes_no_document_but_the_end_of_the_pause_does() -> None:
    health, end = build_sick_health(), START + DEFAULT_SICK_PAUSE_SECONDS
    reporter, documents = build_reporter(health)
    reporter.tick(START)
    health.count_allowed_jobs(1, end)
    reporter.tick(end)
    health.record_failure("job-0", "exit code 1", "program", end + 5)
    reporter.tick(end + 5)
    assert [document["state"] for document in documents] == ["paused", "working"]


def test_a_document_that_cannot_be_written_is_written_later() -> None:
    documents: list[dict[str, Any]] = []

    def write(document: dict[str, Any]) -> None:
        documents.append(document)
        if len(documents) == 1:
            raise OSError("S3 is unavailable")

    reporter = HealthReporter(build_sick_health(), write, "i-0123", "box")
    with pytest.raises(OSError, match="unavailable"):
        reporter.tick(START)
    reporter.tick(START + 1)
    reporter.tick(START + 2)
    assert len(documents) == 2


def test_a_document_stays_small_after_many_failures() -> None:
    health = ContainerHealth()
    for n in range(1000):
        health.record_failure(f"{n:091}", "x" * 100_000, "program", START)
    document = build_health_document("i-0123", "box", health.current_pause, START)
    assert len(document["jobs"]) <= MAX_REPORTED_JOBS
    assert document["reason"].startswith("5 different jobs")
    assert len(json.dumps(document)) < 4000


def test_the_document_for_a_full_disk_has_no_end_time() -> None:
    document = build_health_document("i-0123", "box", Pause(START, None, "the disk is full"), START)
    assert (document["state"], document["until"], document["jobs"]) == ("paused", None, [])


def test_refused_protection_is_reported_with_its_code_until_ecs_grants_it() -> None:
    """The document is written again every ten minutes, because readers ignore documents that are 25 minutes old."""
    health = ContainerHealth()
    reporter, documents = build_reporter(health)
    refusal = ProtectionRefusal("AccessDeniedException", "AccessDeniedException: not authorized")
    for second in range(0, 1500, 30):
        health.record_protection(refusal, START + second)
        reporter.tick(START + second)
    assert len(documents) == 3
    assert {document["since"] for document in documents} == {"2026-11-23T10:45:00.000Z"}
    last = documents[-1]
    assert (last["state"], last["until"], last["protection"]) == ("paused", None, "AccessDeniedException")
    assert "not authorized" in last["reason"]
    assert health.count_allowed_jobs(SLOTS, START + 1500) == SLOTS  # the gate waits; the next job asks again
    health.record_protection(None, START + 1530)
    reporter.tick(START + 1530)
    assert (documents[-1]["state"], "protection" in documents[-1]) == ("working", False)


def test_each_container_has_its_own_document_next_to_the_job_records() -> None:
    assert (
        build_health_key(RunKeys("App", "20261123T104500Z"), "i-0123", "box")
        == "runs/App/20261123T104500Z/machines/i-0123-box.json"
    )
    assert build_health_key(RunKeys("App", "r"), "../a b", "ü/1").startswith("runs/App/r/machines/..-a-b--")
