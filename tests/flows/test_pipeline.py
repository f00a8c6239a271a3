"""How a container's slots are kept in work: what is taken when, what is fetched ahead, and what goes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.config_settings import MIN_LEASE_SECONDS
from distributed_something.worker.attempt.attempt import Attempt, build_message_attributes, read_attempt_counts
from distributed_something.worker.attempt.handler import Hooks
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.intake import (
    MAX_RECEIVED_MESSAGES,
    POLL_WAIT_SECONDS,
    PREFETCH_CHECK_SECONDS,
    JobIntake,
)
from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, PREFETCH_MARGIN_SECONDS, JobDurations
from distributed_something.worker.container.slot import Slot
from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS, StopRequest
from distributed_something.worker.job import job
from distributed_something.worker.job.job import Folders, _get_scripts_folder, job_from_message
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.emulator import until
from tests.support.fakes import QUEUE_URL, FakeTime


class AtOnce(ThreadPoolExecutor):
    """Runs what is submitted before it answers."""

    def submit(self, work: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        work(*words, **named)
        return Future()


class Handler:
    """Messages are attempts; remembers what came back. `skips`: jobs that are done already."""

    def __init__(self) -> None:
        self.back: list[str] = []
        self.skips: set[str] = set()

    def take(self, raw: dict[str, str], received: float) -> Any:
        return raw["Body"]

    def begin(self, body: str) -> bool:
        return body not in self.skips

    def give_back(self, body: str) -> None:
        self.back.append(body)


class Sqs:
    """A queue that gives its messages in order."""

    def __init__(self, *bodies: str) -> None:
        self.bodies, self.asked = list(bodies), list[int]()

    def receive_message(self, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:
        self.asked.append(MaxNumberOfMessages)
        given = [self.bodies.pop(0) for _ in range(min(MaxNumberOfMessages, len(self.bodies)))]
        return {"Messages": [{"Body": body} for body in given]}


class Bench:
    """An intake of so many slots whose clock and threads a test moves itself."""

    def __init__(self, *bodies: str, slots: int = 1, places: Callable[[int, int], int] = int.__add__) -> None:
        gate: Any = SimpleNamespace(places=places, came_to_nothing=lambda: None)
        self.sqs, self.handler, self.time, self.pace = Sqs(*bodies), Handler(), FakeTime(0), JobDurations()
        self.stop = StopRequest(self.time.now)
        told = read_worker_settings(
            {"APP_NAME": "A", "SQS_QUEUE_URL": QUEUE_URL, "AWS_BUCKET": "b", "DOCKER_CORES": str(slots)}
        )
        handler: Any = self.handler
        self.intake = JobIntake(self.sqs, told, handler, self.stop, self.pace, gate, self.time.now)
        self.pool = AtOnce(1)

    def idle(self, *slots: int) -> None:
        """The slots wait for a job."""
        self.intake._idle.update(slots)

    def look(self) -> None:
        self.intake.look(self.pool)

    @property
    def waits(self) -> bool:
        """Whether the polling thread waits until somebody tells it to look."""
        waiters: Any = vars(self.intake._for_polling)["_waiters"]
        return bool(waiters)

    def start(self, slot: int) -> str:
        """The slot takes the next job that is ready."""
        found: Any = self.intake.wait_for_attempt(slot)
        return str(found)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.machinery.intake.LOOK_SECONDS", 0.001)
    assert PREFETCH_CHECK_SECONDS < POLL_WAIT_SECONDS


def test_an_idle_container_asks_for_as_many_jobs_as_it_has_slots_free() -> None:
    bench = Bench("a", "b", "c", slots=3)
    bench.idle(0, 1)
    bench.look()
    assert bench.sqs.asked == [2]
    assert {bench.start(0), bench.start(1)} == {"a", "b"}


def test_sqs_is_never_asked_for_more_than_it_gives_at_once() -> None:
    bench = Bench(slots=16)
    bench.idle(*range(16))
    bench.look()
    assert bench.sqs.asked == [MAX_RECEIVED_MESSAGES]


def test_nothing_is_taken_for_a_slot_whose_job_is_on_its_way() -> None:
    bench = Bench("a", "b")
    bench.idle(0)
    bench.look()
    bench.look()
    assert bench.sqs.asked == [1]


def test_the_first_program_of_a_container_has_no_job_fetched_ahead_since_nobody_knows_how_long_it_runs() -> None:
    bench = Bench("a", "b")
    bench.idle(0)
    bench.look()
    bench.start(0)
    bench.time.sleep(1e6)
    bench.look()
    assert bench.sqs.bodies == ["b"]


def running(*bodies: str, program: float, fetch: float) -> Bench:
    """A slot that runs the first job, in a container whose last jobs took so long."""
    bench = Bench(*bodies)
    bench.pace.add_program_time(program)
    bench.pace.add_fetch_time(fetch)
    bench.idle(0)
    bench.look()
    bench.start(0)
    return bench


def test_one_job_is_fetched_ahead_just_in_time() -> None:
    bench = running("a", "b", "c", program=100, fetch=20)
    bench.time.sleep(100 - 30 - PREFETCH_MARGIN_SECONDS - 1)
    bench.look()
    assert bench.sqs.bodies == ["b", "c"]
    bench.time.sleep(1)
    bench.look()
    bench.look()
    assert bench.sqs.bodies == ["c"]


def test_a_job_that_waits_too_long_for_its_slot_goes_back_and_the_slot_gets_no_other() -> None:
    bench = running("a", "b", "c", program=1, fetch=1)
    bench.look()
    bench.time.sleep(MAX_READY_SECONDS + 1)
    bench.look()
    bench.look()
    assert bench.handler.back == ["b"]
    assert bench.sqs.bodies == ["c"]


def test_a_job_fetched_for_one_slot_is_begun_by_whichever_is_free_first() -> None:
    bench = running("a", "b", program=1, fetch=1)
    bench.look()
    assert bench.start(1) == "b"


def test_a_job_that_is_done_already_makes_room_for_the_next() -> None:
    bench = Bench("a", "b")
    bench.handler.skips = {"a"}
    bench.idle(0)
    bench.look()
    bench.look()
    assert bench.start(0) == "b"


def test_a_container_that_may_take_nothing_asks_for_nothing() -> None:
    bench = Bench("a", places=lambda wanted, ahead: 0)
    bench.idle(0)
    bench.look()
    assert bench.sqs.asked == []


def test_told_to_end_slots_get_no_job_and_what_was_fetched_goes_back() -> None:
    bench = running("a", "b", program=1, fetch=1)
    bench.look()
    bench.stop.tell(100)
    assert bench.intake.wait_for_attempt(0) is None
    bench.intake.run()
    assert bench.handler.back == ["b"]


def test_told_to_end_what_waits_goes_back_although_a_fetch_hangs() -> None:
    bench = short("a", "b", "c")
    begun, may_end = threading.Event(), threading.Event()
    bench.handler.begin = lambda _: begun.set() or may_end.wait(60)  # type: ignore[method-assign, func-returns-value]
    polling = threading.Thread(target=bench.intake.run)
    polling.start()
    try:
        assert begun.wait(60)
        bench.stop.tell(100)
        until(lambda: bench.handler.back == ["b", "c"], "they wait for the fetch")
    finally:
        may_end.set()
        polling.join()
    assert bench.handler.back == ["b", "c", "a"]


def test_a_slot_that_waits_is_woken_when_the_container_is_told_to_end() -> None:
    bench = Bench()
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(bench.intake.wait_for_attempt(0)))
    waiting.start()
    bench.stop.tell(100)
    waiting.join(10)
    assert got == [None]


@given(st.lists(st.floats(0, 1e5)), st.lists(st.floats(0, 1e5)))
def test_a_fetch_ahead_is_never_due_before_the_program_starts_or_after_it_usually_ends(
    programs: list[float], fetches: list[float]
) -> None:
    pace = JobDurations()
    for seconds in programs:
        pace.add_program_time(seconds)
    for seconds in fetches:
        pace.add_fetch_time(seconds)
    due = pace.get_prefetch_delay()
    assert due is None if not programs else due is not None and 0 <= due <= max(programs)


# The end


def test_running_programs_get_the_time_that_is_left_less_a_reserve() -> None:
    time = FakeTime(0)
    stop = StopRequest(time.now)
    stop.tell(110)
    time.sleep(110 - STOP_RESERVE_SECONDS - 1)
    assert (stop.asked, stop.over) == (True, False)
    time.sleep(1)
    assert stop.over


def test_of_two_ends_the_earlier_one_counts() -> None:
    time = FakeTime(0)
    stop = StopRequest(time.now)
    stop.tell(STOP_RESERVE_SECONDS + 5)
    stop.tell(100)
    time.sleep(5)
    assert stop.over


def test_the_next_job_is_fetched_as_soon_as_a_slot_has_the_one_that_it_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.machinery.intake.LOOK_SECONDS", 30)
    bench = running("a", "b", "c", program=1, fetch=1)
    submitted: list[Callable[[], Any]] = []
    pool: Any = SimpleNamespace(submit=lambda work, *words: submitted.append(lambda: work(*words)))
    looks = iter(lambda: bench.stop.asked, True)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(lambda: [bench.intake.look(pool) for _ in looks])
        try:
            until(lambda: len(submitted) == 1, "no job is fetched ahead")
            bench.intake.ended(0)
            slot = threads.submit(bench.start, 0)
            until(lambda: bench.intake._idle and bench.waits, "the slot does not wait")
            submitted[0]()
            assert slot.result(10) == "b"
            until(lambda: len(submitted) == 2, "the next one is not fetched", seconds=20)
        finally:
            bench.stop.tell(0)
            with bench.intake._lock:
                bench.intake._for_polling.notify()


def test_without_an_end_nothing_is_over() -> None:
    assert not StopRequest(lambda: 1e12).over


def test_a_jobs_outputs_go_up_while_the_next_program_runs_and_at_most_one_jobs() -> None:
    jobs, finished = list("abc"), list[str]()
    begun = {job: threading.Event() for job in jobs}

    def run(job: str) -> bool:
        begun[job].set()
        return True

    def finish(job: str) -> None:
        assert begun["b"].wait(10), "the next program does not start before these outputs are up"
        assert job != "a" or not begun["c"].wait(0.2), "a second job's outputs wait behind these"
        finished.append(job)

    intake: Any = SimpleNamespace(next=lambda _: jobs.pop(0) if jobs else None, ended=lambda _: None)
    handler: Any = SimpleNamespace(run=run, finish=finish)
    with ThreadPoolExecutor(8) as uploads:
        Slot(0, intake, handler, uploads, StopRequest(lambda: 0.0), 0.0).run()
    assert finished == ["a", "b", "c"]


def container(monkeypatch: pytest.MonkeyPatch, **env: str) -> Any:
    """A container on AWS that nothing calls."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    told = read_worker_settings({"APP_NAME": "A", "SQS_QUEUE_URL": QUEUE_URL, "AWS_BUCKET": "b"} | env)
    return Container(told, Hooks(*[lambda *_: None] * 3), SimpleQueue(), InstanceMetadata({}))


