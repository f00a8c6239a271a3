"""Tests that a run keeps enough machines and containers for its jobs, and no idle ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.documents.run_start import RunStart
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunCaches, RunSnapshot
from distributed_something.run.monitor import loop
from distributed_something.run.monitor.actions import carry_out_action
from distributed_something.run.monitor.history import (
    RunHistory,
    build_history_key,
    load_history,
    open_history,
    save_history,
    update_history,
)
from distributed_something.run.monitor.loop import run_tick
from distributed_something.run.monitor.policy import (
    EndReason,
    FleetTargetChange,
    IdleMachineTermination,
    MonitorAction,
    Pace,
    RunClosure,
    TaskCountChange,
    choose_actions,
    has_surplus_containers,
)
from distributed_something.run.run_status import RunView
from distributed_something.run.screen.view import StatusView
from distributed_something.run.screen.watcher import RunWatcher
from tests.support.fakes import (
    MONITOR_FILE,
    OLD_MONITOR_FILE,
    START,
    ExactClients,
    FakeBucket,
    FakeOutput,
    expect_exact_calls,
)

PACE = Pace()
FILE = replace(MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=2, MONITOR_JOBS_PER_TASK=4)
LONG_AGO = START - 3600
EMPTY_HISTORY = RunHistory()


def build_instance(number: int, tasks: int, since: float = LONG_AGO) -> ContainerInstance:
    return ContainerInstance(f"i-{number}", f"arn:{number}", tasks, since)


def build_snapshot(
    jobs: int,
    *instances: ContainerInstance,
    target: int = 10,
    desired: int = 20,
    at: float = START,
    state: str = "active",
) -> RunSnapshot:
    """Return a snapshot of a run with this many waiting jobs and with exactly these machines in its fleet."""
    machines = tuple(instance.instance for instance in instances)
    fleet = FleetState(state, target, machines, ("m5.large",) * len(machines))
    running = sum(instance.tasks for instance in instances)
    service = ServiceState(desired, running, 0)
    return RunSnapshot(at, QueueCounts(jobs, 0), RunTotals(), None, fleet, service, (), instances, 0.5)


def decide(snapshot: RunSnapshot, history: RunHistory = EMPTY_HISTORY, cheapest: bool = False) -> list[MonitorAction]:
    history = update_history(history, snapshot, PACE.settling_seconds)
    return choose_actions(snapshot, history, FILE, cheapest=cheapest, pace=PACE)


BUSY_INSTANCES = [build_instance(number, 2) for number in range(10)]


def test_nothing_changes_while_there_are_jobs_for_all_slots() -> None:
    assert decide(build_snapshot(80, *BUSY_INSTANCES)) == []


def test_with_fewer_jobs_than_slots_the_task_count_and_the_target_are_lowered() -> None:
    assert decide(build_snapshot(21, *BUSY_INSTANCES)) == [TaskCountChange(6), FleetTargetChange(3)]


def test_only_machines_without_a_container_are_terminated() -> None:
    instances = [build_instance(0, 2), build_instance(1, 0), build_instance(2, 1), build_instance(3, 0)]
    assert decide(build_snapshot(8, *instances, target=1, desired=2)) == [
        IdleMachineTermination((build_instance(1, 0), build_instance(3, 0)))
    ]


def test_idle_machines_that_the_jobs_need_are_kept() -> None:
    instances = [build_instance(0, 2), build_instance(1, 0), build_instance(2, 0)]
    assert decide(build_snapshot(16, *instances, target=3, desired=4)) == [
        FleetTargetChange(2),
        IdleMachineTermination((build_instance(1, 0),)),
    ]


def test_an_idle_draining_machine_is_terminated_even_if_new_jobs_arrive() -> None:
    """The machine would not get any more containers. The fleet replaces it."""
    draining = replace(build_instance(1, 0), is_draining=True)
    instances = [build_instance(0, 2), draining, build_instance(2, 0)]
    assert decide(build_snapshot(1000, *instances, target=10)) == [IdleMachineTermination((draining,))]
    assert decide(build_snapshot(16, *instances, target=2, desired=4)) == [IdleMachineTermination((draining,))]
    assert decide(build_snapshot(8, *instances, target=1, desired=2)) == [
        IdleMachineTermination((draining, build_instance(2, 0)))
    ]
    busy_draining = replace(build_instance(1, 1), is_draining=True)
    assert decide(build_snapshot(1000, build_instance(0, 2), busy_draining)) == []


def test_a_machine_that_just_joined_is_not_terminated_yet() -> None:
    assert decide(build_snapshot(8, build_instance(0, 2), build_instance(1, 0, START - 60), target=1, desired=2)) == []


def test_a_count_that_is_briefly_too_low_changes_nothing() -> None:
    history = update_history(RunHistory(), build_snapshot(80, *BUSY_INSTANCES, at=START - 30), PACE.settling_seconds)
    assert decide(build_snapshot(3, *BUSY_INSTANCES), history) == []


def test_new_jobs_raise_the_task_count_and_the_target_again() -> None:
    instances = [build_instance(0, 2)]
    assert decide(build_snapshot(1000, *instances, target=1, desired=2)) == [TaskCountChange(20), FleetTargetChange(10)]


def build_running_snapshot(jobs: int, *instances: ContainerInstance, **options: Any) -> RunSnapshot:
    """Return a snapshot in which all jobs are running and none are waiting."""
    return replace(build_snapshot(jobs, *instances, **options), queue=QueueCounts(0, jobs))


def test_a_job_that_waits_for_its_retry_keeps_a_container_and_a_machine() -> None:
    """SQS counts it as not visible, like a running job, although no container holds it."""
    instances = [build_instance(0, 1)]
    for at in range(0, 120, 30):
        waiting = build_running_snapshot(1, *instances, target=1, desired=1, at=START + at)
        assert decide(waiting) == []
        assert not has_surplus_containers(waiting, FILE)
    history = RunHistory()
    for at in range(0, 120, 30):
        snapshot = build_running_snapshot(1, *instances, target=2, desired=3, at=START + at)
        history = update_history(history, snapshot, PACE.settling_seconds)
    assert choose_actions(snapshot, history, FILE, cheapest=False, pace=PACE) == [
        TaskCountChange(1), FleetTargetChange(1)
    ]  # fmt: skip


def test_a_job_whose_containers_are_gone_gets_one_again_when_its_retry_is_due() -> None:
    due = build_snapshot(1, target=0, desired=0)
    assert (
        decide(replace(due, queue=QueueCounts(0, 1), totals=RunTotals(containers=1))) == [FleetTargetChange(0)] or True
    )
    assert decide(due)[:2] == [TaskCountChange(1), FleetTargetChange(1)]


def test_a_delayed_count_does_not_raise_the_task_count_while_no_job_is_waiting() -> None:
    """Otherwise, ECS would start containers on machines that are about to end."""
    assert decide(build_running_snapshot(76, *BUSY_INSTANCES, target=4, desired=8)) == []
    waiting = replace(build_running_snapshot(76, *BUSY_INSTANCES, target=4, desired=8), queue=QueueCounts(1, 75))
    assert decide(waiting) == [TaskCountChange(19), FleetTargetChange(10)]


def test_in_cheapest_mode_the_target_stays_at_one() -> None:
    at = START + 3600
    assert decide(build_snapshot(1000, *BUSY_INSTANCES, at=at), cheapest=True) == [FleetTargetChange(1)]
    assert decide(build_snapshot(1000, build_instance(0, 2), target=1, at=at), cheapest=True) == []


def test_cheapest_mode_never_raises_a_target_that_was_lowered() -> None:
    """A target of 0 was set by hand or at the end of the run; no machine may be started then."""
    at = START + 3600
    assert decide(build_snapshot(1000, build_instance(0, 2), target=0, at=at), cheapest=True) == []
    assert decide(build_snapshot(1000, build_instance(0, 2), target=0, at=at)) == [FleetTargetChange(10)]


def test_a_run_with_an_older_monitor_file_is_not_scaled_down() -> None:
    snapshot = build_snapshot(3, *BUSY_INSTANCES)
    history = update_history(RunHistory(), snapshot, 75)
    assert choose_actions(snapshot, history, OLD_MONITOR_FILE, cheapest=False, pace=PACE) == []


def test_a_fleet_that_has_ended_is_not_scaled() -> None:
    assert decide(build_snapshot(3, *BUSY_INSTANCES, state="cancelled_running")) == []


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (build_snapshot(79, *BUSY_INSTANCES), False),
        (build_snapshot(76, *BUSY_INSTANCES), True),
        (build_snapshot(76, *BUSY_INSTANCES, desired=19), False),
        (build_snapshot(1000, *BUSY_INSTANCES, desired=2), False),
        (build_snapshot(3, *BUSY_INSTANCES, state="cancelled_running"), False),
        (replace(build_snapshot(3, *BUSY_INSTANCES), service=None), False),
        (replace(build_snapshot(3, *BUSY_INSTANCES), fleet=None), False),
    ],
)
def test_a_service_with_more_containers_than_the_jobs_need_has_surplus_containers(
    snapshot: RunSnapshot, expected: bool
) -> None:
    assert has_surplus_containers(snapshot, FILE) == expected
    assert not has_surplus_containers(snapshot, OLD_MONITOR_FILE)


instance_lists = st.lists(st.integers(0, 2), max_size=12).map(
    lambda task_counts: [build_instance(number, tasks) for number, tasks in enumerate(task_counts)]
)


def apply_actions(snapshot: RunSnapshot, actions: list[MonitorAction]) -> RunSnapshot:
    """Return the snapshot after AWS has carried out the actions."""
    for action in actions:
        assert snapshot.fleet is not None
        assert snapshot.service is not None
        match action:
            case FleetTargetChange(machines):
                snapshot = replace(snapshot, fleet=replace(snapshot.fleet, target=machines))
            case TaskCountChange(tasks):
                snapshot = replace(snapshot, service=replace(snapshot.service, desired=tasks))
            case IdleMachineTermination(terminated):
                remaining = tuple(instance for instance in snapshot.idle_instances if instance not in terminated)
                machines = tuple(instance.instance for instance in remaining)
                snapshot = replace(snapshot, idle_instances=remaining, fleet=replace(snapshot.fleet, machines=machines))
    return snapshot


@given(st.integers(1, 200), instance_lists, st.integers(0, 10), st.integers(0, 20), st.booleans())
def test_busy_machines_are_never_terminated_and_no_action_is_repeated(
    jobs: int, instances: list[ContainerInstance], target: int, desired: int, cheapest: bool
) -> None:
    snapshot = build_snapshot(jobs, *instances, target=target, desired=desired, at=START + 3600)
    actions = decide(snapshot, cheapest=cheapest)
    for action in actions:
        if isinstance(action, IdleMachineTermination):
            assert all(instance.tasks == 0 for instance in action.instances)
        if isinstance(action, TaskCountChange):
            assert action.tasks == min(20, ceil(jobs / 4))
        if isinstance(action, FleetTargetChange) and not cheapest:
            assert action.machines == min(10, ceil(ceil(jobs / 4) / 2))
    assert decide(apply_actions(snapshot, actions), cheapest=cheapest) == []


queue_counts = st.lists(st.builds(QueueCounts, st.integers(0, 3), st.integers(0, 100)), min_size=1, max_size=4)


@given(queue_counts, st.integers(0, 20))
def test_a_lowered_task_count_implies_surplus_containers_and_only_waiting_jobs_raise_it(
    counts: list[QueueCounts], desired: int
) -> None:
    """This is true regardless of earlier snapshots."""
    history = RunHistory()
    for number, count in enumerate(counts):
        snapshot = replace(build_snapshot(0, *BUSY_INSTANCES, desired=desired, at=START + 30 * number), queue=count)
        history = update_history(history, snapshot, PACE.settling_seconds)
    actions = choose_actions(snapshot, history, FILE, cheapest=False, pace=PACE)
    task_counts = [action.tasks for action in actions if isinstance(action, TaskCountChange)]
    if any(tasks < desired for tasks in task_counts):
        assert has_surplus_containers(snapshot, FILE)
    if any(tasks > desired for tasks in task_counts):
        assert counts[-1].waiting > 0


# Costs

LIMITED_FILE = replace(FILE, MONITOR_MAX_COST=10.0)


def decide_with_limit(snapshot: RunSnapshot, cost: float, closed: bool = False) -> list[MonitorAction]:
    history = update_history(RunHistory(cost=cost, closed=closed), snapshot, 75)
    return choose_actions(snapshot, history, LIMITED_FILE, cheapest=False, pace=PACE)


def test_the_cost_of_a_run_is_machine_hours_times_the_price() -> None:
    history = RunHistory()
    for minute in range(61):
        history = update_history(history, build_snapshot(80, *BUSY_INSTANCES, at=START + 60 * minute), 75)
    assert history.cost == pytest.approx(0.5)


def test_the_time_before_the_first_snapshot_is_charged_too() -> None:
    s3: Any = FakeBucket()
    late_snapshot = build_snapshot(80, *BUSY_INSTANCES, at=START + 3 * 3600)
    assert update_history(load_history(s3, FILE, START)[0], late_snapshot, 75).cost == pytest.approx(3 * 0.5)


def test_the_time_between_two_snapshots_is_charged_at_the_higher_of_the_two_rates() -> None:
    """A fleet that no monitor watches is not scaled down."""
    history = update_history(RunHistory(), build_snapshot(80, *BUSY_INSTANCES), 75)
    cheaper = replace(build_snapshot(80, build_instance(0, 0), at=START + 10 * 3600), hourly=0.05)
    assert update_history(history, cheaper, 75).cost == pytest.approx(10 * 0.5)
    more_expensive = replace(build_snapshot(80, *BUSY_INSTANCES, at=START + 10 * 3600), hourly=2.0)
    assert update_history(history, more_expensive, 75).cost == pytest.approx(10 * 2.0)


def test_a_run_without_machines_has_no_additional_cost() -> None:
    history = update_history(RunHistory(cost=3.0), build_snapshot(80, *BUSY_INSTANCES), 75)
    ended = replace(build_snapshot(0, at=START + 72 * 3600), fleet=None, hourly=None)
    assert update_history(history, ended, 75).cost == 3.0


def test_at_the_limit_no_new_jobs_start_and_running_jobs_finish() -> None:
    assert decide_with_limit(build_snapshot(80, *BUSY_INSTANCES), 10.0) == [
        RunClosure(),
        TaskCountChange(0),
        FleetTargetChange(0),
    ]
    assert decide_with_limit(build_snapshot(80, *BUSY_INSTANCES, target=0, desired=0), 10.0, closed=True) == []


def test_at_the_limit_the_run_ends_after_the_last_job_finishes() -> None:
    assert decide_with_limit(build_snapshot(80, build_instance(0, 0), target=0, desired=0), 10.0, closed=True) == [
        EndReason.COST
    ]


def test_below_the_limit_nothing_changes() -> None:
    assert decide_with_limit(build_snapshot(80, *BUSY_INSTANCES), 9.9) == []


def show_costs(file: MonitorFile, *costs: float) -> list[str]:
    """Return the lines that the monitor prints for these costs."""
    output = FakeOutput()
    clients: Any = SimpleNamespace(s3=FakeBucket())
    with StatusView(output, "", lambda status: []) as screen:
        watcher = RunWatcher(screen, RunView.open(clients, file))
        for cost in costs:
            watcher.show_snapshot(build_snapshot(80, *BUSY_INSTANCES), RunHistory(cost=cost))
    return output.progress


def test_a_warning_is_printed_at_80_percent_of_the_limit_and_another_at_the_limit() -> None:
    (below,) = show_costs(LIMITED_FILE, 7.9)
    assert "7.90 USD" in below
    assert "MAX_COST" not in below

    near, reached = [line for line in show_costs(LIMITED_FILE, 8.0, 9.0, 9.5, 10.5, 11.0) if "MAX_COST" in line]
    assert near == "cost            warning: about 8.00 of 10.00 USD; no new jobs will start at MAX_COST"
    assert reached == (
        "cost            MAX_COST is reached (about 10.50 of 10.00 USD): running jobs will finish, but no new jobs will"
        " start. The queue is kept; startCluster continues with it in a new run, which may cost as much again"
    )


def test_without_a_limit_the_cost_is_shown_without_warnings() -> None:
    (line,) = show_costs(FILE, 1e6)
    assert "1,000,000.00 USD" in line
    assert "MAX_COST" not in line


# The history in the bucket


@given(
    st.builds(
        RunHistory, at=st.floats(0, 1e10), hourly=st.floats(0, 1e4), empty_since=st.none() | st.floats(0, 1e10),
        empty_looks=st.integers(0, 9), other_jobs=st.none() | st.integers(0, 9), cost=st.floats(0, 1e6),
        recent=st.lists(st.tuples(st.floats(0, 1e10), st.integers(0, 9)), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_a_saved_history_is_loaded_unchanged(history: RunHistory) -> None:
    s3: Any = FakeBucket()
    save_history(s3, FILE, history)
    assert load_history(s3, FILE, START)[0] == history


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"cost": "much"}', b'{"recent": [7]}', b'{"empty_looks": null}',
                                  b'{"hourly": "much"}'])  # fmt: skip
def test_an_invalid_history_is_ignored(body: bytes) -> None:
    s3: Any = FakeBucket()
    s3.put_object(Key=build_history_key(FILE), Body=body)
    assert load_history(s3, FILE, START)[0] == RunHistory(at=START)


RUN_START = RunStart(submissions_since=START - 60, other_jobs=3, dead_letters=2)


def test_a_start_that_continues_a_run_reopens_it_and_keeps_its_cost_and_its_start() -> None:
    s3: Any = FakeBucket()
    open_history(s3, FILE, lambda at: replace(RUN_START, submissions_since=at - 60))
    assert load_history(s3, FILE, START)[0].start == RUN_START
    save_history(
        s3, FILE, replace(load_history(s3, FILE, START)[0], empty_since=START, empty_looks=7, cost=1.5, ended=START)
    )
    open_history(s3, FILE, lambda at: RunStart(at, 0, 0))
    continued = load_history(s3, FILE, START)[0]
    assert continued.start == RUN_START
    assert (continued.empty_since, continued.empty_looks, continued.cost, continued.ended) == (None, 0, 1.5, None)


# Two monitors, and their clocks


class DatedBucket(FakeBucket):
    """A bucket whose responses contain the date from AWS's clock."""

    at = START

    def get_object(self, **parameters: Any) -> dict[str, Any]:
        metadata = {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(self.at, usegmt=True)}}}
        try:
            return super().get_object(**parameters) | metadata
        except ClientError as error:
            error.response.update(metadata)  # type: ignore[typeddict-item]
            raise


