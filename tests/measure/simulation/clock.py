"""SimPy's clock, as the model uses it: a call after some seconds, cheaper than a process for each."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import simpy

T = TypeVar("T")
Process = Generator[simpy.Event, None, None]


def after(env: simpy.Environment, seconds: float, call: Callable[[T], object], value: T) -> None:
    """`call(value)` then."""

    def then(_: simpy.Event) -> None:
        call(value)

    event = env.timeout(seconds)
    assert event.callbacks is not None
    event.callbacks.append(then)