def test_a_containers_slots_begin_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(StopRequest, "wait", lambda _, seconds: waited.append(seconds))
    monkeypatch.setattr(JobIntake, "run", lambda _: None)
    monkeypatch.setattr(JobIntake, "next", lambda *_: None)
    container(monkeypatch, DOCKER_CORES="3", SECONDS_TO_START="7")._run_slots()
    assert sorted(waited) == [0, 7, 14]


def test_a_call_that_hangs_is_repeated_while_a_lease_of_the_shortest_kind_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = container(monkeypatch, SQS_MESSAGE_VISIBILITY=str(MIN_LEASE_SECONDS))
    config = made._keeper._sqs.meta.config
    round_, pause = MIN_LEASE_SECONDS / 3, 1  # botocore's first pause is a second at most
    assert round_ + 2 * max(config.connect_timeout, config.read_timeout) + pause < MIN_LEASE_SECONDS


def test_a_containers_slots_and_intake_share_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr("worker.machinery.container.keep_to_one", lambda: kept.append("one"))
    monkeypatch.setattr(Slot, "run", lambda _: None)
    monkeypatch.setattr(JobIntake, "run", lambda _: None)
    container(monkeypatch, DOCKER_CORES="3")._run_slots()
    assert kept == ["one"] * 4


@pytest.mark.parametrize("part", [Slot, JobIntake])
def test_a_container_whose_slot_or_intake_fails_ends_so_that_another_takes_its_place(
    part: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(JobIntake, "run", lambda intake: intake._stop.wait(60))
    monkeypatch.setattr(part, "run", fail)
    made = container(monkeypatch, DOCKER_CORES="2")
    made._run_slots()
    assert made._exit_code == 1


# What a message tells of earlier attempts


def received(times: object = "1", **counts: object) -> dict[str, Any]:
    told = {name: {"StringValue": count} for name, count in counts.items()}
    return {"Attributes": {"ApproximateReceiveCount": times}, "MessageAttributes": told}


def test_receives_count_as_tries_and_failures() -> None:
    assert read_attempt_counts(received("3")) == (2, 2)


def test_what_an_interrupted_message_carries_is_added() -> None:
    assert read_attempt_counts(received("2", tries="4", failures="1")) == (5, 2)


@pytest.mark.parametrize("nonsense", ["", "-1", "many", "9" * 5000, None])
def test_counts_that_are_no_numbers_count_as_none(nonsense: object) -> None:
    assert read_attempt_counts(received("1", tries=nonsense, failures=nonsense)) == (0, 0)


@pytest.mark.parametrize(("begun", "tries"), [(True, 5), (False, 4)])
def test_an_interruption_is_no_failure_and_a_try_if_the_program_was_begun(begun: bool, tries: int) -> None:
    nothing: Any = None
    again = build_message_attributes(Attempt({}, nothing, nothing, tries=4, failures=1, begun=begun))
    assert read_attempt_counts({"Attributes": {"ApproximateReceiveCount": "1"}, "MessageAttributes": again}) == (
        tries,
        1,
    )


def test_a_folder_of_scripts_lies_beside_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("sys.argv", [str(tmp_path / "generic-worker.py")])
    _get_scripts_folder.cache_clear()
    made = job_from_message({"group": "g", "command": "{scripts_dir}/x"}, Folders(tmp_path), job.Names("bucket", "app"))
    _get_scripts_folder.cache_clear()
    assert made.command == [f"{tmp_path}/scripts/x"]


def test_jobs_ahead_of_many_slots_come_several_in_one_call() -> None:
    bench = Bench(*"abcdefgh", slots=4)
    bench.pace.add_program_time(2)
    bench.idle(0, 1, 2, 3)
    bench.look()
    for slot in range(4):
        bench.start(slot)
    bench.look()
    bench.start(0)
    bench.look()
    assert bench.sqs.asked == [4, 4]
    bench.start(1)
    bench.look()
    assert bench.sqs.asked == [4, 4, 2]


# Short jobs: more messages come in one call than are wanted now


def short(*bodies: str, **more: Any) -> Bench:
    """A container of one slot whose last job took a tenth of a second."""
    bench = Bench(*bodies, **more)
    bench.pace.add_program_time(0.1)
    bench.idle(0)
    return bench


def test_of_short_jobs_one_call_brings_as_many_as_a_second_takes_and_each_has_its_turn() -> None:
    bench = short(*"abcdefghijkl")
    begun = []
    for _ in range(12):
        bench.look()
        begun.append(bench.start(0))
        bench.time.sleep(0.1)
        bench.intake.ended(0)
        bench.idle(0)
    assert begun == list("abcdefghijkl")
    assert bench.sqs.asked == [10, 10]


def test_of_messages_that_are_held_only_one_a_slot_is_fetched_ahead() -> None:
    bench = short("a", "b", "c")
    bench.look()
    bench.start(0)
    for _ in range(3):
        bench.look()
    assert [ready for ready, _ in bench.intake._ready] == ["b"]
    assert [held for held, _ in bench.intake._held] == ["c"]


def test_of_jobs_of_a_second_none_is_held() -> None:
    bench = Bench("a", "b", "c")
    bench.pace.add_program_time(0.9)
    bench.pace.add_fetch_time(0.2)
    bench.idle(0)
    bench.look()
    assert bench.sqs.asked == [1]


def test_a_message_that_is_held_too_long_goes_back() -> None:
    bench = short("a", "b", "c")
    bench.look()
    bench.start(0)
    bench.time.sleep(MAX_READY_SECONDS + 1)
    bench.look()
    assert set(bench.handler.back) == {"b", "c"}


def test_told_to_end_messages_that_are_held_go_back() -> None:
    bench = short("a", "b", "c")
    bench.look()
    bench.start(0)
    bench.stop.tell(100)
    bench.intake.run()
    assert bench.handler.back == ["b", "c"]


def test_a_container_that_may_take_one_job_only_holds_none() -> None:
    bench = short("a", "b", places=lambda wanted, ahead: 1)
    bench.look()
    assert bench.sqs.asked == [1]


def test_a_container_that_may_take_nothing_any_more_begins_nothing_that_it_holds() -> None:
    allowed = [10, 0, 0]
    bench = short("a", "b", "c", places=lambda wanted, ahead: allowed.pop(0))
    bench.look()
    bench.start(0)
    bench.idle(0)
    bench.look()
    bench.look()
    assert [held for held, _ in bench.intake._held] == ["b", "c"]
