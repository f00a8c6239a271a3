"""Tests that machines that cannot work are terminated and reported, and that a run ends if none can work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.observe.documents.journals import JournalReader, RunTotals
from distributed_something.observe.machines import ContainerInstance, UnusableMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.scaling import add_unusable_machines
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.actions import carry_out_action
from distributed_something.run.monitor.history import RunHistory, load_history, save_history, update_history
from distributed_something.run.monitor.loop import Tick, stop_unfinished_run
from distributed_something.run.monitor.policy import (
    EndReason,
    FleetTargetChange,
    MonitorAction,
    Pace,
    UnusableMachineTermination,
    choose_actions,
)
from distributed_something.run.monitor.unusable import add_terminations, format_unusable_machines
from distributed_something.worker.machine.times import build_utc_timestamp
from tests.support.fakes import MONITOR_FILE, START, FakeBucket, expect_exact_calls
from tests.support.project import create_project
from tests.support.run_documents import RunDocuments, emulated_run

PACE = Pace()
LIMIT = PACE.first_container_seconds
FILE = replace(MONITOR_FILE, MONITOR_MACHINES=4, MONITOR_TASKS_PER_MACHINE=1, MONITOR_JOBS_PER_TASK=1)
NO_HISTORY = RunHistory()


def build_snapshot(
    at: float, *unusable: UnusableMachine, working: int = 0, idle: int = 0, target: int = 4, jobs: int = 100
) -> RunSnapshot:
    """Return a snapshot of a fleet with these unusable machines, and with others that work or have no task."""
    ids = [f"i-works{number}" for number in range(working)]
    idle_instances = tuple(ContainerInstance(f"i-idle{number}", f"arn:{number}", 0, at) for number in range(idle))
    machines = (*(machine.instance for machine in unusable), *ids, *(each.instance for each in idle_instances))
    totals = RunTotals(done=working, containers=working, machines=working)
    return RunSnapshot(
        START + at, QueueCounts(jobs, working), totals, None, FleetState("active", target, machines),
        ServiceState(4, working, 0), idle_instances=idle_instances, unusable=unusable,
    )  # fmt: skip


def build_absent(number: int, launched: float) -> UnusableMachine:
    return UnusableMachine(f"i-{number}", START + launched)


def take_tick(history: RunHistory, snapshot: RunSnapshot) -> tuple[RunHistory, list[MonitorAction]]:
    history = update_history(history, snapshot, PACE.settling_seconds)
    actions = choose_actions(snapshot, history, FILE, cheapest=False, pace=PACE)
    for action in actions:
        if isinstance(action, UnusableMachineTermination):
            history = add_terminations(history, snapshot, action.machines)
    return history, actions


def test_a_machine_that_has_not_joined_the_cluster_after_15_minutes_is_terminated_with_an_exact_request() -> None:
    late, new = build_absent(1, 0.0), build_absent(2, 60.0)
    _, actions = take_tick(NO_HISTORY, build_snapshot(LIMIT - 1, late, new, working=2))
    assert actions == []
    _, actions = take_tick(NO_HISTORY, build_snapshot(LIMIT, late, new, working=2))
    assert actions == [UnusableMachineTermination((late,))]
    with expect_exact_calls() as aws:
        aws.expect_call("ec2.terminate_instances", {"InstanceIds": ["i-1"]})
        carry_out_action(aws.clients, FILE, actions[0])


def test_a_machine_is_terminated_after_its_agent_was_disconnected_for_15_minutes_in_a_row() -> None:
    machine = UnusableMachine("i-1", START - 99_999, has_joined=True)
    history = NO_HISTORY
    for at in (0.0, 600.0):
        history, actions = take_tick(history, build_snapshot(at, machine, working=3))
        assert actions == []
    history, _ = take_tick(history, build_snapshot(700.0, working=4))  # it is connected again
    assert history.disconnected == ()
    for at, expected in ((800.0, []), (1000.0, []), (800.0 + LIMIT, [UnusableMachineTermination((machine,))])):
        history, actions = take_tick(history, build_snapshot(at, machine, working=3))
        assert actions == expected


def test_after_three_useless_replacements_in_a_row_a_run_without_other_machines_ends() -> None:
    history, at = NO_HISTORY, 0.0
    for number in range(2):
        machines = [build_absent(4 * number + each, at + 10 * each) for each in range(4)]
        for seconds in (0.0, 10.0, 20.0, 30.0):  # the machines started one after the other, which is still one time
            rest = [each for each in machines if each.launched_at >= START + at + seconds]
            history, actions = take_tick(history, build_snapshot(at + LIMIT + seconds, *rest))
            assert actions == [UnusableMachineTermination((rest[0],))]
            assert history.unusable_rounds == number + 1
        at += LIMIT + 30.0
    machines = [build_absent(8, at), build_absent(9, at + 10)]
    history, actions = take_tick(history, build_snapshot(at + LIMIT, *machines))
    assert actions == [UnusableMachineTermination((machines[0],))]
    assert (history.unusable_rounds, history.unusable_count, history.unusable_machine) == (3, 9, "i-8")
    history, actions = take_tick(history, build_snapshot(at + LIMIT + 10, machines[1]))
    assert actions == [EndReason.NOTHING_WORKS]


ROUNDS = RunHistory(unusable_rounds=3, unusable_count=3, unusable_machine="i-9", unusable_at=START)


def test_a_replacement_that_is_launched_in_the_second_of_the_termination_counts() -> None:
    """EC2's launch times are whole seconds."""
    history = replace(ROUNDS, unusable_rounds=1, unusable_at=START + 0.9)
    history, _ = take_tick(history, build_snapshot(LIMIT, build_absent(1, 0.0)))
    assert history.unusable_rounds == 2


