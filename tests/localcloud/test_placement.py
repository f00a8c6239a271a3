"""The scheduler's decisions, without a clock and without a cloud."""

from __future__ import annotations

from distributed_something.localcloud.play.placement import (
    FreeCapacity,
    StartThrottle,
    TaskRequirements,
    choose_machine,
    format_placement_failure,
)


def test_a_task_goes_where_the_fewest_are_and_there_is_room() -> None:
    rooms = [FreeCapacity("full", 100, 10), FreeCapacity("busy", 4000, 4000, tasks=1), FreeCapacity("free", 4000, 3000)]
    chosen = choose_machine(TaskRequirements(1000, 2000), rooms)
    assert chosen is not None
    assert chosen.arn == "free"
    assert choose_machine(TaskRequirements(5000, 10), rooms) is None
    assert "insufficient CPU units" in format_placement_failure(TaskRequirements(5000, 10), rooms)
    assert "insufficient memory" in format_placement_failure(TaskRequirements(10, 5000), rooms)
    assert "MemberOf placement constraint unsatisfied" in format_placement_failure(TaskRequirements(10, 10), [], rooms)


def test_a_worker_that_ends_at_once_again_and_again_waits_longer_each_time() -> None:
    throttle = StartThrottle()
    delays = []
    for _ in range(10):
        throttle.record_end(1, now=100)
        delays.append(throttle.open_from - 100)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    throttle.record_end(3600, now=100)
    assert throttle.is_open(100)
