"""The monitor's judgement: what it believes, when it ends a run, and what it outlives. Time is told, not waited for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.cli.console import Console
from distributed_something.core.errors import CloudError
from distributed_something.observe.containers import PausedMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor import actions, loop
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.loop import Tick, run_tick, watch_run
from distributed_something.run.monitor.policy import (
    CHEAPEST_DELAY_SECONDS,
    MIN_EMPTY_LOOKS,
    EndReason,
    FleetTargetChange,
    MonitorAction,
    Pace,
    TaskCountChange,
    choose_actions,
)
from distributed_something.run.monitor.view import MonitorView
from tests.support.fakes import MONITOR_FILE, OLD_MONITOR_FILE, START, FakeBucket, FakeTime, refused

PACE = Pace(look=30.0, settle=75.0)

amounts = st.integers(min_value=0, max_value=100_000)
counts = st.builds(QueueCounts, waiting=amounts, running=amounts)
empty = st.sampled_from([QueueCounts(0, 0), None])
states = st.sampled_from(["submitted", "active", "modifying", "cancelled", "cancelled_running", "failed"])
fleets = st.builds(
    FleetState,
    state=states,
    target=st.integers(0, 100),
    machines=st.lists(st.text("0123456789abcdef"), max_size=3).map(tuple),
)
pauses = st.floats(min_value=0.1, max_value=600)


def snapshots(queues: st.SearchStrategy[QueueCounts | None]) -> st.SearchStrategy[RunSnapshot]:
    return st.builds(
        RunSnapshot, at=st.just(START), queue=queues, dead=amounts, submitted=st.none() | amounts,
        fleet=st.none() | fleets, service=st.none() | st.builds(ServiceState, amounts, amounts, amounts),
    )  # fmt: skip


looks = st.lists(st.tuples(pauses, snapshots(empty | counts)), min_size=1, max_size=30)


def dated(given_looks: Iterable[tuple[float, RunSnapshot]]) -> list[RunSnapshot]:
    """The snapshots one after the other, each so many seconds after the one before."""
    at, found = START, []
    for pause, snapshot in given_looks:
        at += pause
        found.append(replace(snapshot, at=at))
    return found


def jobs_in(snapshot: RunSnapshot) -> int:
    return snapshot.queue.jobs if snapshot.queue else 0


def decide(snapshot: RunSnapshot, history: RunHistory, cheapest: bool = False) -> list[MonitorAction]:
    return choose_actions(snapshot, history, OLD_MONITOR_FILE, cheapest=cheapest, pace=PACE)


# When a run is over


@given(looks, st.booleans())
def test_a_run_ends_just_when_enough_looks_over_the_settling_time_saw_no_job(
    given_looks: list[tuple[float, RunSnapshot]], cheapest: bool
) -> None:
    history, seen = RunHistory(), []
    for snapshot in dated(given_looks):
        history = update_history(history, snapshot, PACE.settle)
        seen.append(snapshot)
        last_with_jobs = max((n for n, one in enumerate(seen) if jobs_in(one)), default=-1)
        empty_looks = seen[last_with_jobs + 1 :]
        over = len(empty_looks) >= MIN_EMPTY_LOOKS and snapshot.at - empty_looks[0].at >= PACE.settle
        assert (EndReason.RUN in decide(snapshot, history, cheapest)) == over


@given(looks, snapshots(counts.filter(lambda found: found.jobs > 0)))
def test_one_look_that_sees_a_job_undoes_all_doubt(
    given_looks: list[tuple[float, RunSnapshot]], busy: RunSnapshot
) -> None:
    history = RunHistory()
    *before, last = dated([*given_looks, (30.0, busy)])
    for snapshot in before:
        history = update_history(history, snapshot, PACE.settle)
    history = update_history(history, last, PACE.settle)
    assert (history.empty_looks, history.empty_since) == (0, None)
    assert EndReason.RUN not in decide(last, history)


@given(looks, st.booleans())
def test_the_same_looks_give_the_same_decisions(given_looks: list[tuple[float, RunSnapshot]], cheapest: bool) -> None:
    def decisions() -> list[list[MonitorAction]]:
        history, taken = RunHistory(), []
        for snapshot in dated(given_looks):
            history = update_history(history, snapshot, PACE.settle)
            taken.append(decide(snapshot, history, cheapest))
        return taken

    assert decisions() == decisions()


@given(snapshots(empty | counts))
def test_done_is_never_negative_and_unknown_without_a_count(snapshot: RunSnapshot) -> None:
    if snapshot.submitted is None or snapshot.queue is None:
        assert snapshot.done is None
    else:
        assert snapshot.done is not None
        assert 0 <= snapshot.done <= snapshot.submitted


# Cheapest


def run_of(target: int, minutes: float, state: str = "active") -> RunSnapshot:
    """A busy run, so many minutes after its start."""
    fleet = FleetState(state, target, ("i-1",))
    return RunSnapshot(START + minutes * 60, QueueCounts(5, 2), 0, 10, fleet, ServiceState(4, 2, 0))


@given(st.integers(0, 100), st.floats(0, 10_000), states, st.booleans())
def test_cheapest_lowers_the_target_to_one_after_a_quarter_of_an_hour_and_never_again(
    target: int, minutes: float, state: str, cheapest: bool
) -> None:
    snapshot = run_of(target, minutes, state)
    taken = decide(snapshot, RunHistory(), cheapest)
    active = state in ("submitted", "active", "modifying")
    due = cheapest and active and target > 1 and snapshot.at - START >= CHEAPEST_DELAY_SECONDS
    assert taken == ([FleetTargetChange(1)] if due else [])


@pytest.mark.parametrize(("word", "lowered"), [(True, [1]), (False, [])])
def test_steps_lower_the_target_of_the_fleet_once(
    monkeypatch: pytest.MonkeyPatch, word: bool, lowered: list[int]
) -> None:
    asked: list[int] = []
    fleet_target = [5]

    def set_target(ec2: object, fleet_id: str, target: int, on_demand: int) -> None:
        assert fleet_id == OLD_MONITOR_FILE.MONITOR_FLEET_ID
        asked.append(target)
        fleet_target[0] = target

    monkeypatch.setattr(actions, "set_fleet_target", set_target)
    monkeypatch.setattr(loop, "observe_run", lambda _c, _f, now, _p: run_of(fleet_target[0], (now - START) / 60))
    clients: Any = SimpleNamespace(ec2=None, s3=FakeBucket())
    for minute in range(30):
        tick = run_tick(clients, OLD_MONITOR_FILE, START + minute * 60, SpotPriceCache(), cheapest=word, pace=PACE)
        assert not tick.over
        assert bool(asked) == (word and minute >= 15)
    assert asked == lowered


# What a watch outlives


class Watched:
    """`watch_run` on a script of looks: a number is the jobs in the queue, an error is raised; the last one repeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: int | Exception) -> None:
        self.script, self.time = list(script), FakeTime()
        self.shown: list[RunSnapshot] = []
        self.said: list[str] = []
        self.looks = 0
        self.clients: Any = SimpleNamespace(s3=FakeBucket())
        monkeypatch.setattr(loop, "observe_run", self._observe)

    def _observe(self, clients: object, file: object, now: float, prices: object) -> RunSnapshot:
        assert now == self.time.time
        self.looks += 1
        told = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(told, Exception):
            raise told
        return RunSnapshot(now, QueueCounts(told, 0), 0, 10, FleetState("active", 1, ()), None)

    def watch(self) -> None:
        watch_run(self.clients, OLD_MONITOR_FILE, self.time.clock, self, cheapest=False, pace=PACE)

    def show(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        self.shown.append(snapshot)

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_watch_ends_when_empty_was_seen_often_and_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 3, 0, 0, 1, 0)
    watched.watch()
    assert [jobs_in(snapshot) for snapshot in watched.shown] == [3, 0, 0, 1, 0, 0, 0, 0]
    assert watched.time.slept == [PACE.look] * 7