def test_a_machine_that_works_begins_the_count_again() -> None:
    """For example, machines in one of several subnets cannot reach ECS, and the replacement is in another."""
    history, actions = take_tick(ROUNDS, build_snapshot(60.0, working=1))
    assert actions == []
    late = build_absent(1, 30.0)
    history, actions = take_tick(history, build_snapshot(30.0 + LIMIT, late, working=1))
    assert actions == [UnusableMachineTermination((late,))]
    assert history.unusable_rounds == 1


def test_while_other_machines_work_useless_replacements_are_no_longer_requested_but_the_run_continues() -> None:
    history = replace(ROUNDS, unusable_beside=2)
    late, new = build_absent(1, 0.0), build_absent(2, 800.0)
    _, actions = take_tick(history, build_snapshot(LIMIT, late, new, working=2))
    assert actions == [FleetTargetChange(2), UnusableMachineTermination((late,))]


@pytest.mark.parametrize(("idle", "jobs", "is_over"), [(0, 100, True), (1, 100, False), (0, 0, False)])
def test_a_run_whose_last_machines_are_gone_ends_unless_one_has_just_joined(
    idle: int, jobs: int, is_over: bool
) -> None:
    _, actions = take_tick(ROUNDS, build_snapshot(60.0, idle=idle, jobs=jobs))
    assert (EndReason.NOTHING_WORKS in actions) == is_over


def test_a_run_whose_machines_do_not_join_does_not_end_because_no_container_has_started() -> None:
    """That would be after the first 15 minutes, without any replacement."""
    history, _ = take_tick(NO_HISTORY, build_snapshot(0.0))
    history, actions = take_tick(history, build_snapshot(LIMIT, build_absent(1, 0.0)))
    assert EndReason.NOTHING_WORKS not in actions
    assert history.unstarted_since is None
    history, _ = take_tick(history, build_snapshot(2 * LIMIT, idle=1))
    _, actions = take_tick(history, build_snapshot(3 * LIMIT, idle=1))
    assert actions == [EndReason.NOTHING_WORKS]


def test_the_history_keeps_what_was_terminated_and_old_histories_are_accepted() -> None:
    s3: Any = FakeBucket()
    history = replace(ROUNDS, disconnected=(("i-1", START),), at=START)
    save_history(s3, FILE, history)
    assert load_history(s3, FILE, START)[0] == history