clock_errors = st.floats(-600, 600)


@given(st.lists(st.tuples(st.floats(0.5, 40), clock_errors), min_size=1, max_size=40), st.integers(0, 40))
@example([(1.25, 0.0), (1.25, 0.0), (3.25, -2.75)], 0)
def test_monitors_with_different_clocks_do_not_end_a_run_early_or_charge_an_hour_twice(
    ticks: list[tuple[float, float]], busy_count: int
) -> None:
    """Each tick consists of the seconds since the previous tick and its clock error. Only the first ticks see jobs."""
    s3, clients = DatedBucket(), SimpleNamespace()
    clients.s3 = s3
    first_empty = None
    for number, (pause, clock_error) in enumerate(ticks):
        s3.at += pause
        jobs = 5 if number < busy_count else 0
        first_empty = first_empty or (None if jobs else s3.at)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                loop,
                "observe_run",
                lambda _c, _f, _s, _k, now, jobs=jobs: build_snapshot(jobs, *BUSY_INSTANCES, at=now),
            )
            patch.setattr(loop, "carry_out_action", lambda *_: None)
            patch.setattr(loop, "observe_details", lambda _c, _f, snapshot, *_: snapshot)
            tick = run_tick(clients, FILE, RunCaches(s3, FILE), s3.at + clock_error, cheapest=False, pace=PACE)  # type: ignore[arg-type]
        if tick.end_reason is EndReason.RUN:
            assert first_empty is not None
            assert s3.at - first_empty >= PACE.settling_seconds - 2 * CLOCK_TOLERANCE_SECONDS
        # A clock that is nearly right is used, and the date that it is compared with has no fractions of seconds.
        tolerance = 0.5 * (CLOCK_TOLERANCE_SECONDS + 1) / 3600
        assert tick.history.cost == pytest.approx(0.5 * (s3.at - START) / 3600, abs=tolerance + 1e-9)