def test_a_watch_outlives_throttling_a_lost_network_and_rights_that_are_lost_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [
        refused("ThrottlingException"), refused("RequestLimitExceeded"), refused("ServiceUnavailable"),
        EndpointConnectionError(endpoint_url="https://ecs.us-east-1.amazonaws.com"),
    ]  # fmt: skip
    watched = Watched(monkeypatch, *errors, 2, refused("AccessDeniedException"), *errors, 0)
    watched.watch()
    assert len(watched.said) == 2 * len(errors) + 1
    assert all("\n" not in line and line.endswith("(trying again)") for line in watched.said)
    assert watched.looks == len(watched.said) + len(watched.shown)
    assert [jobs_in(snapshot) for snapshot in watched.shown] == [2, 0, 0, 0, 0]


def test_a_watch_looks_again_soon_while_containers_fall_idle_and_at_the_usual_time_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, 0)
    look = RunSnapshot(START, QueueCounts(0, 0), 0, 10, None, None)
    ends = [(True, None), (True, None), (False, None), (True, EndReason.RUN)]
    ticks = iter([Tick(look, RunHistory(), over, soon) for soon, over in ends])
    monkeypatch.setattr(loop, "run_tick", lambda *_, **__: next(ticks))
    watched.watch()
    assert watched.time.slept == [PACE.soon, PACE.soon, PACE.look]


