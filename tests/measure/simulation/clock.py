"""Timed calls on SimPy's clock. With millions of jobs, such calls need less time than one SimPy process per job."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import simpy

T = TypeVar("T")
Process = Generator[simpy.Event, None, None]


def call_after(env: simpy.Environment, seconds: float, callback: Callable[[T], object], argument: T) -> None:
    """Call `callback(argument)` in `seconds` of simulated time."""

    def on_timeout(_: simpy.Event) -> None:
        callback(argument)

    event = env.timeout(seconds)
    assert event.callbacks is not None
    event.callbacks.append(on_timeout)
