"""Tests how often the auto-monitor runs a tick: once per call, or more often while machines are becoming idle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run import auto_monitor
from distributed_something.run.auto_monitor import handler, run_ticks
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.loop import Tick
from distributed_something.run.monitor.policy import EndReason, Pace
from tests.support.fakes import MONITOR_FILE, START, FakeBucket, FakeTime

PACE = Pace(interval_seconds=60.0, short_interval_seconds=15.0)
SNAPSHOT = RunSnapshot(START, QueueCounts(5, 5), RunTotals(), 10, None, None)
LAST_TICK = Tick(SNAPSHOT, RunHistory(), EndReason.RUN, is_scaling_down=True)


class FunctionCall:
    """One call of the function. `ticks`: the outcome of each tick. `seconds`: how long each tick takes."""

    def __init__(self, ticks: Iterable[Tick], seconds: Iterable[float]) -> None:
        self._ticks, self._seconds = iter(ticks), iter(seconds)
        self.time = FakeTime()
        self.start_times: list[float] = []

    def run(self) -> Tick:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(auto_monitor, "run_tick", self._run_tick)
            clients: Any = SimpleNamespace(s3=FakeBucket())
            return run_ticks(clients, MONITOR_FILE, PACE, self.time.clock)

    def _run_tick(self, _clients: object, _file: object, _caches: object, now: float, *_: object, **__: object) -> Tick:
        assert now == self.time.time
        self.start_times.append(now - START)
        self.time.time += next(self._seconds)
        return next(self._ticks)


def build_tick(is_scaling_down: bool) -> Tick:
    return Tick(SNAPSHOT, RunHistory(), None, is_scaling_down)


def test_a_call_runs_only_one_tick_if_no_container_is_idle() -> None:
    call = FunctionCall([build_tick(False)], [1.0])
    call.run()
    assert (call.start_times, call.time.slept) == ([0.0], [])


def test_while_machines_become_idle_ticks_run_every_15_seconds_until_the_next_call() -> None:
    call = FunctionCall([build_tick(True)] * 9, repeat(0.5))
    call.run()
    assert call.start_times == [0.0, 15.5, 31.0, 46.5]
    assert call.time.slept == [15.0] * 3


def test_a_call_ends_when_no_more_machines_become_idle_or_the_run_is_over() -> None:
    assert FunctionCall([build_tick(True), build_tick(False)], repeat(1.0)).run() == build_tick(False)
    assert FunctionCall([build_tick(True), LAST_TICK], repeat(1.0)).run() is LAST_TICK


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.lists(st.floats(0.1, 200), min_size=5, max_size=5))
def test_no_tick_starts_after_the_next_call_is_due_however_long_ticks_take(
    is_scaling_down: list[bool], seconds: list[float]
) -> None:
    call = FunctionCall(map(build_tick, is_scaling_down), seconds)
    call.run()
    assert call.start_times[0] == 0.0
    assert all(start < PACE.interval_seconds for start in call.start_times)
    assert set(call.time.slept) <= {PACE.short_interval_seconds}


def test_environment_variables_override_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[Pace] = []
    bucket, event = FakeBucket(), {"bucket": "app-bucket", "key": "k"}
    bucket.put_object(Key="k", Body=json.dumps(asdict(MONITOR_FILE)).encode())
    monkeypatch.setattr(auto_monitor, "Clients", lambda _: SimpleNamespace(s3=bucket))
    monkeypatch.setattr(auto_monitor.boto3, "Session", lambda: None)
    monkeypatch.setattr(auto_monitor, "run_tick", lambda *_, pace, **__: paces.append(pace) or build_tick(False))
    handler(event, None)
    for name, value in (("LOOK", "2"), ("SOON", "0.5"), ("SETTLING", "3"), ("NEW_MACHINE", "4")):
        monkeypatch.setenv(f"{name}_SECONDS", value)
    handler(event, None)
    assert paces == [
        Pace(interval_seconds=60.0),
        Pace(interval_seconds=2.0, short_interval_seconds=0.5, settling_seconds=3.0, new_machine_seconds=4.0),
    ]
