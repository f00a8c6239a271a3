"""The job intake: when it receives messages, which jobs it prefetches, and which jobs it returns to the queue."""

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
from tests.support.emulator import wait_until
from tests.support.fakes import QUEUE_URL, FakeTime


class SynchronousPool(ThreadPoolExecutor):
    """A thread pool that runs the submitted work before `submit` returns."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work(*args, **kwargs)
        return Future()


class FakeHandler:
    """A job handler that uses a message's body as the attempt.

    Records which attempts began and which were returned. `done`: the jobs that are already done.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.returned: list[str] = []
        self.stalled: list[str] = []  # the attempts that had not ended when the container stopped
        self.received: list[float] = []  # when the leases began, according to the intake
        self.done: set[str] = set()

    def take_message(self, raw: dict[str, str], received: float) -> Any:
        self.received.append(received)
        self.stalled.append(raw["Body"])
        return raw["Body"]

    def begin_attempt(self, body: str) -> bool:
        self.begun.append(body)
        return body not in self.done

    def return_attempt(self, body: str) -> None:
        self.returned.append(body)
        self.stalled.remove(body)

    def return_stalled_attempts(self) -> None:
        self.returned += self.stalled
        self.stalled.clear()


class FakeQueue:
    """A queue that returns its messages in order and records how many messages each call requested."""

    def __init__(self, *bodies: str) -> None:
        self.bodies, self.requested = list(bodies), list[int]()

    def receive_message(self, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:
        self.requested.append(MaxNumberOfMessages)
        received = [self.bodies.pop(0) for _ in range(min(MaxNumberOfMessages, len(self.bodies)))]
        return {"Messages": [{"Body": body} for body in received]}


class IntakeHarness:
    """An intake for `slots` slots whose clock and threads the test controls."""

    def __init__(
        self,
        *bodies: str,
        slots: int = 1,
        count_allowed: Callable[[int, int], int] = int.__add__,
        request_protection: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.pauses: list[float] = []
        gate: Any = SimpleNamespace(
            count_allowed_jobs=count_allowed, release_probe=lambda: None, pause=self.pauses.append
        )
        self.sqs, self.handler, self.time = FakeQueue(*bodies), FakeHandler(), FakeTime(0)
        self.stop = StopRequest(self.time.now)
        settings = read_worker_settings(
            {"APP_NAME": "A", "SQS_QUEUE_URL": QUEUE_URL, "AWS_BUCKET": "b", "DOCKER_CORES": str(slots)}
        )
        handler: Any = self.handler
        self.intake = JobIntake(
            WorkerContext(settings, self.sqs, None), handler, self.stop, gate, self.time.now, request_protection
        )
        self.pool = SynchronousPool(1)

    def announce_idle(self, *slots: int) -> None:
        """Announce that these slots are waiting for a job."""
        for slot in slots:
            self.intake.announce_idle_slot(slot)

    def run_round(self) -> None:
        self.intake.run_round(self.pool)

    def start_job(self, slot: int) -> str:
        """Let the slot take the next job that is ready, and return the job."""
        attempt: Any = self.intake.wait_for_attempt(slot)
        self.handler.stalled.remove(attempt)
        return str(attempt)


@pytest.fixture(autouse=True)
def skip_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PREFETCH_CHECK_SECONDS", 0.001)
    assert PREFETCH_CHECK_SECONDS < POLL_WAIT_SECONDS


def test_an_idle_container_requests_one_job_per_free_slot() -> None:
    harness = IntakeHarness("a", "b", "c", slots=3)
    harness.announce_idle(0, 1)
    harness.run_round()
    assert harness.sqs.requested == [2]
    assert {harness.start_job(0), harness.start_job(1)} == {"a", "b"}


def test_a_lease_begins_when_its_message_is_requested_not_when_the_response_arrives() -> None:
    harness = IntakeHarness("a")
    receive_message = harness.sqs.receive_message

    def receive_late(**request: Any) -> dict[str, Any]:
        harness.time.sleep(5)
        return receive_message(**request)

    harness.sqs.receive_message = receive_late  # type: ignore[method-assign]
    harness.announce_idle(0)
    harness.run_round()
    assert harness.handler.received == [0]


def test_one_call_never_requests_more_messages_than_sqs_allows() -> None:
    harness = IntakeHarness(slots=16)
    harness.announce_idle(*range(16))
    harness.run_round()
    assert harness.sqs.requested == [MAX_RECEIVED_MESSAGES]


def test_jobs_return_to_the_queue_and_no_more_are_taken_for_a_while_if_ecs_refuses_protection() -> None:
    harness = IntakeHarness("a", "b", slots=2, request_protection=lambda: 45.0)
    harness.announce_idle(0, 1)
    harness.run_round()
    assert harness.handler.returned == ["a", "b"]
    assert harness.handler.begun == []
    assert harness.pauses == [45.0]


def test_protection_is_not_requested_before_a_job_has_been_received() -> None:
    requests: list[int] = []
    harness = IntakeHarness(request_protection=lambda: requests.append(1) or 0.0)
    harness.announce_idle(0)
    harness.run_round()
    assert requests == []


def test_no_second_job_is_received_for_a_slot_whose_job_is_being_fetched() -> None:
    harness = IntakeHarness("a", "b")
    harness.announce_idle(0)
    harness.run_round()
    harness.run_round()
    assert harness.sqs.requested == [1]


def test_no_job_is_prefetched_during_a_containers_first_program_because_its_duration_is_unknown() -> None:
    harness = IntakeHarness("a", "b")
    harness.announce_idle(0)
    harness.run_round()
    harness.start_job(0)
    harness.time.sleep(1e6)
    harness.run_round()
    assert harness.sqs.bodies == ["b"]


def build_busy_harness(*bodies: str, program: float, fetch: float) -> IntakeHarness:
    """Return a harness whose slot is running the first job; earlier jobs had these durations."""
    harness = IntakeHarness(*bodies)
    harness.intake.durations.add_program_time(program)
    harness.intake.durations.add_fetch_time(fetch)
    harness.announce_idle(0)
    harness.run_round()
    harness.start_job(0)
    return harness


def test_one_job_is_prefetched_just_in_time() -> None:
    harness = build_busy_harness("a", "b", "c", program=100, fetch=20)
    harness.time.sleep(100 - 30 - PREFETCH_MARGIN_SECONDS - 1)
    harness.run_round()
    assert harness.sqs.bodies == ["b", "c"]
    harness.time.sleep(1)
    harness.run_round()
    harness.run_round()
    assert harness.sqs.bodies == ["c"]


def test_a_job_that_waits_too_long_for_its_slot_is_returned_and_not_replaced() -> None:
    harness = build_busy_harness("a", "b", "c", program=1, fetch=1)
    harness.run_round()
    harness.time.sleep(MAX_READY_SECONDS + 1)
    harness.run_round()
    harness.run_round()
    assert harness.handler.returned == ["b"]
    assert harness.sqs.bodies == ["c"]


def test_a_fetched_job_is_started_by_the_first_free_slot() -> None:
    harness = build_busy_harness("a", "b", program=1, fetch=1)
    harness.run_round()
    assert harness.start_job(1) == "b"


def test_jobs_for_many_slots_are_prefetched_in_one_call() -> None:
    harness = IntakeHarness(*"abcdefgh", slots=4)
    harness.intake.durations.add_program_time(2)
    harness.announce_idle(0, 1, 2, 3)
    harness.run_round()
    for slot in range(4):
        harness.start_job(slot)
    harness.run_round()
    harness.start_job(0)
    harness.run_round()
    assert harness.sqs.requested == [4, 4]
    harness.start_job(1)
    harness.run_round()
    assert harness.sqs.requested == [4, 4, 2]


def test_the_next_job_is_received_after_a_job_that_is_already_done() -> None:
    harness = IntakeHarness("a", "b")
    harness.handler.done = {"a"}
    harness.announce_idle(0)
    harness.run_round()
    harness.run_round()
    assert harness.start_job(0) == "b"


def test_a_container_that_may_not_take_jobs_requests_none() -> None:
    harness = IntakeHarness("a", count_allowed=lambda needed, extra: 0)
    harness.announce_idle(0)
    harness.run_round()
    assert harness.sqs.requested == []


def test_when_the_container_ends_slots_get_no_job_and_fetched_jobs_are_returned() -> None:
    harness = build_busy_harness("a", "b", program=1, fetch=1)
    harness.run_round()
    harness.stop.announce_end(100)
    assert harness.intake.wait_for_attempt(0) is None
    harness.intake.run()
    assert harness.handler.returned == ["b"]


def test_a_waiting_slot_is_woken_when_the_container_must_end() -> None:
    harness = IntakeHarness()
    results: list[object] = []
    waiting = threading.Thread(target=lambda: results.append(harness.intake.wait_for_attempt(0)))
    waiting.start()
    harness.stop.announce_end(100)
    waiting.join(10)
    assert results == [None]


def test_the_next_job_is_fetched_as_soon_as_a_waiting_slot_gets_its_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "PREFETCH_CHECK_SECONDS", 30)
    harness = build_busy_harness("a", "b", "c", program=1, fetch=1)
    submitted: list[Callable[[], Any]] = []
    pool: Any = SimpleNamespace(submit=lambda work, *args: submitted.append(lambda: work(*args)))
    rounds, get_delay = [0], harness.intake.durations.get_prefetch_delay

    def count_rounds() -> float | None:
        rounds[0] += 1
        return get_delay()

    monkeypatch.setattr(harness.intake.durations, "get_prefetch_delay", count_rounds)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(lambda: [harness.intake.run_round(pool) for _ in iter(lambda: harness.stop.is_announced, True)])
        try:
            wait_until(lambda: len(submitted) == 1, "no job was prefetched")
            harness.intake.record_program_end(0)
            rounds_before = rounds[0]
            slot = threads.submit(harness.start_job, 0)
            wait_until(
                lambda: rounds[0] > rounds_before, "the polling thread was not woken"
            )  # the thread has nothing to do and waits again
            submitted[0]()
            assert slot.result(10) == "b"
            wait_until(lambda: len(submitted) == 2, "the next job was not fetched", seconds=20)
        finally:
            harness.stop.announce_end(0)
            harness.announce_idle(0)


# Short jobs: one call receives more messages than the slots need right away.


def build_short_job_harness(*bodies: str, **options: Any) -> IntakeHarness:
    """Return a harness with one idle slot whose last job took a tenth of a second."""
    harness = IntakeHarness(*bodies, **options)
    harness.intake.durations.add_program_time(0.1)
    harness.announce_idle(0)
    return harness


def test_one_call_receives_a_seconds_worth_of_short_jobs_which_start_in_order() -> None:
    harness = build_short_job_harness(*"abcdefghijkl")
    begun = []
    for _ in range(12):
        harness.run_round()
        begun.append(harness.start_job(0))
        harness.time.sleep(0.1)
        harness.intake.record_program_end(0)
        harness.announce_idle(0)
    assert begun == list("abcdefghijkl")
    assert harness.sqs.requested == [10, 10]


def test_only_one_of_several_received_jobs_is_prefetched_per_slot() -> None:
    harness = build_short_job_harness("a", "b", "c")
    harness.run_round()
    harness.start_job(0)
    for _ in range(3):
        harness.run_round()
    assert (harness.sqs.bodies, harness.handler.begun) == ([], ["a", "b"])


def test_no_extra_messages_are_received_if_a_job_takes_a_second() -> None:
    harness = IntakeHarness("a", "b", "c")
    harness.intake.durations.add_program_time(0.9)
    harness.intake.durations.add_fetch_time(0.2)
    harness.announce_idle(0)
    harness.run_round()
    assert harness.sqs.requested == [1]


def test_a_message_that_waits_too_long_is_returned() -> None:
    harness = build_short_job_harness("a", "b", "c")
    harness.run_round()
    harness.start_job(0)
    harness.time.sleep(MAX_READY_SECONDS + 1)
    harness.run_round()
    assert set(harness.handler.returned) == {"b", "c"}


def test_when_the_container_ends_waiting_messages_are_returned() -> None:
    harness = build_short_job_harness("a", "b", "c")
    harness.run_round()
    harness.start_job(0)
    harness.stop.announce_end(100)
    harness.intake.run()
    assert harness.handler.returned == ["b", "c"]


def test_when_the_container_ends_all_messages_are_returned_even_if_a_fetch_hangs() -> None:
    harness = build_short_job_harness("a", "b", "c")
    begun, may_end = threading.Event(), threading.Event()
    harness.handler.begin_attempt = lambda _: begun.set() or may_end.wait(60)  # type: ignore[method-assign, func-returns-value]
    polling = threading.Thread(target=harness.intake.run)
    polling.start()
    try:
        assert begun.wait(60)
        harness.stop.announce_end(100)
        polling.join(60)
        assert not polling.is_alive(), "the intake waits for the fetch"
        assert harness.handler.returned == ["a", "b", "c"]
    finally:
        may_end.set()


def test_a_container_that_may_take_only_one_job_receives_only_one() -> None:
    harness = build_short_job_harness("a", "b", count_allowed=lambda needed, extra: 1)
    harness.run_round()
    assert harness.sqs.requested == [1]


def test_a_container_that_may_take_no_more_jobs_does_not_start_received_ones() -> None:
    allowed = [10, 0, 0]
    harness = build_short_job_harness("a", "b", "c", count_allowed=lambda needed, extra: allowed.pop(0))
    harness.run_round()
    harness.start_job(0)
    harness.announce_idle(0)
    harness.run_round()
    harness.run_round()
    assert harness.handler.begun == ["a"]
    harness.stop.announce_end(100)
    harness.intake.run()
    assert harness.handler.returned == ["b", "c"]