def test_a_look_at_a_service_that_is_larger_than_its_jobs_need_is_followed_by_another_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = replace(MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=1, MONITOR_JOBS_PER_TASK=2)
    done: list[MonitorAction] = []
    monkeypatch.setattr(loop, "carry_out_action", lambda clients, file, action: done.append(action))
    clients: Any = SimpleNamespace(s3=FakeBucket())
    for at, jobs, soon, lowered in (
        (0, 20, False, False),
        (60, 8, True, False),
        (75, 8, True, False),
        (90, 8, True, True),
    ):
        fleet = FleetState("active", 10, ("i-1",))
        look = RunSnapshot(START + at, QueueCounts(0, jobs), 0, 100, fleet, ServiceState(10, 10, 0))
        monkeypatch.setattr(loop, "observe_run", lambda *_, look=look: look)
        tick = run_tick(clients, file, look.at, SpotPriceCache(), cheapest=False, pace=PACE)
        assert (tick.soon, TaskCountChange(4) in done) == (soon, lowered)


def test_looks_that_failed_do_not_count_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 0, *[refused("ThrottlingException")] * 20, 0, 7, 0)
    watched.watch()
    assert [jobs_in(snapshot) for snapshot in watched.shown] == [0, 0, 7, 0, 0, 0, 0]


def test_an_action_that_aws_always_refuses_keeps_no_run_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 3, 0)

    def act(_clients: object, _file: object, action: MonitorAction) -> None:
        if isinstance(action, FleetTargetChange):
            raise refused("RequestLimitExceeded")

    def choose(*given: Any, **more: Any) -> list[MonitorAction]:
        return choose_actions(*given, **more) or [FleetTargetChange(0)]

    monkeypatch.setattr(loop, "choose_actions", choose)
    monkeypatch.setattr(loop, "carry_out_action", act)
    watched.watch()
    assert watched.looks == 5
    assert "RequestLimitExceeded" in watched.said[0]


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "AuthFailure",
     "ExpiredToken", "ExpiredTokenException"],
)  # fmt: skip
def test_missing_rights_at_the_first_look_end_it_at_once_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    watched = Watched(monkeypatch, refused(code))
    with pytest.raises(CloudError, match=f"while looking at the run: {code}: as told — "):
        watched.watch()
    assert watched.time.slept == []


