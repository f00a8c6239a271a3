"""How fast jobs end, and when the run will probably end, from the times at which jobs have ended."""

from __future__ import annotations

from dataclasses import dataclass

from distributed_something.results.status.progress import BIN_SECONDS, RunProgress

TREND_COLUMNS = 12  # number of parts into which the time so far is divided
# Speeds are measured over these shares of the time so far. The fastest and the slowest one give the range.
WINDOW_SHARES = (0.1, 0.25, 0.5)
MIN_WINDOW_SECONDS = 5.0
MIN_TREND_SECONDS = 2.0 * TREND_COLUMNS * BIN_SECONDS  # in a shorter time, the parts would be too short


@dataclass(frozen=True)
class Estimate:
    """An estimated value, and the range in which it probably lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """Jobs per minute: recently, and in equal parts of the run so far, oldest first (empty if it has just begun)."""

    per_minute: float
    trend: tuple[float, ...]


def measure_speed(progress: RunProgress, start: float, now: float) -> Speed | None:
    """Return how fast jobs end, or None if no job has ended. Times are in seconds since 1970."""
    if not progress.count_ends(start, now + BIN_SECONDS):
        return None
    part = (now - start) / TREND_COLUMNS
    columns = range(TREND_COLUMNS if now - start >= MIN_TREND_SECONDS else 0)
    trend = [progress.count_ends(start + part * number, start + part * (number + 1)) for number in columns]
    return Speed(_measure_window(progress, start, now, WINDOW_SHARES[1]), tuple(60 * count / part for count in trend))


def estimate_remaining_seconds(progress: RunProgress, start: float, now: float, jobs: int) -> Estimate | None:
    """Return how long the remaining `jobs` will take, or None if that cannot be estimated.

    However few jobs there are, they take at least half as long as a program usually does.
    """
    rates = [_measure_window(progress, start, now, share) for share in WINDOW_SHARES]
    known = [rate for rate in rates if rate > 0]
    if not jobs or not known:
        return None
    least, value = (progress.median_seconds or 0.0) / 2, rates[1] or max(known)
    return Estimate(*(max(least, 60 * jobs / rate) for rate in (value, max(known), min(known))))


def _measure_window(progress: RunProgress, start: float, now: float, share: float) -> float:
    """Return the jobs per minute in the last `share` of the time since `start`."""
    seconds = min(max(share * (now - start), MIN_WINDOW_SECONDS), max(now - start, 1.0))
    return 60 * progress.count_ends(now - seconds, now + BIN_SECONDS) / seconds
