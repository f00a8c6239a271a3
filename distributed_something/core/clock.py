"""The clock that is passed to all code that waits or needs the current time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The current time in seconds since 1970, and a way to wait. Tests pass in a clock that they advance."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
