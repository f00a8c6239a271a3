"""The scheduler's decisions, tested without a clock and without a local cloud."""

from __future__ import annotations

from distributed_something.localcloud.play.placement import (
    FreeCapacity,
    StartThrottle,
    TaskRequirements,
    choose_machine,
    format_placement_failure,
)


def test_a_task_starts_on_the_machine_that_has_room_and_runs_the_fewest_tasks() -> None:
    machines = [
        FreeCapacity("full", 100, 10),
        FreeCapacity("busy", 4000, 4000, tasks=1),
        FreeCapacity("free", 4000, 3000),
    ]
    chosen = choose_machine(TaskRequirements(1000, 2000), machines)
    assert chosen is not None
    assert chosen.arn == "free"
    assert choose_machine(TaskRequirements(5000, 10), machines) is None
    assert "insufficient CPU units" in format_placement_failure(TaskRequirements(5000, 10), machines)
    assert "insufficient memory" in format_placement_failure(TaskRequirements(10, 5000), machines)
    failure = format_placement_failure(TaskRequirements(10, 10), [], machines)
    assert "MemberOf placement constraint unsatisfied" in failure


def test_the_delay_grows_up_to_a_limit_while_tasks_keep_ending_quickly() -> None:
    throttle = StartThrottle()
    delays = []
    for _ in range(10):
        throttle.record_end(1, now=100)
        delays.append(throttle.open_from - 100)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    throttle.record_end(3600, now=100)
    assert throttle.is_open(100)