def seen(jobs: int, dead: int, *, submitted: int = 100, running: int = 2, paused: int = 0) -> RunSnapshot:
    said = (PausedMachine("i-1", "exit code 1"),) * paused
    fleet = FleetState("active", target=2, machines=("i-1", "i-2"))
    return RunSnapshot(START, QueueCounts(jobs, 0), dead, submitted, fleet, ServiceState(2, running, 0), said)


@pytest.mark.parametrize(
    ("now", "hopeless"),
    [
        (seen(100, 0, paused=2), True),
        (seen(100, 0, paused=1), False),
        (seen(99, 0, paused=2), False),  # one job is done
        (seen(50, 50), True),
        (seen(51, 49), False),
        (seen(49, 50), False),
        (seen(150, 50, submitted=200), True),  # a hundred more were sent meanwhile
        (seen(149, 50, submitted=200), False),
        (seen(100, 0, running=0), False),
    ],
)
def test_where_nothing_works_the_run_is_ended_before_it_costs_more(now: RunSnapshot, hopeless: bool) -> None:
    assert (
        decide(now, update_history(RunHistory(), seen(100, 0), PACE.settle)) == [EndReason.NOTHING_WORKS]
    ) == hopeless


def test_failed_jobs_of_an_earlier_run_do_not_make_this_one_hopeless() -> None:
    assert decide(seen(100, 60), update_history(RunHistory(), seen(100, 60), PACE.settle)) == []


@pytest.mark.parametrize("state", ["cancelled", "cancelled_terminating", "failed"])
def test_a_fleet_that_ended_while_jobs_wait_is_told_instead_of_being_watched_for_ever(state: str) -> None:
    gone = FleetState(state, target=2, machines=())
    look = RunSnapshot(
        at=START, queue=QueueCounts(5, 0), dead=0, submitted=5, fleet=gone, service=ServiceState(2, 0, 0)
    )
    assert decide(look, RunHistory()) == [EndReason.FLEET]
    assert decide(replace(look, fleet=replace(gone, machines=("i-1",))), RunHistory()) == []
    assert decide(replace(look, fleet=replace(gone, state="active")), RunHistory()) == []


@pytest.mark.parametrize(("minutes", "taken"), [(1, []), (60, [EndReason.FLEET]), (50 * 60, [EndReason.FLEET])])
def test_a_fleet_that_ec2_has_forgotten_has_ended_but_not_one_of_which_it_does_not_tell_yet(
    minutes: float, taken: list[MonitorAction]
) -> None:
    look = RunSnapshot(START + minutes * 60, QueueCounts(5, 0), 0, 5, fleet=None, service=ServiceState(2, 0, 0))
    assert decide(look, RunHistory()) == taken
    assert decide(replace(look, queue=QueueCounts(0, 5)), RunHistory()) == [], "their workers may still be at it"


# What a person sees


def test_a_terminal_of_80_columns_shows_every_figure_in_bold_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    drawn = StringIO()
    console = Console()
    monkeypatch.setattr(sys, "stderr", drawn)
    monkeypatch.setenv("FORCE_COLOR", "1")
    look = RunSnapshot(START, QueueCounts(5, 2), 1, 10, FleetState("active", 3, ("i-1", "i-2")), ServiceState(6, 4, 0))
    with MonitorView(replace(MONITOR_FILE, MONITOR_APP_NAME="[bold]App[/]"), console) as view:
        view.show(look, RunHistory())
    lines = drawn.getvalue().splitlines()
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in lines]
    assert plain[0] == "[bold]App[/]  Ctrl-C leaves the run going; monitor takes it up again"
    assert plain[1:7] == ["waiting       5", "running       2", "done          2", "failed        1",
                          "machines      2/3", "containers    4/6"]  # fmt: skip
    assert lines[1].startswith("waiting       \x1b[1m5 ")
