"""Tests that the service's task count is never below the number of containers that are protected from scale-in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunCaches, RunSnapshot
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.loop import observe_details
from distributed_something.run.monitor.policy import (
    PROTECTION_DENIED_MESSAGE,
    FleetTargetChange,
    MonitorAction,
    Pace,
    RunClosure,
    TaskCountChange,
    choose_actions,
    has_surplus_containers,
    is_protection_relevant,
)
from distributed_something.run.run_status import RunView, list_messages
from tests.support.fakes import MONITOR_FILE, START, ExactClients, FakeBucket, expect_exact_calls

PACE = Pace()
FILE = replace(MONITOR_FILE, MONITOR_MACHINES=100, MONITOR_TASKS_PER_MACHINE=1, MONITOR_JOBS_PER_TASK=2)
COSTLY_FILE = replace(FILE, MONITOR_MAX_COST=10.0)
NO_HISTORY = RunHistory()
CLOSED = RunHistory(cost=10.0, closed=True)


def build_snapshot(
    queue: QueueCounts, service: ServiceState, protected: int | None, state: str = "active"
) -> RunSnapshot:
    machines = tuple(f"i-{number}" for number in range(service.running))
    fleet = FleetState(state, service.desired, machines)
    return RunSnapshot(START, queue, RunTotals(done=1), None, fleet, service, protected=protected)


def decide(snapshot: RunSnapshot, history: RunHistory = NO_HISTORY, file: Any = FILE) -> list[MonitorAction]:
    history = update_history(history, snapshot, PACE.settling_seconds)
    return choose_actions(snapshot, history, file, cheapest=False, pace=PACE)


def list_task_counts(actions: list[MonitorAction]) -> list[int]:
    return [action.tasks for action in actions if isinstance(action, TaskCountChange)]


def test_a_hundred_containers_that_have_one_job_in_two_slots_are_all_kept() -> None:
    """Otherwise, ECS would refuse to renew their protection. The fleet needs no replacement for their machines."""
    snapshot = build_snapshot(QueueCounts(0, 100), ServiceState(100, 100, 0), 100)
    assert decide(snapshot) == [FleetTargetChange(50)]
    assert not has_surplus_containers(snapshot, FILE)


def test_the_task_count_follows_the_protected_containers_down_to_what_the_jobs_need() -> None:
    for protected, count in ((99, 99), (60, 60), (50, 50), (45, 50)):
        assert list_task_counts(decide(build_snapshot(QueueCounts(0, 100), ServiceState(100, 100, 0), protected))) == [
            count
        ]


def test_more_protected_than_desired_containers_raise_the_task_count_even_if_no_job_waits() -> None:
    assert list_task_counts(decide(build_snapshot(QueueCounts(0, 10), ServiceState(5, 8, 0), 8))) == [8]


def test_at_the_cost_limit_only_unprotected_containers_are_stopped() -> None:
    at_limit = build_snapshot(QueueCounts(300, 100), ServiceState(100, 100, 0), 97)
    assert decide(at_limit, RunHistory(cost=10.0), COSTLY_FILE) == [
        RunClosure(), TaskCountChange(97), FleetTargetChange(0)
    ]  # fmt: skip
    last = build_snapshot(QueueCounts(300, 0), ServiceState(3, 3, 0), 0)
    assert list_task_counts(decide(last, CLOSED, COSTLY_FILE)) == [0]


def test_a_fleet_that_has_ended_does_not_let_the_count_of_a_closed_run_fall_below_its_protected_containers() -> None:
    ended = build_snapshot(QueueCounts(300, 4), ServiceState(4, 4, 0), 2, state="cancelled_running")
    assert decide(ended, CLOSED, COSTLY_FILE) == [TaskCountChange(2)]


def test_if_the_number_is_unknown_as_many_containers_are_kept_as_may_be_protected() -> None:
    """A protected container has at least one leased job."""
    for running, leased, count in ((100, 100, []), (100, 70, [70]), (100, 20, [10]), (8, 50, [25])):
        snapshot = build_snapshot(QueueCounts(0, leased), ServiceState(100, running, 0), None)
        assert list_task_counts(decide(snapshot)) == (count if leased != 20 else [20])
    closing = build_snapshot(QueueCounts(300, 40), ServiceState(100, 100, 0), None)
    assert list_task_counts(decide(closing, CLOSED, COSTLY_FILE)) == [40]


numbers = st.integers(0, 120)


@given(numbers, numbers, numbers, numbers, st.booleans(), st.booleans(), st.data())
def test_no_task_count_is_below_the_number_of_protected_containers(
    waiting: int, leased: int, desired: int, running: int, closing: bool, known: bool, data: st.DataObject
) -> None:
    """A protected container is running and has a leased job, as far as the counts are current."""
    protected = data.draw(st.integers(0, min(running, leased)))
    snapshot = build_snapshot(
        QueueCounts(waiting, leased), ServiceState(desired, running, 0), protected if known else None
    )
    counts = list_task_counts(decide(snapshot, CLOSED if closing else NO_HISTORY, COSTLY_FILE if closing else FILE))
    assert all(count >= min(protected, desired if not known else protected) for count in counts)
    if known and protected > desired:
        assert counts or snapshot.jobs == 0


@pytest.mark.parametrize(
    ("jobs", "desired", "running", "history", "is_relevant"),
    [
        (200, 100, 100, NO_HISTORY, False),  # there is a job for each slot
        (199, 100, 100, NO_HISTORY, False),
        (198, 100, 100, NO_HISTORY, True),  # the tail: 99 containers are enough
        (100, 50, 50, NO_HISTORY, False),
        (200, 50, 60, NO_HISTORY, True),  # more are running than desired, so they may be protected
        (200, 100, 100, CLOSED, True),
        (200, 0, 0, CLOSED, False),
    ],
)
def test_the_number_is_looked_up_only_if_it_can_change_the_task_count(
    jobs: int, desired: int, running: int, history: RunHistory, is_relevant: bool
) -> None:
    snapshot = build_snapshot(QueueCounts(jobs, 0), ServiceState(desired, running, 0), None)
    assert is_protection_relevant(snapshot, history, COSTLY_FILE) == is_relevant


def expect_protection(aws: ExactClients, *, is_allowed: bool) -> None:
    aws.expect_call("ecs.list_tasks", None, taskArns=["arn:1"])
    if is_allowed:
        protected = [{"taskArn": "arn:1", "protectionEnabled": True}]
        aws.expect_call("ecs.get_task_protection", None, protectedTasks=protected, failures=[])
    else:
        aws.expect_error("ecs.get_task_protection", "AccessDeniedException")


def test_a_role_without_the_permission_is_reported_once_and_not_as_an_error() -> None:
    snapshot = build_snapshot(QueueCounts(0, 1), ServiceState(2, 2, 0), None)
    bucket: Any = FakeBucket()
    with expect_exact_calls() as aws:
        view = RunView.open(aws.clients, FILE)
        keys = []
        for is_allowed in (False, False, True):
            expect_protection(aws, is_allowed=is_allowed)
            details = observe_details(aws.clients, FILE, snapshot, NO_HISTORY, RunCaches(bucket, FILE), PACE)
            keys.append([(each.key, each.text) for each in list_messages(view, details, NO_HISTORY)])
            assert details.protected == (1 if is_allowed else None)
    assert keys == [[("protection", PROTECTION_DENIED_MESSAGE)]] * 2 + [[]]
