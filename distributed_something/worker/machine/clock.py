"""The machine's clock, passed to whatever in the worker waits or asks for the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Tell the time and wait, in seconds. A container has one, and passes it down; tests pass in one that they step."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic  # only goes forward; for how long something takes
    sleep: Callable[[float], None] = time.sleep