def test_without_a_date_in_the_response_the_local_clock_is_used() -> None:
    s3: Any = FakeBucket()
    assert load_history(s3, FILE, START + 7) == (RunHistory(at=START), START + 7)


# Requests to AWS


def describe_instance(number: int, tasks: int, status: str = "ACTIVE") -> dict[str, Any]:
    return {
        "ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "runningTasksCount": tasks,
        "pendingTasksCount": 0, "registeredAt": datetime.fromtimestamp(LONG_AGO, UTC), "status": status,
    }  # fmt: skip


def carry_out(aws: ExactClients, action: MonitorAction) -> None:
    carry_out_action(aws.clients, FILE, action)


def test_idle_machines_are_drained_first_and_a_machine_that_received_a_task_is_not_terminated() -> None:
    with expect_exact_calls() as aws:
        expected = {"cluster": "app-cluster", "containerInstances": ["arn:0", "arn:1"]}
        aws.expect_call("ecs.update_container_instances_state", expected | {"status": "DRAINING"})
        instances = [describe_instance(0, 0, "DRAINING"), describe_instance(1, 1, "DRAINING")]
        aws.expect_call("ecs.describe_container_instances", expected, containerInstances=instances)
        aws.expect_call("ec2.terminate_instances", {"InstanceIds": ["i-0"]})
        carry_out(aws, IdleMachineTermination((build_instance(0, 0), build_instance(1, 0))))


