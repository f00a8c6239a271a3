"""The machine's clock, passed to all parts of the worker that read the time or wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """A clock in seconds. A container creates one and passes it to all its parts; tests pass a clock they control."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic  # never runs backward; for durations
    sleep: Callable[[float], None] = time.sleep
