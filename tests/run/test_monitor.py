"""Tests when the monitor ends a run, and which errors it survives. These tests use a fake clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    InvalidRegionError,
    ProxyConnectionError,
    SSLError,
    UnauthorizedSSOTokenError,
)
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.core.errors import CloudError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import PausedMachine
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.machines import UnusableMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunCaches, RunSnapshot
from distributed_something.run.monitor import actions, loop
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.loop import Tick, run_tick, watch_run
from distributed_something.run.monitor.policy import (
    CHEAPEST_DELAY_SECONDS,
    MIN_EMPTY_SNAPSHOTS,
    EndReason,
    FleetTargetChange,
    IdleMachineTermination,
    MonitorAction,
    Pace,
    TaskCountChange,
    UnusableMachineTermination,
    choose_actions,
)
from distributed_something.worker import ForeignResponseError
from tests.support.fakes import MONITOR_FILE, OLD_MONITOR_FILE, START, FakeBucket, FakeTime, build_client_error

PACE = Pace(interval_seconds=30.0, settling_seconds=75.0)

amounts = st.integers(min_value=0, max_value=100_000)
counts = st.builds(QueueCounts, waiting=amounts, running=amounts)
empty_counts = st.sampled_from([QueueCounts(0, 0), None])
states = st.sampled_from(["submitted", "active", "modifying", "cancelled", "cancelled_running", "failed"])
fleets = st.builds(
    FleetState,
    state=states,
    target=st.integers(0, 100),
    machines=st.lists(st.text("0123456789abcdef"), max_size=3).map(tuple),
)
totals = st.builds(RunTotals, done=amounts, failed=amounts, already_there=amounts, running=amounts)
pauses = st.floats(min_value=0.1, max_value=600)


def build_snapshots(queues: st.SearchStrategy[QueueCounts | None]) -> st.SearchStrategy[RunSnapshot]:
    return st.builds(
        RunSnapshot, at=st.just(START), queue=queues, totals=totals, submitted=st.none() | amounts,
        fleet=st.none() | fleets, service=st.none() | st.builds(ServiceState, amounts, amounts, amounts),
    )  # fmt: skip


timed_snapshots = st.lists(st.tuples(pauses, build_snapshots(empty_counts | counts)), min_size=1, max_size=30)


def add_times(sequence: Iterable[tuple[float, RunSnapshot]]) -> list[RunSnapshot]:
    """Return the snapshots with their times. Each pair contains the seconds since the previous snapshot."""
    at, snapshots = START, []
    for pause, snapshot in sequence:
        at += pause
        snapshots.append(replace(snapshot, at=at))
    return snapshots


def count_jobs(snapshot: RunSnapshot) -> int:
    return snapshot.queue.jobs if snapshot.queue else 0


def decide(snapshot: RunSnapshot, history: RunHistory, cheapest: bool = False) -> list[MonitorAction]:
    return choose_actions(snapshot, history, OLD_MONITOR_FILE, cheapest=cheapest, pace=PACE)


# When a run is over


@given(timed_snapshots, st.booleans())
def test_a_run_ends_exactly_when_enough_snapshots_over_the_settling_time_show_no_jobs(
    sequence: list[tuple[float, RunSnapshot]], cheapest: bool
) -> None:
    history, snapshots = RunHistory(), []
    for snapshot in add_times(sequence):
        history = update_history(history, snapshot, PACE.settling_seconds)
        snapshots.append(snapshot)
        last_with_jobs = max((index for index, earlier in enumerate(snapshots) if count_jobs(earlier)), default=-1)
        empty = snapshots[last_with_jobs + 1 :]
        is_over = len(empty) >= MIN_EMPTY_SNAPSHOTS and snapshot.at - empty[0].at >= PACE.settling_seconds
        assert (EndReason.RUN in decide(snapshot, history, cheapest)) == is_over


@given(timed_snapshots, build_snapshots(counts.filter(lambda queue: queue.jobs > 0)))
def test_a_single_snapshot_with_a_job_keeps_the_run_active(
    sequence: list[tuple[float, RunSnapshot]], busy: RunSnapshot
) -> None:
    history = RunHistory()
    *before, last = add_times([*sequence, (30.0, busy)])
    for snapshot in before:
        history = update_history(history, snapshot, PACE.settling_seconds)
    history = update_history(history, last, PACE.settling_seconds)
    assert (history.empty_looks, history.empty_since) == (0, None)
    assert EndReason.RUN not in decide(last, history)


@given(timed_snapshots, st.booleans())
def test_the_same_snapshots_lead_to_the_same_decisions(
    sequence: list[tuple[float, RunSnapshot]], cheapest: bool
) -> None:
    def decide_all() -> list[list[MonitorAction]]:
        history, decisions = RunHistory(), []
        for snapshot in add_times(sequence):
            history = update_history(history, snapshot, PACE.settling_seconds)
            decisions.append(decide(snapshot, history, cheapest))
        return decisions

    assert decide_all() == decide_all()


@given(build_snapshots(empty_counts | counts))
def test_waiting_and_running_jobs_are_never_negative_and_add_up_to_the_jobs_in_the_queue(snapshot: RunSnapshot) -> None:
    """Journals may be a minute old, and those of lost containers still count their last programs as running."""
    assert min(snapshot.waiting, snapshot.running) >= 0
    assert snapshot.waiting + snapshot.running == snapshot.jobs


# Cheapest mode


def build_busy_snapshot(target: int, minutes: float, state: str = "active") -> RunSnapshot:
    """Return a snapshot of a busy run this many minutes after its start."""
    fleet = FleetState(state, target, ("i-1",))
    return RunSnapshot(START + minutes * 60, QueueCounts(5, 2), RunTotals(), 10, fleet, ServiceState(4, 2, 0))


@given(st.integers(0, 100), st.floats(0, 10_000), states, st.booleans())
def test_cheapest_mode_lowers_the_target_to_one_after_15_minutes(
    target: int, minutes: float, state: str, cheapest: bool
) -> None:
    snapshot = build_busy_snapshot(target, minutes, state)
    actions = decide(snapshot, RunHistory(), cheapest)
    is_active = state in ("submitted", "active", "modifying")
    is_due = cheapest and is_active and target > 1 and snapshot.at - START >= CHEAPEST_DELAY_SECONDS
    assert actions == ([FleetTargetChange(1)] if is_due else [])


@pytest.mark.parametrize(("cheapest", "expected"), [(True, [1]), (False, [])])
def test_cheapest_mode_lowers_the_fleet_target_once(
    monkeypatch: pytest.MonkeyPatch, cheapest: bool, expected: list[int]
) -> None:
    targets: list[int] = []
    fleet_target = [5]

    def set_target(ec2: object, fleet_id: str, target: int, on_demand: int) -> None:
        assert fleet_id == OLD_MONITOR_FILE.MONITOR_FLEET_ID
        targets.append(target)
        fleet_target[0] = target

    monkeypatch.setattr(actions, "set_fleet_target", set_target)
    monkeypatch.setattr(
        loop, "observe_run", lambda _c, _f, _s, _k, now: build_busy_snapshot(fleet_target[0], (now - START) / 60)
    )
    clients: Any = SimpleNamespace(ec2=None, s3=FakeBucket())
    caches = RunCaches(clients.s3, OLD_MONITOR_FILE)
    for minute in range(30):
        tick = run_tick(clients, OLD_MONITOR_FILE, caches, START + minute * 60, cheapest=cheapest, pace=PACE)
        assert not tick.end_reason
        assert bool(targets) == (cheapest and minute >= 15)
    assert targets == expected


# Errors that the monitor survives


class Watcher:
    """Runs `watch_run` with scripted observations: job counts, or errors to raise. The last observation repeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: int | Exception) -> None:
        self.script, self.time = list(script), FakeTime()
        self.snapshots: list[RunSnapshot] = []
        self.lines: list[str] = []
        self.observation_count = 0
        self.clients: Any = SimpleNamespace(s3=FakeBucket())
        monkeypatch.setattr(loop, "observe_run", self._observe)

    def _observe(self, clients: object, file: object, start: object, caches: object, now: float) -> RunSnapshot:
        assert now == self.time.time
        self.observation_count += 1
        observation = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(observation, Exception):
            raise observation
        return RunSnapshot(now, QueueCounts(observation, 0), RunTotals(), 10, FleetState("active", 1, ()), None)

    def watch(self) -> None:
        watch_run(self.clients, OLD_MONITOR_FILE, self, self.time.clock, cheapest=False, pace=PACE)

    def show_snapshot(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        self.snapshots.append(snapshot)

    def print_progress(self, text: str) -> None:
        self.lines.append(text)


def test_watching_ends_after_the_queue_is_empty_often_enough_and_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(monkeypatch, 3, 0, 0, 1, 0)
    watcher.watch()
    assert [count_jobs(snapshot) for snapshot in watcher.snapshots] == [3, 0, 0, 1, 0, 0, 0, 0]
    assert watcher.time.slept == [PACE.interval_seconds] * 7


def test_watching_survives_throttling_network_failures_and_temporarily_missing_permissions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [
        build_client_error("ThrottlingException"),
        build_client_error("RequestLimitExceeded"),
        build_client_error("ServiceUnavailable"),
        EndpointConnectionError(endpoint_url="https://ecs.us-east-1.amazonaws.com"),
    ]
    watcher = Watcher(monkeypatch, *errors, 2, build_client_error("AccessDeniedException"), *errors, 0)
    watcher.watch()
    assert len(watcher.lines) == 2 * len(errors) + 1
    assert all("\n" not in line and line.endswith("(retrying)") for line in watcher.lines)
    assert watcher.observation_count == len(watcher.lines) + len(watcher.snapshots)
    assert [count_jobs(snapshot) for snapshot in watcher.snapshots] == [2, 0, 0, 0, 0]


def test_ticks_run_more_often_while_containers_become_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(monkeypatch, 0)
    snapshot = RunSnapshot(START, QueueCounts(0, 0), RunTotals(), 10, None, None)
    outcomes = [(True, None), (True, None), (False, None), (True, EndReason.RUN)]
    ticks = iter([Tick(snapshot, RunHistory(), end_reason, is_soon) for is_soon, end_reason in outcomes])
    monkeypatch.setattr(loop, "run_tick", lambda *_, **__: next(ticks))
    watcher.watch()
    assert watcher.time.slept == [PACE.short_interval_seconds, PACE.short_interval_seconds, PACE.interval_seconds]


def test_the_next_tick_follows_soon_if_there_are_more_containers_than_the_jobs_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = replace(MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=1, MONITOR_JOBS_PER_TASK=2)
    actions: list[MonitorAction] = []
    monkeypatch.setattr(loop, "carry_out_action", lambda clients, file, action: actions.append(action))
    monkeypatch.setattr(loop, "observe_details", lambda _c, _f, snapshot, *_: replace(snapshot, protected=1))
    clients: Any = SimpleNamespace(s3=FakeBucket())
    for at, jobs, is_soon, is_lowered in (
        (0, 20, False, False),
        (60, 8, True, False),
        (75, 8, True, False),
        (90, 8, True, True),
    ):
        fleet = FleetState("active", 10, ("i-1",))
        snapshot = RunSnapshot(START + at, QueueCounts(0, jobs), RunTotals(), 100, fleet, ServiceState(10, 10, 0))
        monkeypatch.setattr(loop, "observe_run", lambda *_, snapshot=snapshot: snapshot)
        tick = run_tick(clients, file, RunCaches(clients.s3, file), snapshot.at, cheapest=False, pace=PACE)
        assert (tick.is_scaling_down, TaskCountChange(4) in actions) == (is_soon, is_lowered)


def test_failed_observations_do_not_count_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(monkeypatch, 0, *[build_client_error("ThrottlingException")] * 20, 0, 7, 0)
    watcher.watch()
    assert [count_jobs(snapshot) for snapshot in watcher.snapshots] == [0, 0, 7, 0, 0, 0, 0]


def test_a_run_ends_even_if_aws_always_rejects_an_action(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(monkeypatch, 3, 0)

    def reject_fleet_change(_clients: object, _file: object, action: MonitorAction) -> None:
        if isinstance(action, FleetTargetChange):
            raise build_client_error("RequestLimitExceeded")

    def choose_fleet_change(*args: Any, **options: Any) -> list[MonitorAction]:
        return choose_actions(*args, **options) or [FleetTargetChange(0)]

    monkeypatch.setattr(loop, "choose_actions", choose_fleet_change)
    monkeypatch.setattr(loop, "carry_out_action", reject_fleet_change)
    watcher.watch()
    assert watcher.observation_count == 5
    assert "RequestLimitExceeded" in watcher.lines[0]


def test_machines_are_not_terminated_before_ec2_accepts_the_new_target_of_a_fleet_that_is_being_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a fleet is `modifying`, EC2 refuses another change and still shows the old target.

    EC2 would replace machines that are terminated before the target is lower.
    """
    chosen = [TaskCountChange(1), FleetTargetChange(1), IdleMachineTermination(())]
    carried_out: list[MonitorAction] = []
    errors = [build_client_error("FleetNotInModifiableState")]

    def carry_out(_clients: object, _file: object, action: MonitorAction) -> None:
        if isinstance(action, FleetTargetChange) and errors:
            raise errors.pop()
        carried_out.append(action)

    monkeypatch.setattr(loop, "choose_actions", lambda *_, **__: chosen)
    monkeypatch.setattr(loop, "carry_out_action", carry_out)
    clients: Any = SimpleNamespace(s3=FakeBucket())
    fleet = FleetState("modifying", 3, ("i-1", "i-2", "i-3"))
    snapshot = RunSnapshot(START, QueueCounts(0, 1), RunTotals(), 100, fleet, ServiceState(3, 3, 0))
    monkeypatch.setattr(loop, "observe_details", lambda _c, _f, snapshot, *_: snapshot)
    monkeypatch.setattr(loop, "observe_run", lambda *_: snapshot)
    ticks = [
        run_tick(clients, MONITOR_FILE, RunCaches(clients.s3, MONITOR_FILE), START, cheapest=False, pace=PACE)
        for _ in range(2)
    ]
    assert [tick.end_reason for tick in ticks] == [None, None]
    assert carried_out == [chosen[0], *chosen]


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "AuthFailure",
     "ExpiredToken", "ExpiredTokenException"],
)  # fmt: skip
def test_missing_permissions_at_the_first_observation_raise_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    watcher = Watcher(monkeypatch, build_client_error(code))
    with pytest.raises(CloudError, match=f"while looking at the run: {code}: test error — "):
        watcher.watch()
    assert watcher.time.slept == []


@pytest.mark.parametrize("error", [UnauthorizedSSOTokenError(), build_client_error("ExpiredToken")])
def test_watching_ends_when_the_login_expires_during_the_run(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Nothing but a new login helps, so repeating the same line every 30 seconds would only hide what to do."""
    watcher = Watcher(monkeypatch, 3, error)
    with pytest.raises(CloudError, match="log in again"):
        watcher.watch()
    assert len(watcher.snapshots) == 1
    assert watcher.lines == []


def test_watching_survives_a_clock_that_is_wrong_for_a_moment_but_does_not_start_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(monkeypatch, 2, build_client_error("RequestTimeTooSkewed"), 0)
    watcher.watch()
    assert ["set this computer's clock" in line for line in watcher.lines] == [True]
    with pytest.raises(CloudError, match="set this computer's clock"):
        Watcher(monkeypatch, build_client_error("RequestTimeTooSkewed")).watch()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SSLError(endpoint_url="https://sqs", error="self-signed certificate"), "set AWS_CA_BUNDLE"),
        (ProxyConnectionError(proxy_url="http://proxy", error="407"), "correct HTTPS_PROXY"),
        (build_client_error("PermanentRedirect"), "the bucket is in another region"),
        (InvalidRegionError(region_name="us east"), "correct AWS_REGION"),
    ],
)
def test_watching_does_not_start_with_a_wrong_setting_but_survives_one_later(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    """A laptop may move to a network with a proxy during the run, and back."""
    first = Watcher(monkeypatch, error)
    with pytest.raises(CloudError, match=advice) as caught:
        first.watch()
    assert (first.time.slept, caught.value.exit_code) == ([], 1)
    watcher = Watcher(monkeypatch, 2, error, 0)
    watcher.watch()
    assert [advice in line for line in watcher.lines] == [True]


def test_watching_survives_a_login_page_even_at_the_first_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ForeignResponseError(operation="GetQueueUrl", problem="is an HTML page")
    watcher = Watcher(monkeypatch, page, 2, page, page, 0)
    watcher.watch()
    assert count_jobs(watcher.snapshots[0]) == 2
    assert ["something other than AWS answered" in line for line in watcher.lines] == [True] * 3


def test_a_rejected_action_is_named_with_its_permission_and_repeated_even_at_the_first_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(monkeypatch, 3, 3, 0)
    denied = ClientError(
        {"Error": {"Code": "UnauthorizedOperation", "Message": "You are not authorized. Encoded message: abc"}},
        "TerminateInstances",
    )
    outcomes: list[Exception | None] = [denied, denied, None]

    def carry_out(_clients: object, _file: object, action: MonitorAction) -> None:
        if isinstance(action, IdleMachineTermination) and (error := outcomes.pop(0)):
            raise error

    def choose(snapshot: RunSnapshot, *args: Any, **options: Any) -> list[MonitorAction]:
        return [IdleMachineTermination(())] if outcomes else choose_actions(snapshot, *args, **options)

    monkeypatch.setattr(loop, "choose_actions", choose)
    monkeypatch.setattr(loop, "carry_out_action", carry_out)
    watcher.watch()
    assert len(watcher.lines) == 2
    assert watcher.lines[0].startswith("while terminating idle machines (they still cost money): UnauthorizedOperation")
    assert watcher.lines[0].endswith("for the permission ec2:TerminateInstances (retrying)")
    assert [count_jobs(snapshot) for snapshot in watcher.snapshots][:3] == [3, 3, 0]


def test_watching_ends_if_the_login_expires_during_an_action(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(monkeypatch, 3)
    monkeypatch.setattr(loop, "choose_actions", lambda *_, **__: [IdleMachineTermination(())])

    def carry_out(*_: object) -> None:
        raise build_client_error("ExpiredToken")

    monkeypatch.setattr(loop, "carry_out_action", carry_out)
    with pytest.raises(CloudError, match="log in again"):
        watcher.watch()


def test_only_machines_that_ec2_has_terminated_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 refuses the second of two calls at first. Each call terminates at most 100 machines."""
    machines = [UnusableMachine(f"i-{number}", START - 900) for number in range(150)]
    watcher = Watcher(monkeypatch, 3)
    errors, calls = [build_client_error("UnauthorizedOperation")], []

    def carry_out(_clients: object, _file: object, action: MonitorAction) -> None:
        assert isinstance(action, UnusableMachineTermination)
        if calls and errors:
            raise errors.pop()
        calls.append(len(action.machines))
        for machine in action.machines:
            machines.remove(machine)

    monkeypatch.setattr(
        loop, "choose_actions", lambda *_, **__: [UnusableMachineTermination(tuple(machines))] if machines else []
    )
    monkeypatch.setattr(loop, "carry_out_action", carry_out)
    counts = []
    for _ in range(3):
        tick = run_tick(
            watcher.clients, OLD_MONITOR_FILE, RunCaches(watcher.clients.s3, OLD_MONITOR_FILE), watcher.time.time,
            cheapest=False, pace=PACE,
        )  # fmt: skip
        counts.append((tick.history.unusable_count, tick.history.unusable_rounds, tick.failure is not None))
    assert calls == [100, 50]
    assert counts == [(100, 1, True), (150, 1, False), (150, 1, False)]


NO_TOTALS = RunTotals()


def build_snapshot(
    jobs: int,
    totals: RunTotals = NO_TOTALS,
    *,
    at: float = START,
    running: int = 2,
    paused: int = 0,
    machines: int = 1,
) -> RunSnapshot:
    """Return a snapshot with `running` containers, and `paused` of them paused on `machines` machines."""
    paused_machines = tuple(PausedMachine(f"i-{n % machines + 1}", "exit code 1") for n in range(paused))
    fleet = FleetState("active", target=2, machines=("i-1", "i-2"))
    return RunSnapshot(
        at, QueueCounts(jobs, totals.running), totals, 200, fleet, ServiceState(2, running, 0), paused_machines
    )


@pytest.mark.parametrize(
    ("snapshot", "is_hopeless"),
    [
        (build_snapshot(100, RunTotals(attempts=9), paused=2), True),
        (build_snapshot(100, RunTotals(attempts=9), paused=1), False),
        (build_snapshot(99, RunTotals(done=1, attempts=9), paused=2), False),
        (build_snapshot(99, RunTotals(already_there=1, attempts=9), paused=2), False),
        (build_snapshot(50, RunTotals(failed=50, attempts=50)), True),
        (build_snapshot(51, RunTotals(failed=49, attempts=80)), False),
        (build_snapshot(49, RunTotals(done=1, failed=50, attempts=51)), False),
        (build_snapshot(100, running=0), False),
        # Of many paused containers, only the newest are known.
        (build_snapshot(100, RunTotals(attempts=90), running=40, paused=5, machines=2), True),
        (build_snapshot(100, RunTotals(attempts=90), running=40, paused=4, machines=2), False),
        (build_snapshot(100, RunTotals(attempts=90), running=40, paused=5, machines=1), False),
        (build_snapshot(100, RunTotals(attempts=90, running=35), running=40, paused=5, machines=2), False),
    ],
)
def test_a_run_in_which_no_job_succeeds_is_ended_before_it_costs_more(snapshot: RunSnapshot, is_hopeless: bool) -> None:
    history, settled = RunHistory(), replace(snapshot, at=START + PACE.settling_seconds)
    history = update_history(history, snapshot, PACE.settling_seconds)
    assert decide(snapshot, history) == [], "a success may be in a journal that is written a moment later"
    history = update_history(history, settled, PACE.settling_seconds)
    assert (decide(settled, history) == [EndReason.NOTHING_WORKS]) == is_hopeless


def test_after_a_success_the_time_without_one_begins_again() -> None:
    history, failing = RunHistory(), RunTotals(failed=60, attempts=60)
    for at, totals in ((0, failing), (60, replace(failing, done=1)), (120, failing)):
        snapshot = build_snapshot(50, totals, at=START + at)
        history = update_history(history, snapshot, PACE.settling_seconds)
        assert decide(snapshot, history) == []


SETTLING = PACE.settling_seconds
REPLACED_AT = START + 100


@pytest.mark.parametrize(
    ("totals", "paused_at", "is_hopeless"),
    [
        (RunTotals(failed=60, attempts=90), (), False),  # nothing has failed since the replacement
        (RunTotals(failed=109, attempts=150), (), False),
        (RunTotals(failed=110, attempts=150), (), True),  # 50 more
        (RunTotals(failed=60, attempts=90), (REPLACED_AT - 50, REPLACED_AT + 1), False),
        (RunTotals(failed=60, attempts=90), (REPLACED_AT + 50, REPLACED_AT + 60), True),
        (RunTotals(failed=60, attempts=90), (None, None), True),  # full disks
    ],
)
def test_failures_and_pauses_of_jobs_that_were_replaced_do_not_end_a_run(
    totals: RunTotals, paused_at: tuple[float | None, ...], is_hopeless: bool
) -> None:
    old = RunTotals(failed=60, attempts=90)
    paused = tuple(PausedMachine("i-1", "exit code 1", since) for since in paused_at)
    snapshots = [
        build_snapshot(100, RunTotals(failed=40, attempts=90), at=START),
        build_snapshot(100, RunTotals(failed=40, attempts=90), at=REPLACED_AT),
        build_snapshot(100, old, at=REPLACED_AT + SETTLING),  # journals with the last old attempts
        replace(build_snapshot(100, totals, at=REPLACED_AT + SETTLING + 1), paused=paused),
        replace(build_snapshot(100, totals, at=REPLACED_AT + 2 * SETTLING + 2), paused=paused),
    ]
    snapshots[1:] = [replace(snapshot, replaced_at=REPLACED_AT) for snapshot in snapshots[1:]]
    ends = [EndReason.NOTHING_WORKS in actions for actions in follow(NEW_FILE, *snapshots)]
    assert ends == [False] * 4 + [is_hopeless]


@pytest.mark.parametrize(
    ("code", "seconds", "is_hopeless"),
    [
        ("AccessDeniedException", 600.0, True),
        ("AccessDeniedException", 599.0, False),
        ("DEPLOYMENT_BLOCKED", 3000.0, False),
        ("", 3000.0, False),
    ],
)
def test_a_run_ends_if_its_role_may_not_protect_containers_but_other_refusals_end_by_themselves(
    code: str, seconds: float, is_hopeless: bool
) -> None:
    history = RunHistory()
    paused = tuple(PausedMachine(f"i-{n}", "refused", None, code, START) for n in (1, 2))
    for at in (START + seconds, START + seconds + PACE.settling_seconds):
        snapshot = replace(build_snapshot(10), at=at, paused=paused, service=ServiceState(2, 2, 0))
        history = update_history(history, snapshot, PACE.settling_seconds)
    assert (EndReason.NOTHING_WORKS in decide(snapshot, history)) == is_hopeless


def test_no_run_ends_while_jobs_are_being_sent() -> None:
    """`submitJob --replace` may just have emptied the queue, and its new jobs may work."""
    failing = [build_snapshot(5, RunTotals(attempts=90), at=START + at, paused=2) for at in (0, 60, 120, 180, 240)]
    assert follow(NEW_FILE, *failing)[-1] == [EndReason.NOTHING_WORKS]
    sending = [failing[0], *(replace(snapshot, is_sending=True) for snapshot in failing[1:])]
    assert not any(EndReason.NOTHING_WORKS in actions for actions in follow(NEW_FILE, *sending))
    empty = [replace(snapshot, queue=QueueCounts(0, 0)) for snapshot in sending]
    assert not any(isinstance(action, EndReason) for actions in follow(NEW_FILE, *empty) for action in actions)


def follow(file: MonitorFile, *snapshots: RunSnapshot) -> list[list[MonitorAction]]:
    """Return the actions after each snapshot."""
    history, decisions = RunHistory(), []
    for snapshot in snapshots:
        history = update_history(history, snapshot, PACE.settling_seconds)
        decisions.append(choose_actions(snapshot, history, file, cheapest=False, pace=PACE))
    return decisions


NEW_FILE = replace(MONITOR_FILE, MONITOR_MACHINES=2)
MINUTE = 60.0


def test_a_run_ends_if_there_were_machines_for_15_minutes_but_no_container_wrote_a_journal() -> None:
    snapshots = [build_snapshot(100, at=START + minutes * MINUTE) for minutes in (3, 10, 17.9, 18)]
    assert [EndReason.NOTHING_WORKS in actions for actions in follow(NEW_FILE, *snapshots)] == [False] * 3 + [True]
    started = [replace(snapshot, totals=RunTotals(containers=1)) for snapshot in snapshots]
    assert not any(EndReason.NOTHING_WORKS in actions for actions in follow(NEW_FILE, *started))


def test_the_time_without_a_container_begins_again_when_there_are_machines_again() -> None:
    """EC2 may have no machines for hours, and those that it then starts need their time."""
    snapshots = [build_snapshot(100, at=START + minutes * MINUTE) for minutes in (0, 10, 60, 70, 75)]
    snapshots[2] = replace(snapshots[2], fleet=FleetState("active", 2, ()))
    ends = [EndReason.NOTHING_WORKS in actions for actions in follow(NEW_FILE, *snapshots)]
    assert ends == [False] * 5
    later = build_snapshot(100, at=START + 85 * MINUTE)
    assert follow(NEW_FILE, *snapshots, later)[-1] == [EndReason.NOTHING_WORKS]


def test_containers_of_an_older_version_may_not_write_journals() -> None:
    snapshots = [build_snapshot(100, at=START + minutes * MINUTE) for minutes in (0, 10, 60)]
    assert not any(EndReason.NOTHING_WORKS in actions for actions in follow(OLD_MONITOR_FILE, *snapshots))


@pytest.mark.parametrize(
    ("totals", "reason"),
    [
        (RunTotals(failed=200, attempts=200, containers=2), EndReason.NOTHING_WORKS),
        (RunTotals(done=1, failed=199, containers=2), EndReason.RUN),
        (RunTotals(already_there=1, failed=199, containers=2), EndReason.RUN),
        (RunTotals(failed=199, containers=2), EndReason.RUN),  # a job's end is unknown: it may be done
        (RunTotals(containers=2), EndReason.RUN),
    ],
)
def test_the_queue_is_kept_if_every_job_failed_before_the_first_look(totals: RunTotals, reason: EndReason) -> None:
    looks = [build_snapshot(0, totals, at=START + seconds) for seconds in (0, 30, 60, 90)]
    decisions = follow(NEW_FILE, *looks)
    assert [reason in actions for actions in decisions] == [False, False, False, True]
    gone = [replace(look, queue=None) for look in looks]
    assert follow(NEW_FILE, *gone)[-1] == [EndReason.RUN], "there is no queue to keep"


@pytest.mark.parametrize("state", ["cancelled", "cancelled_terminating", "failed"])
def test_a_run_ends_if_its_fleet_ended_while_jobs_were_still_waiting(state: str) -> None:
    ended_fleet = FleetState(state, target=2, machines=())
    snapshot = RunSnapshot(
        at=START,
        queue=QueueCounts(5, 0),
        totals=RunTotals(),
        submitted=5,
        fleet=ended_fleet,
        service=ServiceState(2, 0, 0),
    )
    assert decide(snapshot, RunHistory()) == [EndReason.FLEET]
    assert decide(replace(snapshot, fleet=replace(ended_fleet, machines=("i-1",))), RunHistory()) == []
    assert decide(replace(snapshot, fleet=replace(ended_fleet, state="active")), RunHistory()) == []


@pytest.mark.parametrize(("minutes", "expected"), [(1, []), (60, [EndReason.FLEET]), (50 * 60, [EndReason.FLEET])])
def test_a_fleet_that_ec2_does_not_list_counts_as_ended_unless_it_is_new(
    minutes: float, expected: list[MonitorAction]
) -> None:
    snapshot = RunSnapshot(
        START + minutes * 60, QueueCounts(5, 0), RunTotals(), 5, fleet=None, service=ServiceState(2, 0, 0)
    )
    assert decide(snapshot, RunHistory()) == expected
    assert decide(replace(snapshot, queue=QueueCounts(0, 5)), RunHistory()) == [], (
        "workers may still be running the jobs"
    )


def test_the_history_remembers_how_many_machines_there_were() -> None:
    history = RunHistory()
    for number, machines in enumerate([(), ("i-1", "i-2"), ("i-2",), ()]):
        fleet = FleetState("active", 2, machines)
        snapshot = RunSnapshot(START + number, None, RunTotals(), None, fleet, None)
        history = update_history(history, snapshot, PACE.settling_seconds)
    assert history.machines == 2
