"""How many machines and containers a run keeps: enough for its jobs, none that has nothing to do."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor import loop
from distributed_something.run.monitor.actions import carry_out_action
from distributed_something.run.monitor.history import (
    CLOCK_TOLERANCE_SECONDS,
    RunHistory,
    build_history_key,
    load_history,
    reopen_history,
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
from distributed_something.run.monitor.view import MonitorView
from tests.support.fakes import MONITOR_FILE, OLD_MONITOR_FILE, START, Exact, FakeBucket, FakeOutput, exact

PACE = Pace()
FILE = replace(MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=2, MONITOR_JOBS_PER_TASK=4)
LONG_AGO = START - 3600
NOTHING_SEEN = RunHistory()


def host(number: int, tasks: int, since: float = LONG_AGO) -> ContainerInstance:
    return ContainerInstance(f"i-{number}", f"arn:{number}", tasks, since)


def look(
    jobs: int, *hosts: ContainerInstance, target: int = 10, desired: int = 20, at: float = START, state: str = "active"
) -> RunSnapshot:
    """A run with so many jobs, whose fleet has just these machines."""
    machines = tuple(one.instance for one in hosts)
    fleet = FleetState(state, target, machines, ("m5.large",) * len(machines))
    running = sum(one.tasks for one in hosts)
    return RunSnapshot(at, QueueCounts(jobs, 0), 0, None, fleet, ServiceState(desired, running, 0), (), hosts, 0.5)


def decided(seen: RunSnapshot, before: RunHistory = NOTHING_SEEN, cheapest: bool = False) -> list[MonitorAction]:
    return choose_actions(seen, update_history(before, seen, PACE.settle), FILE, cheapest=cheapest, pace=PACE)


busy = busy_ones = [host(n, 2) for n in range(10)]


def test_as_long_as_there_are_jobs_for_all_slots_nothing_is_done() -> None:
    assert decided(look(80, *busy)) == []


def test_with_fewer_jobs_than_slots_the_service_and_the_target_are_lowered() -> None:
    assert decided(look(21, *busy)) == [TaskCountChange(6), FleetTargetChange(3)]


def test_machines_without_a_task_are_ended_and_busy_ones_never() -> None:
    hosts = [host(0, 2), host(1, 0), host(2, 1), host(3, 0)]
    assert decided(look(8, *hosts, target=1, desired=2)) == [IdleMachineTermination((host(1, 0), host(3, 0)))]


def test_as_many_idle_machines_stay_as_the_jobs_need() -> None:
    hosts = [host(0, 2), host(1, 0), host(2, 0)]
    assert decided(look(16, *hosts, target=3, desired=4)) == [
        FleetTargetChange(2),
        IdleMachineTermination((host(1, 0),)),
    ]


def test_a_machine_that_drains_is_ended_though_jobs_came_back_and_another_takes_its_place() -> None:
    """It would get no task any more."""
    drained = replace(host(1, 0), draining=True)
    hosts = [host(0, 2), drained, host(2, 0)]
    assert decided(look(1000, *hosts, target=10)) == [IdleMachineTermination((drained,))]
    assert decided(look(16, *hosts, target=2, desired=4)) == [IdleMachineTermination((drained,))]
    assert decided(look(8, *hosts, target=1, desired=2)) == [IdleMachineTermination((drained, host(2, 0)))]
    still_at_work = replace(host(1, 1), draining=True)
    assert decided(look(1000, host(0, 2), still_at_work)) == []


def test_a_machine_that_has_just_joined_is_given_time_to_get_a_task() -> None:
    assert decided(look(8, host(0, 2), host(1, 0, START - 60), target=1, desired=2)) == []


def test_a_count_that_is_too_low_for_a_moment_changes_nothing() -> None:
    before = update_history(RunHistory(), look(80, *busy, at=START - 30), PACE.settle)
    assert decided(look(3, *busy), before) == []


def test_jobs_that_come_later_raise_both_again() -> None:
    hosts = [host(0, 2)]
    assert decided(look(1000, *hosts, target=1, desired=2)) == [TaskCountChange(20), FleetTargetChange(10)]


def held(jobs: int, *hosts: ContainerInstance, **more: Any) -> RunSnapshot:
    """The same, with no job that waits: workers have them all."""
    return replace(look(jobs, *hosts, **more), queue=QueueCounts(0, jobs))


def test_as_long_as_no_job_waits_the_service_is_not_raised_again_by_a_count_that_is_late() -> None:
    """It would put containers on machines that are about to end."""
    assert decided(held(76, *busy, target=4, desired=8)) == []
    waiting = replace(held(76, *busy, target=4, desired=8), queue=QueueCounts(1, 75))
    assert decided(waiting) == [TaskCountChange(19), FleetTargetChange(10)]


def test_in_cheapest_mode_the_target_stays_at_one() -> None:
    at = START + 3600
    assert decided(look(1000, *busy, at=at), cheapest=True) == [FleetTargetChange(1)]
    assert decided(look(1000, host(0, 2), target=1, at=at), cheapest=True) == []


def test_an_older_monitor_file_scales_nothing_down() -> None:
    seen = look(3, *busy)
    assert (
        choose_actions(seen, update_history(RunHistory(), seen, 75), OLD_MONITOR_FILE, cheapest=False, pace=PACE) == []
    )


def test_a_fleet_that_has_ended_is_not_scaled() -> None:
    assert decided(look(3, *busy, state="cancelled_running")) == []


@pytest.mark.parametrize(
    ("seen", "soon"),
    [
        (look(79, *busy), False),
        (look(76, *busy), True),
        (look(76, *busy, desired=19), False),
        (look(1000, *busy, desired=2), False),
        (look(3, *busy, state="cancelled_running"), False),
        (replace(look(3, *busy), service=None), False),
        (replace(look(3, *busy), fleet=None), False),
    ],
)
def test_while_the_service_has_more_containers_than_the_jobs_need_the_next_look_comes_soon(
    seen: RunSnapshot, soon: bool
) -> None:
    assert has_surplus_containers(seen, FILE) == soon
    assert not has_surplus_containers(seen, OLD_MONITOR_FILE)


hosts_of_a_run = st.lists(st.integers(0, 2), max_size=12).map(lambda tasks: [host(n, t) for n, t in enumerate(tasks)])


def applied(seen: RunSnapshot, actions: list[MonitorAction]) -> RunSnapshot:
    """The run after AWS did what was decided."""
    for action in actions:
        assert seen.fleet is not None
        assert seen.service is not None
        match action:
            case FleetTargetChange(machines):
                seen = replace(seen, fleet=replace(seen.fleet, target=machines))
            case TaskCountChange(tasks):
                seen = replace(seen, service=replace(seen.service, desired=tasks))
            case IdleMachineTermination(hosts):
                left = tuple(one for one in seen.hosts if one not in hosts)
                seen = replace(
                    seen, hosts=left, fleet=replace(seen.fleet, machines=tuple(one.instance for one in left))
                )
    return seen


@given(st.integers(1, 200), hosts_of_a_run, st.integers(0, 10), st.integers(0, 20), st.booleans())
def test_a_busy_machine_is_never_ended_and_what_was_done_needs_no_doing_again(
    jobs: int, hosts: list[ContainerInstance], target: int, desired: int, cheapest: bool
) -> None:
    seen = look(jobs, *hosts, target=target, desired=desired, at=START + 3600)
    actions = decided(seen, cheapest=cheapest)
    for action in actions:
        if isinstance(action, IdleMachineTermination):
            assert all(one.tasks == 0 for one in action.hosts)
        if isinstance(action, TaskCountChange):
            assert action.tasks == min(20, ceil(jobs / 4))
        if isinstance(action, FleetTargetChange) and not cheapest:
            assert action.machines == min(10, ceil(ceil(jobs / 4) / 2))
    assert decided(applied(seen, actions), cheapest=cheapest) == []


a_few_looks = st.lists(st.builds(QueueCounts, st.integers(0, 3), st.integers(0, 100)), min_size=1, max_size=4)


@given(a_few_looks, st.integers(0, 20))
def test_after_a_look_that_lowers_the_service_another_comes_soon_and_only_jobs_that_wait_raise_it(
    counts: list[QueueCounts], desired: int
) -> None:
    """Whatever the looks before it saw."""
    before = RunHistory()
    for number, count in enumerate(counts):
        seen = replace(look(0, *busy, desired=desired, at=START + 30 * number), queue=count)
        before = update_history(before, seen, PACE.settle)
    set_to = [action.tasks for action in choose_actions(seen, before, FILE, cheapest=False, pace=PACE)
              if isinstance(action, TaskCountChange)]  # fmt: skip
    if any(tasks < desired for tasks in set_to):
        assert has_surplus_containers(seen, FILE)
    if any(tasks > desired for tasks in set_to):
        assert counts[-1].waiting > 0


# What it may cost

CAPPED = replace(FILE, MONITOR_MAX_COST=10.0)


def capped(seen: RunSnapshot, cost: float, closed: bool = False) -> list[MonitorAction]:
    return choose_actions(
        seen, update_history(RunHistory(cost=cost, closed=closed), seen, 75), CAPPED, cheapest=False, pace=PACE
    )


def test_the_cost_of_a_run_is_its_machines_hours_times_their_prices() -> None:
    seen = RunHistory()
    for minute in range(61):
        seen = update_history(seen, look(80, *busy, at=START + 60 * minute), 75)
    assert seen.cost == pytest.approx(0.5)


def test_the_hours_before_a_monitor_was_started_count_too() -> None:
    s3: Any = FakeBucket()
    late = look(80, *busy, at=START + 3 * 3600)
    assert update_history(load_history(s3, FILE, START)[0], late, 75).cost == pytest.approx(3 * 0.5)


def test_the_hours_in_which_no_monitor_looked_count_at_the_dearer_of_both_looks() -> None:
    """Nobody lowers a fleet that nobody watches."""
    before = update_history(RunHistory(), look(80, *busy), 75)
    idle_since = replace(look(80, host(0, 0), at=START + 10 * 3600), hourly=0.05)
    assert update_history(before, idle_since, 75).cost == pytest.approx(10 * 0.5)
    dearer = replace(look(80, *busy, at=START + 10 * 3600), hourly=2.0)
    assert update_history(before, dearer, 75).cost == pytest.approx(10 * 2.0)


def test_a_run_that_has_ended_costs_no_more_whenever_it_is_looked_at_again() -> None:
    before = update_history(RunHistory(cost=3.0), look(80, *busy), 75)
    gone = replace(look(0, at=START + 72 * 3600), fleet=None, hourly=None)
    assert update_history(before, gone, 75).cost == 3.0


def test_at_the_limit_no_new_job_is_begun_and_running_ones_finish() -> None:
    assert capped(look(80, *busy), 10.0) == [RunClosure(), TaskCountChange(0), FleetTargetChange(0)]
    assert capped(look(80, *busy, target=0, desired=0), 10.0, closed=True) == []


def test_when_the_last_running_job_is_through_the_run_ends_and_its_queue_stays() -> None:
    assert capped(look(80, host(0, 0), target=0, desired=0), 10.0, closed=True) == [EndReason.COST]


def test_below_the_limit_it_is_only_told() -> None:
    assert capped(look(80, *busy), 9.9) == []


def shown(file: MonitorFile, *costs: float) -> list[str]:
    """The lines that a user sees."""
    output = FakeOutput()
    with MonitorView(file, output) as view:
        for cost in costs:
            view.show(look(80, *busy), RunHistory(cost=cost))
    return output.progress


def test_a_warning_comes_once_at_80_percent_of_the_limit_and_once_more_at_the_limit() -> None:
    (below,) = shown(CAPPED, 7.9)
    assert "about 7.90 of 10.00 USD" in below
    assert "MAX_COST" not in below

    near, reached = [line for line in shown(CAPPED, 8.0, 9.0, 9.5, 10.5, 11.0) if "MAX_COST" in line]
    assert near == (
        "cost            warning: about 8.00 of 10.00 USD (MAX_COST): once it is reached, no new job is begun"
    )
    assert reached == (
        "cost            MAX_COST is reached, about 10.50 of 10.00 USD: no new job is begun, those that run finish; the"
        " queue is kept, and startCluster goes on with it, in a run that may cost as much again"
    )


def test_without_a_limit_the_cost_is_shown_and_nothing_is_warned_of() -> None:
    (told,) = shown(FILE, 1e6)
    assert "about 1,000,000.00 USD" in told
    assert "MAX_COST" not in told


# The history in the bucket


@given(
    st.builds(
        RunHistory, at=st.floats(0, 1e10), hourly=st.floats(0, 1e4), empty_since=st.none() | st.floats(0, 1e10),
        empty_looks=st.integers(0, 9), first_jobs=st.none() | st.integers(0, 9), cost=st.floats(0, 1e6),
        recent=st.lists(st.tuples(st.floats(0, 1e10), st.integers(0, 9)), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_a_history_is_read_as_it_was_written(before: RunHistory) -> None:
    s3: Any = FakeBucket()
    save_history(s3, FILE, before)
    assert load_history(s3, FILE, START)[0] == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"cost": "much"}', b'{"recent": [7]}', b'{"empty_looks": null}',
                                  b'{"hourly": "much"}'])  # fmt: skip
def test_what_is_no_history_counts_as_none(body: bytes) -> None:
    s3: Any = FakeBucket()
    s3.put_object(Key=build_history_key(FILE), Body=body)
    assert load_history(s3, FILE, START)[0] == RunHistory(at=START)


def test_a_start_that_goes_on_with_a_run_takes_its_end_back_and_keeps_what_it_cost() -> None:
    s3: Any = FakeBucket()
    reopen_history(s3, FILE)
    assert s3.objects == {}
    save_history(s3, FILE, RunHistory(at=START, empty_since=START, empty_looks=7, cost=1.5, ended=START))
    reopen_history(s3, FILE)
    assert load_history(s3, FILE, START)[0] == RunHistory(at=START, cost=1.5)


# Two monitors, and their clocks


class DatedBucket(FakeBucket):
    """Dates its answers, as AWS does, by the one clock that counts."""

    at = START

    def get_object(self, **given: Any) -> dict[str, Any]:
        told = {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(self.at, usegmt=True)}}}
        try:
            return super().get_object(**given) | told
        except ClientError as error:
            error.response.update(told)  # type: ignore[typeddict-item]
            raise


clocks = st.floats(-600, 600)


@given(st.lists(st.tuples(st.floats(0.5, 40), clocks), min_size=1, max_size=40), st.integers(0, 40))
def test_monitors_whose_clocks_differ_end_no_run_early_and_count_no_hour_twice(
    looks: list[tuple[float, float]], busy: int
) -> None:
    """Each look: so many seconds after the one before, by a clock that is wrong by so many. The first few see jobs."""
    s3, clients = DatedBucket(), SimpleNamespace()
    clients.s3 = s3
    first_empty = None
    for number, (pause, wrong) in enumerate(looks):
        s3.at += pause
        jobs = 5 if number < busy else 0
        first_empty = first_empty or (None if jobs else s3.at)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "observe_run", lambda _c, _f, now, _p, jobs=jobs: look(jobs, *busy_ones, at=now))
            patch.setattr(loop, "carry_out_action", lambda *_: None)
            tick = run_tick(clients, FILE, s3.at + wrong, SpotPriceCache(), cheapest=False, pace=PACE)  # type: ignore[arg-type]
        if tick.over is EndReason.RUN:
            assert first_empty is not None
            assert s3.at - first_empty >= PACE.settle - 2 * CLOCK_TOLERANCE_SECONDS
        assert tick.history.cost == pytest.approx(0.5 * (s3.at - START) / 3600, abs=0.5 * 2.5 / 3600)


def test_an_answer_without_a_date_leaves_the_clock_here() -> None:
    s3: Any = FakeBucket()
    assert load_history(s3, FILE, START + 7) == (RunHistory(at=START), START + 7)


# What is asked of AWS


def described(number: int, tasks: int, status: str = "ACTIVE") -> dict[str, Any]:
    from datetime import UTC, datetime

    return {
        "ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "runningTasksCount": tasks,
        "pendingTasksCount": 0, "registeredAt": datetime.fromtimestamp(LONG_AGO, UTC), "status": status,
    }  # fmt: skip


def ask(aws: Exact, action: MonitorAction) -> None:
    carry_out_action(aws.clients, FILE, action)


def test_idle_machines_are_drained_first_and_one_that_got_a_task_meanwhile_is_spared() -> None:
    with exact() as aws:
        wanted = {"cluster": "app-cluster", "containerInstances": ["arn:0", "arn:1"]}
        aws.answer("ecs.update_container_instances_state", wanted | {"status": "DRAINING"})
        told = [described(0, 0, "DRAINING"), described(1, 1, "DRAINING")]
        aws.answer("ecs.describe_container_instances", wanted, containerInstances=told)
        aws.answer("ec2.terminate_instances", {"InstanceIds": ["i-0"]})
        ask(aws, IdleMachineTermination((host(0, 0), host(1, 0))))


def test_idle_machines_are_ended_by_hundreds_so_that_the_first_do_not_wait_for_the_last() -> None:
    with exact() as aws:
        for numbers in (range(100), range(100, 105)):
            for first in numbers[::10]:
                arns = [f"arn:{number}" for number in numbers if first <= number < first + 10]
                wanted = {"cluster": "app-cluster", "containerInstances": arns, "status": "DRAINING"}
                aws.answer("ecs.update_container_instances_state", wanted)
            told = [described(number, 0, "DRAINING") for number in numbers]
            aws.answer("ecs.describe_container_instances", None, containerInstances=told)
            aws.answer("ec2.terminate_instances", {"InstanceIds": [f"i-{number}" for number in numbers]})
        ask(aws, IdleMachineTermination(tuple(host(number, 0) for number in range(105))))
        assert [place for place, call in enumerate(aws.calls) if call == "ec2.TerminateInstances"] == [11, 14]


def test_a_machine_that_drains_already_is_not_drained_again() -> None:
    with exact() as aws:
        told = [described(0, 0, "DRAINING")]
        aws.answer("ecs.describe_container_instances", None, containerInstances=told)
        aws.answer("ec2.terminate_instances", {"InstanceIds": ["i-0"]})
        ask(aws, IdleMachineTermination((replace(host(0, 0), draining=True),)))


def test_the_target_is_set_without_ending_a_machine_and_with_as_many_on_demand_as_the_config_says_and_it_has() -> None:
    fleet_id = MONITOR_FILE.MONITOR_FLEET_ID
    with exact() as aws:
        for on_demand, asked, more in (
            (0, 0, {}), (5, 0, {"OnDemandTargetCapacity": 3}), (1, 2, {"OnDemandTargetCapacity": 2}), (2, 2, {}),
            (0, 5, {"OnDemandTargetCapacity": 3}),
        ):  # fmt: skip
            config = {"IamFleetRole": "r", "TargetCapacity": 9, "OnDemandTargetCapacity": on_demand}
            found = {"SpotFleetRequestConfig": config, "SpotFleetRequestId": fleet_id}
            aws.answer("ec2.describe_spot_fleet_requests", None, SpotFleetRequestConfigs=[found])
            wanted = {
                "SpotFleetRequestId": fleet_id, "TargetCapacity": 3, "ExcessCapacityTerminationPolicy": "noTermination"
            }  # fmt: skip
            aws.answer("ec2.modify_spot_fleet_request", wanted | more)
            carry_out_action(aws.clients, replace(FILE, MONITOR_ON_DEMAND_MACHINES=asked), FleetTargetChange(3))


def test_the_service_is_set_and_the_run_is_closed() -> None:
    with exact() as aws:
        wanted = {"cluster": "app-cluster", "service": "AppService", "desiredCount": 6}
        aws.answer("ecs.update_service", wanted)
        aws.answer("s3.put_object", None)
        ask(aws, TaskCountChange(6))
        ask(aws, RunClosure())