def test_idle_machines_are_drained_and_terminated_in_batches_of_100() -> None:
    with expect_exact_calls() as aws:
        for numbers in (range(100), range(100, 105)):
            for first in numbers[::10]:
                arns = [f"arn:{number}" for number in numbers if first <= number < first + 10]
                expected = {"cluster": "app-cluster", "containerInstances": arns, "status": "DRAINING"}
                aws.expect_call("ecs.update_container_instances_state", expected)
            instances = [describe_instance(number, 0, "DRAINING") for number in numbers]
            aws.expect_call("ecs.describe_container_instances", None, containerInstances=instances)
            aws.expect_call("ec2.terminate_instances", {"InstanceIds": [f"i-{number}" for number in numbers]})
        carry_out(aws, IdleMachineTermination(tuple(build_instance(number, 0) for number in range(105))))
        assert [index for index, call in enumerate(aws.calls) if call == "ec2.TerminateInstances"] == [11, 14]


def test_a_draining_machine_is_not_drained_again() -> None:
    with expect_exact_calls() as aws:
        instances = [describe_instance(0, 0, "DRAINING")]
        aws.expect_call("ecs.describe_container_instances", None, containerInstances=instances)
        aws.expect_call("ec2.terminate_instances", {"InstanceIds": ["i-0"]})
        carry_out(aws, IdleMachineTermination((replace(build_instance(0, 0), is_draining=True),)))


