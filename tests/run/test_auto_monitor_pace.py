"""How often the auto-monitor looks: once a call, and while machines fall idle, as often as the laptop's."""

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

from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run import auto_monitor
from distributed_something.run.auto_monitor import handler, run_ticks
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.loop import Tick
from distributed_something.run.monitor.policy import EndReason, Pace
from tests.support.fakes import MONITOR_FILE, START, FakeBucket, FakeTime

PACE = Pace(look=60.0, soon=15.0)
LOOK = RunSnapshot(START, QueueCounts(5, 5), 0, 10, None, None)
ENDS = Tick(LOOK, RunHistory(), EndReason.RUN, soon=True)


class Call:
    """One call of the function: each step takes so many seconds, and then wants another one soon or not."""

    def __init__(self, ticks: Iterable[Tick], seconds: Iterable[float]) -> None:
        self._ticks, self._seconds = iter(ticks), iter(seconds)
        self.time = FakeTime()
        self.begun: list[float] = []

    def run(self) -> Tick:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(auto_monitor, "run_tick", self._step)
            clients: Any = SimpleNamespace()
            return run_ticks(clients, MONITOR_FILE, PACE, self.time.clock)

    def _step(self, _clients: object, _file: object, now: float, *_: object, **__: object) -> Tick:
        assert now == self.time.time
        self.begun.append(now - START)
        self.time.time += next(self._seconds)
        return next(self._ticks)


def tick(soon: bool) -> Tick:
    return Tick(LOOK, RunHistory(), None, soon)


def test_a_call_is_one_look_as_long_as_no_container_is_idle() -> None:
    call = Call([tick(False)], [1.0])
    call.run()
    assert (call.begun, call.time.slept) == ([0.0], [])


def test_while_machines_fall_idle_it_looks_again_every_15_seconds_until_the_next_call() -> None:
    call = Call([tick(True)] * 9, repeat(0.5))
    call.run()
    assert call.begun == [0.0, 15.5, 31.0, 46.5]
    assert call.time.slept == [15.0] * 3


def test_it_stops_as_soon_as_nothing_falls_idle_or_the_run_is_over() -> None:
    assert Call([tick(True), tick(False)], repeat(1.0)).run() == tick(False)
    assert Call([tick(True), ENDS], repeat(1.0)).run() is ENDS


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.lists(st.floats(0.1, 200), min_size=5, max_size=5))
def test_no_step_begins_when_the_next_call_is_due_however_long_steps_take(
    soon: list[bool], seconds: list[float]
) -> None:
    call = Call(map(tick, soon), seconds)
    call.run()
    assert call.begun[0] == 0.0
    assert all(began < PACE.look for began in call.begun)
    assert set(call.time.slept) <= {PACE.soon}


def test_the_functions_own_environment_may_say_how_quick_the_cloud_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Pace] = []
    bucket, event = FakeBucket(), {"bucket": "app-bucket", "key": "k"}
    bucket.put_object(Key="k", Body=json.dumps(asdict(MONITOR_FILE)).encode())
    monkeypatch.setattr(auto_monitor, "Clients", lambda _: SimpleNamespace(s3=bucket))
    monkeypatch.setattr(auto_monitor.boto3, "Session", lambda: None)
    monkeypatch.setattr(auto_monitor, "run_tick", lambda *_, pace, **__: told.append(pace) or tick(False))
    handler(event, None)
    for name, value in (("LOOK", "2"), ("SOON", "0.5"), ("SETTLING", "3"), ("NEW_MACHINE", "4")):
        monkeypatch.setenv(f"{name}_SECONDS", value)
    handler(event, None)
    assert told == [Pace(look=60.0), Pace(look=2.0, soon=0.5, settle=3.0, new=4.0)]
