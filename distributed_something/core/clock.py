"""The clock, passed to whatever waits or asks for the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Seconds since 1970, and a way to wait; tests pass in one that they step."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
