"""How many machines and containers a run keeps: enough for its jobs, none that has nothing to do."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import act, history
from control.cluster import ServiceState
from control.decide import Action, Close, End, EndIdle, Pace, SetTarget, SetTasks, decide
from control.fleet import FleetState
from control.history import History, remember
from control.monitorfile import MonitorFile
from control.queue import Counts
from control.snapshot import Host, Snapshot
from control.view import MonitorView
from tests.fakes import MONITOR_FILE, OLD_MONITOR_FILE, START, Exact, FakeBucket, exact

PACE = Pace()
FILE = replace(MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=2, MONITOR_JOBS_PER_TASK=4)
LONG_AGO = START - 3600
NOTHING_SEEN = History()


def host(number: int, tasks: int, since: float = LONG_AGO) -> Host:
    return Host(f"i-{number}", f"arn:{number}", tasks, since)


def look(
    jobs: int, *hosts: Host, target: int = 10, desired: int = 20, at: float = START, state: str = "active"
) -> Snapshot:
    """A run with so many jobs, whose fleet has just these machines."""
    machines = tuple(one.instance for one in hosts)
    fleet = FleetState(state, target, machines, ("m5.large",) * len(machines))
    running = sum(one.tasks for one in hosts)
    return Snapshot(at, Counts(jobs, 0), 0, None, fleet, ServiceState(desired, running, 0), (), hosts, 0.5)


def decided(seen: Snapshot, before: History = NOTHING_SEEN, cheapest: bool = False) -> list[Action]:
    return decide(seen, remember(before, seen, PACE.settle), FILE, cheapest=cheapest, pace=PACE)


busy = [host(n, 2) for n in range(10)]


def test_as_long_as_there_are_jobs_for_all_slots_nothing_is_done() -> None:
    assert decided(look(80, *busy)) == []


def test_with_fewer_jobs_than_slots_the_service_and_the_target_are_lowered() -> None:
    assert decided(look(21, *busy)) == [SetTasks(6), SetTarget(3)]


def test_machines_without_a_task_are_ended_and_busy_ones_never() -> None:
    hosts = [host(0, 2), host(1, 0), host(2, 1), host(3, 0)]
    assert decided(look(8, *hosts, target=1, desired=2)) == [EndIdle((host(1, 0), host(3, 0)))]


def test_as_many_idle_machines_stay_as_the_jobs_need() -> None:
    hosts = [host(0, 2), host(1, 0), host(2, 0)]
    assert decided(look(16, *hosts, target=3, desired=4)) == [SetTarget(2), EndIdle((host(1, 0),))]


def test_a_machine_that_has_just_joined_is_given_time_to_get_a_task() -> None:
    assert decided(look(8, host(0, 2), host(1, 0, START - 60), target=1, desired=2)) == []


def test_a_count_that_is_too_low_for_a_moment_changes_nothing() -> None:
    before = remember(History(), look(80, *busy, at=START - 30), PACE.settle)
    assert decided(look(3, *busy), before) == []


def test_jobs_that_come_later_raise_both_again() -> None:
    hosts = [host(0, 2)]
    assert decided(look(1000, *hosts, target=1, desired=2)) == [SetTasks(20), SetTarget(10)]


def test_in_cheapest_mode_the_target_stays_at_one() -> None:
    at = START + 3600
    assert decided(look(1000, *busy, at=at), cheapest=True) == [SetTarget(1)]
    assert decided(look(1000, host(0, 2), target=1, at=at), cheapest=True) == []


def test_an_older_monitor_file_scales_nothing_down() -> None:
    seen = look(3, *busy)
    assert decide(seen, remember(History(), seen, 75), OLD_MONITOR_FILE, cheapest=False, pace=PACE) == []


def test_a_fleet_that_has_ended_is_not_scaled() -> None:
    assert decided(look(3, *busy, state="cancelled_running")) == []


hosts_of_a_run = st.lists(st.integers(0, 2), max_size=12).map(lambda tasks: [host(n, t) for n, t in enumerate(tasks)])


def applied(seen: Snapshot, actions: list[Action]) -> Snapshot:
    """The run after AWS did what was decided."""
    for action in actions:
        assert seen.fleet is not None
        assert seen.service is not None
        match action:
            case SetTarget(machines):
                seen = replace(seen, fleet=replace(seen.fleet, target=machines))
            case SetTasks(tasks):
                seen = replace(seen, service=replace(seen.service, desired=tasks))
            case EndIdle(hosts):
                left = tuple(one for one in seen.hosts if one not in hosts)
                seen = replace(
                    seen, hosts=left, fleet=replace(seen.fleet, machines=tuple(one.instance for one in left))
                )
    return seen


@given(st.integers(1, 200), hosts_of_a_run, st.integers(0, 10), st.integers(0, 20), st.booleans())
def test_a_busy_machine_is_never_ended_and_what_was_done_needs_no_doing_again(
    jobs: int, hosts: list[Host], target: int, desired: int, cheapest: bool
) -> None:
    seen = look(jobs, *hosts, target=target, desired=desired, at=START + 3600)
    actions = decided(seen, cheapest=cheapest)
    for action in actions:
        if isinstance(action, EndIdle):
            assert all(one.tasks == 0 for one in action.hosts)
        if isinstance(action, SetTasks):
            assert action.tasks == min(20, ceil(jobs / 4))
        if isinstance(action, SetTarget) and not cheapest:
            assert action.machines == min(10, ceil(ceil(jobs / 4) / 2))
    assert decided(applied(seen, actions), cheapest=cheapest) == []


# What it may cost

CAPPED = replace(FILE, MONITOR_MAX_COST=10.0)


def capped(seen: Snapshot, cost: float, closed: bool = False) -> list[Action]:
    return decide(seen, remember(History(cost=cost, closed=closed), seen, 75), CAPPED, cheapest=False, pace=PACE)


def test_the_cost_of_a_run_is_its_machines_hours_times_their_prices() -> None:
    seen = History()
    for minute in range(61):
        seen = remember(seen, look(80, *busy, at=START + 60 * minute), 75)
    assert seen.cost == pytest.approx(0.5)


def test_at_the_limit_no_new_job_is_begun_and_running_ones_finish() -> None:
    assert capped(look(80, *busy), 10.0) == [Close(), SetTasks(0), SetTarget(0)]
    assert capped(look(80, *busy, target=0, desired=0), 10.0, closed=True) == []


def test_when_the_last_running_job_is_through_the_run_ends_and_its_queue_stays() -> None:
    assert capped(look(80, host(0, 0), target=0, desired=0), 10.0, closed=True) == [End.COST]


def test_below_the_limit_it_is_only_told() -> None:
    assert capped(look(80, *busy), 9.9) == []


def shown(file: MonitorFile, *costs: float) -> None:
    with MonitorView(file) as view:
        for cost in costs:
            view.show(look(80, *busy), History(cost=cost))


def test_a_warning_comes_once_at_80_percent_of_the_limit_and_once_more_at_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown(CAPPED, 7.9)
    assert "about 7.90 of 10.00 USD" in (below := capsys.readouterr().err)
    assert "MAX_COST" not in below

    shown(CAPPED, 8.0, 9.0, 9.5, 10.5, 11.0)
    near, reached = [line for line in capsys.readouterr().err.splitlines() if "MAX_COST" in line]
    assert near == (
        "cost            warning: about 8.00 of 10.00 USD (MAX_COST): once it is reached, no new job is begun"
    )
    assert reached == (
        "cost            MAX_COST is reached, about 10.50 of 10.00 USD: no new job is begun, those that run finish; the"
        " queue is kept, and startCluster goes on with it, in a run that may cost as much again"
    )


def test_without_a_limit_the_cost_is_shown_and_nothing_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    shown(FILE, 1e6)
    assert "about 1,000,000.00 USD" in (told := capsys.readouterr().err)
    assert "MAX_COST" not in told


# The history in the bucket


@given(
    st.builds(
        History, at=st.none() | st.floats(0, 1e10), empty_since=st.none() | st.floats(0, 1e10),
        empty_looks=st.integers(0, 9), first_jobs=st.none() | st.integers(0, 9), cost=st.floats(0, 1e6),
        recent=st.lists(st.tuples(st.floats(0, 1e10), st.integers(0, 9)), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_a_history_is_read_as_it_was_written(before: History) -> None:
    s3: Any = FakeBucket()
    history.save(s3, FILE, before)
    assert history.load(s3, FILE) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"cost": "much"}', b'{"recent": [7]}', b'{"empty_looks": null}'])
def test_what_is_no_history_counts_as_none(body: bytes) -> None:
    s3: Any = FakeBucket()
    s3.put_object(Key=history.key_of(FILE), Body=body)
    assert history.load(s3, FILE) == History()


# What is asked of AWS


def described(number: int, tasks: int, status: str = "ACTIVE") -> dict[str, Any]:
    from datetime import UTC, datetime

    return {
        "ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "runningTasksCount": tasks,
        "pendingTasksCount": 0, "registeredAt": datetime.fromtimestamp(LONG_AGO, UTC), "status": status,
    }  # fmt: skip


def ask(aws: Exact, action: Action) -> None:
    act.act(aws.clients, FILE, action)


def test_idle_machines_are_drained_first_and_one_that_got_a_task_meanwhile_is_spared() -> None:
    with exact() as aws:
        wanted = {"cluster": "app-cluster", "containerInstances": ["arn:0", "arn:1"]}
        aws.answer("ecs.update_container_instances_state", wanted | {"status": "DRAINING"})
        told = [described(0, 0, "DRAINING"), described(1, 1, "DRAINING")]
        aws.answer("ecs.describe_container_instances", wanted, containerInstances=told)
        aws.answer("ec2.terminate_instances", {"InstanceIds": ["i-0"]})
        ask(aws, EndIdle((host(0, 0), host(1, 0))))


def test_the_target_is_set_without_ending_a_machine_and_with_no_more_on_demand_than_it_has() -> None:
    fleet_id = MONITOR_FILE.MONITOR_FLEET_ID
    with exact() as aws:
        for on_demand, more in ((0, {}), (5, {"OnDemandTargetCapacity": 3})):
            config = {"IamFleetRole": "r", "TargetCapacity": 9, "OnDemandTargetCapacity": on_demand}
            found = {"SpotFleetRequestConfig": config, "SpotFleetRequestId": fleet_id}
            aws.answer("ec2.describe_spot_fleet_requests", None, SpotFleetRequestConfigs=[found])
            wanted = {
                "SpotFleetRequestId": fleet_id, "TargetCapacity": 3, "ExcessCapacityTerminationPolicy": "noTermination"
            }  # fmt: skip
            aws.answer("ec2.modify_spot_fleet_request", wanted | more)
            ask(aws, SetTarget(3))


def test_the_service_is_set_and_the_run_is_closed() -> None:
    with exact() as aws:
        wanted = {"cluster": "app-cluster", "service": "AppService", "desiredCount": 6}
        aws.answer("ecs.update_service", wanted)
        aws.answer("s3.put_object", None)
        ask(aws, SetTasks(6))
        ask(aws, Close())
