"""Times as a worker tells them, and as it counts them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def build_utc_timestamp(seconds: float) -> str:
    """Seconds since 1970 as they stand in records: 2026-11-23T10:45:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_boot_clock() -> float:
    """Seconds that only go forward, also while the computer sleeps: SQS counts them too. Not so on macOS."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
