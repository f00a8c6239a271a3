"""How a container's slots are kept in work: what is taken when, what is fetched ahead, and what goes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.container import intake
from distributed_something.worker.container.intake import (
    MAX_RECEIVED_MESSAGES,
    POLL_WAIT_SECONDS,
    PREFETCH_CHECK_SECONDS,
    JobIntake,
)
from distributed_something.worker.container.prefetch import MAX_READY_SECONDS, PREFETCH_MARGIN_SECONDS
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.worker_settings import read_worker_settings
from tests.support.emulator import until
from tests.support.fakes import QUEUE_URL, FakeTime


class AtOnce(ThreadPoolExecutor):
    """Runs what is submitted before it answers."""

    def submit(self, work: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        work(*words, **named)
        return Future()


class Handler:
    """Messages are attempts; remembers what was begun and what came back. `skips`: jobs that are done already."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.back: list[str] = []
        self.skips: set[str] = set()

    def take_message(self, raw: dict[str, str], received: float) -> Any:
        return raw["Body"]

    def begin_attempt(self, body: str) -> bool:
        self.begun.append(body)
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
        gate: Any = SimpleNamespace(count_places=places, release_probe=lambda: None)
        self.sqs, self.handler, self.time = Sqs(*bodies), Handler(), FakeTime(0)
        self.stop = StopRequest(self.time.now)
        told = read_worker_settings(
            {"APP_NAME": "A", "SQS_QUEUE_URL": QUEUE_URL, "AWS_BUCKET": "b", "DOCKER_CORES": str(slots)}
        )
        handler: Any = self.handler
        self.intake = JobIntake(WorkerContext(told, self.sqs, None), handler, self.stop, gate, self.time.now)
        self.pool = AtOnce(1)

    def idle(self, *slots: int) -> None:
        """The slots wait for a job."""
        for slot in slots:
            self.intake.announce_idle_slot(slot)

    def look(self) -> None:
        self.intake.run_round(self.pool)

    def start(self, slot: int) -> str:
        """The slot takes the next job that is ready."""
        found: Any = self.intake.wait_for_attempt(slot)
        return str(found)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PREFETCH_CHECK_SECONDS", 0.001)
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
    bench.intake.durations.add_program_time(program)
    bench.intake.durations.add_fetch_time(fetch)
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


def test_jobs_ahead_of_many_slots_come_several_in_one_call() -> None:
    bench = Bench(*"abcdefgh", slots=4)
    bench.intake.durations.add_program_time(2)
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
    bench.stop.announce_end(100)
    assert bench.intake.wait_for_attempt(0) is None
    bench.intake.run()
    assert bench.handler.back == ["b"]


def test_a_slot_that_waits_is_woken_when_the_container_is_told_to_end() -> None:
    bench = Bench()
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(bench.intake.wait_for_attempt(0)))
    waiting.start()
    bench.stop.announce_end(100)
    waiting.join(10)
    assert got == [None]


def test_the_next_job_is_fetched_as_soon_as_a_slot_has_the_one_that_it_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "PREFETCH_CHECK_SECONDS", 30)
    bench = running("a", "b", "c", program=1, fetch=1)
    submitted: list[Callable[[], Any]] = []
    pool: Any = SimpleNamespace(submit=lambda work, *words: submitted.append(lambda: work(*words)))
    rounds, get_delay = [0], bench.intake.durations.get_prefetch_delay

    def count_rounds() -> float | None:
        rounds[0] += 1
        return get_delay()

    monkeypatch.setattr(bench.intake.durations, "get_prefetch_delay", count_rounds)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(lambda: [bench.intake.run_round(pool) for _ in iter(lambda: bench.stop.is_announced, True)])
        try:
            until(lambda: len(submitted) == 1, "no job is fetched ahead")
            bench.intake.record_program_end(0)
            before = rounds[0]
            slot = threads.submit(bench.start, 0)
            until(lambda: rounds[0] > before, "the polling thread is not woken")  # with nothing to do it waits again
            submitted[0]()
            assert slot.result(10) == "b"
            until(lambda: len(submitted) == 2, "the next one is not fetched", seconds=20)
        finally:
            bench.stop.announce_end(0)
            bench.idle(0)


# Short jobs: more messages come in one call than are wanted now


def short(*bodies: str, **more: Any) -> Bench:
    """A container of one slot whose last job took a tenth of a second."""
    bench = Bench(*bodies, **more)
    bench.intake.durations.add_program_time(0.1)
    bench.idle(0)
    return bench


def test_of_short_jobs_one_call_brings_as_many_as_a_second_takes_and_each_has_its_turn() -> None:
    bench = short(*"abcdefghijkl")
    begun = []
    for _ in range(12):
        bench.look()
        begun.append(bench.start(0))
        bench.time.sleep(0.1)
        bench.intake.record_program_end(0)
        bench.idle(0)
    assert begun == list("abcdefghijkl")
    assert bench.sqs.asked == [10, 10]


def test_of_messages_that_are_held_only_one_a_slot_is_fetched_ahead() -> None:
    bench = short("a", "b", "c")
    bench.look()
    bench.start(0)
    for _ in range(3):
        bench.look()
    assert (bench.sqs.bodies, bench.handler.begun) == ([], ["a", "b"])


def test_of_jobs_of_a_second_none_is_held() -> None:
    bench = Bench("a", "b", "c")
    bench.intake.durations.add_program_time(0.9)
    bench.intake.durations.add_fetch_time(0.2)
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
    bench.stop.announce_end(100)
    bench.intake.run()
    assert bench.handler.back == ["b", "c"]


def test_told_to_end_what_waits_goes_back_although_a_fetch_hangs() -> None:
    bench = short("a", "b", "c")
    begun, may_end = threading.Event(), threading.Event()
    bench.handler.begin_attempt = lambda _: begun.set() or may_end.wait(60)  # type: ignore[method-assign, func-returns-value]
    polling = threading.Thread(target=bench.intake.run)
    polling.start()
    try:
        assert begun.wait(60)
        bench.stop.announce_end(100)
        until(lambda: bench.handler.back == ["b", "c"], "they wait for the fetch")
    finally:
        may_end.set()
        polling.join()
    assert bench.handler.back == ["b", "c", "a"]


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
    assert bench.handler.begun == ["a"]
    bench.stop.announce_end(100)
    bench.intake.run()
    assert bench.handler.back == ["b", "c"]
