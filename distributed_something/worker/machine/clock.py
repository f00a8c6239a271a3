"""The machine's clock, passed to all parts of the worker that read the time or wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """A clock in seconds. A container has one and passes it to its parts; tests pass one that they control."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic  # never goes back; for durations
    sleep: Callable[[float], None] = time.sleep
