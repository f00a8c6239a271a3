"""How much time remains after a stop request."""

from __future__ import annotations

from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS, StopRequest
from tests.support.fakes import FakeTime


def test_running_programs_get_the_remaining_time_minus_a_reserve() -> None:
    time = FakeTime(0)
    stop = StopRequest(time.now)
    stop.announce_end(110)
    time.sleep(110 - STOP_RESERVE_SECONDS - 1)
    assert (stop.is_announced, stop.is_due) == (True, False)
    time.sleep(1)
    assert stop.is_due


def test_the_earlier_of_two_announced_end_times_counts() -> None:
    time = FakeTime(0)
    stop = StopRequest(time.now)
    stop.announce_end(STOP_RESERVE_SECONDS + 5)
    stop.announce_end(100)
    time.sleep(5)
    assert stop.is_due


def test_programs_may_run_forever_if_no_end_is_announced() -> None:
    assert not StopRequest(lambda: 1e12).is_due