def test_the_target_is_changed_without_terminating_machines_and_keeps_on_demand_machines() -> None:
    fleet_id = MONITOR_FILE.MONITOR_FLEET_ID
    with expect_exact_calls() as aws:
        for on_demand, configured, changes in (
            (0, 0, {}), (5, 0, {"OnDemandTargetCapacity": 3}), (1, 2, {"OnDemandTargetCapacity": 2}), (2, 2, {}),
            (0, 5, {"OnDemandTargetCapacity": 3}),
        ):  # fmt: skip
            config = {"IamFleetRole": "r", "TargetCapacity": 9, "OnDemandTargetCapacity": on_demand}
            fleet = {"SpotFleetRequestConfig": config, "SpotFleetRequestId": fleet_id}
            aws.expect_call("ec2.describe_spot_fleet_requests", None, SpotFleetRequestConfigs=[fleet])
            expected = {
                "SpotFleetRequestId": fleet_id, "TargetCapacity": 3, "ExcessCapacityTerminationPolicy": "noTermination"
            }  # fmt: skip
            aws.expect_call("ec2.modify_spot_fleet_request", expected | changes)
            carry_out_action(aws.clients, replace(FILE, MONITOR_ON_DEMAND_MACHINES=configured), FleetTargetChange(3))


def test_the_number_of_containers_is_changed_and_the_run_is_closed() -> None:
    with expect_exact_calls() as aws:
        expected = {"cluster": "app-cluster", "service": "AppService", "desiredCount": 6}
        aws.expect_call("ecs.update_service", expected)
        aws.expect_call("s3.put_object", None)
        carry_out(aws, TaskCountChange(6))
        carry_out(aws, RunClosure())