def test_the_messages_say_what_was_terminated_and_what_to_do() -> None:
    assert format_unusable_machines(NO_HISTORY) == ""
    text = format_unusable_machines(ROUNDS)
    assert text.startswith("3 machines terminated, most recently i-9: not in the cluster")
    assert "instance profile" in text
    tick = Tick(build_snapshot(60.0), ROUNDS, EndReason.NOTHING_WORKS)
    with expect_exact_calls() as aws:
        aws.expect_call("ecs.describe_services", None, services=[])
        aws.expect_call("ec2.describe_spot_fleet_requests", None, SpotFleetRequestConfigs=[])
        text = stop_unfinished_run(aws.clients, FILE, tick)
    assert "3 times in a row (most recently i-9)" in text
    assert "route to the internet" in text


# Which machines are unusable


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(FILE) as documents:
        yield documents


def describe_container_instance(number: int, tasks: int) -> dict[str, Any]:
    return {
        "ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "agentConnected": False,
        "registeredAt": datetime.fromtimestamp(START, UTC), "runningTasksCount": tasks,
    }  # fmt: skip


def test_machines_whose_containers_are_at_work_are_never_unusable(run: RunDocuments) -> None:
    """Containers continue without the ECS agent, and a long job does not change the journal."""
    now = START + 10_000
    old, new = build_utc_timestamp(now - LIMIT - 1), build_utc_timestamp(now - 60)
    run.write_journal("c1", machine="i-1", running=1, ended=False, at=old)
    run.write_journal("c2", machine="i-2", running=0, ended=False, at=new)
    run.write_journal("c3", machine="i-3", running=0, ended=False, at=old)
    run.write_journal("c4", machine="i-4", running=0, ended=True, at=new)
    run.write_journal("c5", machine="i-6", running=0, ended=False, at="?")
    journals = JournalReader(run.s3, FILE.MONITOR_BUCKET_NAME, FILE.keys)
    journals.read_totals()
    fleet = FleetState("active", 8, tuple(f"i-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8)))
    idle = (ContainerInstance("i-8", "arn:8", 0, START),)
    snapshot = RunSnapshot(now, None, RunTotals(), None, fleet, None, idle_instances=idle)
    with expect_exact_calls() as aws:
        request = {"filter": "ec2InstanceId in ['i-3', 'i-4', 'i-5', 'i-7']", "cluster": "app-cluster"}
        arns = ["arn:3", "arn:4", "arn:5"]
        aws.expect_call("ecs.list_container_instances", request | {"maxResults": 100}, containerInstanceArns=arns)
        described = [describe_container_instance(number, 1) for number in (3, 4, 5)]
        aws.expect_call("ecs.describe_container_instances", None, containerInstances=described)
        reservations = [
            {"Instances": [{"InstanceId": "i-7", "State": {"Name": "running"}, "LaunchTime": datetime.now(UTC)}]}
        ]
        aws.expect_call("ec2.describe_instances", None, Reservations=reservations)
        request = {"filter": "agentConnected == false", "cluster": "app-cluster"}
        arns = [f"arn:{number}" for number in (1, 2, 3, 4, 5, 6, 9)]  # 9 belongs to another app
        aws.expect_call("ecs.list_container_instances", request | {"maxResults": 100}, containerInstanceArns=arns)
        described = [describe_container_instance(number, 1) for number in (1, 2, 3, 4, 5, 6, 9)]
        aws.expect_call("ecs.describe_container_instances", None, containerInstances=described)
        unusable = add_unusable_machines(aws.clients, FILE, snapshot, journals, LIMIT).unusable
    assert [(machine.instance, machine.has_joined) for machine in unusable] == [
        ("i-7", False), ("i-3", True), ("i-4", True)
    ]  # fmt: skip


@pytest.mark.long  # the monitor waits for 20 seconds before it terminates a machine
def test_a_run_whose_first_machines_never_join_is_done_by_their_replacements(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", CLUSTER_MACHINES=2, DOCKER_CORES=1) as app:
        groups = [{"name": name} for name in "abc"]
        command = ["sh", "-c", "echo {name} > {output_dir}/answer.txt"]
        job_file = app.write_job_file(command=command, output_location="results/{name}", groups=groups)
        app.run("setup", LOCALCLOUD_NOT_JOINING="2")
        app.run("submitJob", str(job_file))
        app.run("startCluster", "files/fleet.json")
        monitor = app.run("monitor")
        assert "2 machines terminated" in monitor.stderr
        assert "jobs done       3" in monitor.stdout
        assert len(app.read_results()) == 3
