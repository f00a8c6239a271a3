"""Timestamps and durations in records, and the clock for leases."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def build_utc_timestamp(seconds: float) -> str:
    """Return seconds since 1970 as a UTC timestamp for records, such as 2026-11-23T10:45:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_duration(seconds: float) -> str:
    """Return a duration in words, such as `6 seconds`, `1 minute`, or `1.5 minutes`."""
    number, unit = (round(seconds, 1), "second") if seconds < 60 else (round(seconds / 60, 2), "minute")
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def read_boot_clock() -> float:
    """Return a monotonic time in seconds that, like SQS's clock, keeps running while the computer is suspended.

    On macOS, the clock stops during that time.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
