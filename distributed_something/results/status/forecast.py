"""How fast jobs end, and when the run will probably end, from the times at which jobs have ended.

The time before the first job began is left out, because machines that start say nothing about the speed of jobs.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt

from distributed_something.results.status.progress import BIN_SECONDS, RunProgress

MAX_TREND_COLUMNS = 12  # number of parts into which the time so far is divided
MIN_TREND_COLUMNS, MIN_PART_SECONDS = 4, 2.0 * BIN_SECONDS
# Speeds are measured over these shares of the time so far. The first one is shown; all of them give the range.
WINDOW_SHARES = (0.25, 0.1, 0.5)
MIN_WINDOW_SECONDS = 5.0
MIN_WINDOW_ENDS = 5  # a window also reaches back to this many ends of jobs, so that no speed is 0 while jobs end rarely
MIN_ENDS, MIN_SECONDS = 3, 3.0  # with less, a speed would be a guess


@dataclass(frozen=True)
class Estimate:
    """An estimated value, and the range in which it probably lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """Jobs per minute: recently, or on average; and in equal parts of the time so far, oldest first.

    The parts are empty if there was too little time.
    """

    per_minute: float
    trend: tuple[float, ...] = ()
    is_average: bool = False


class _EndTimes:
    """When jobs have ended, from `begin` until `until` (seconds since 1970)."""

    def __init__(self, progress: RunProgress, start: float, until: float) -> None:
        bins = [(number, count) for number, count in progress.iter_bins() if number * BIN_SECONDS <= until]
        self._starts = [number * BIN_SECONDS for number, _ in bins]
        self._totals = list(accumulate((count for _, count in bins), initial=0))
        first = start if progress.first_start is None else progress.first_start
        self.begin, self.until = min([first, *self._starts[:1], until]), until

    @property
    def total(self) -> int:
        return self._totals[-1]

    @property
    def seconds(self) -> float:
        return self.until - self.begin

    def measure_share(self, share: float, least_seconds: float) -> tuple[float, float]:
        """Return the jobs per minute in the last `share` of the time, and how many jobs ended in it.

        The time is at least `least_seconds`, as far as there is that much, and contains MIN_WINDOW_ENDS ends.
        """
        since = self.until - max(share * self.seconds, least_seconds)
        since = max(self.begin, min(since, self._find_latest(MIN_WINDOW_ENDS)))
        count = self._count(since, self.until + BIN_SECONDS)
        return 60 * count / max(self.until - since, 1.0), count

    def measure_trend(self) -> tuple[float, ...]:
        columns = min(MAX_TREND_COLUMNS, int(self.seconds / MIN_PART_SECONDS))
        if columns < MIN_TREND_COLUMNS:
            return ()
        part = self.seconds / columns
        starts = [self.begin + part * column for column in range(columns)]
        return tuple(60 * self._count(start, start + part) / part for start in starts)

    def _find_latest(self, number: int) -> float:
        """Return a time shortly before the end that is the `number`-th, counted from the latest one."""
        return self._starts[max(0, bisect_right(self._totals, self.total - number) - 1)] if self._starts else self.begin

    def _count(self, since: float, until: float) -> float:
        return self._count_before(until) - self._count_before(since)

    def _count_before(self, time: float) -> float:
        """Return how many jobs ended before then. Those in the same bin are thought to be evenly spread over it."""
        place = bisect_right(self._starts, time)
        if not place:
            return 0.0
        share = min(1.0, (time - self._starts[place - 1]) / BIN_SECONDS)
        return self._totals[place - 1] + share * (self._totals[place] - self._totals[place - 1])


def measure_speed(progress: RunProgress, start: float, now: float) -> Speed | None:
    """Return how fast jobs end, or None if that is not known yet. Times are in seconds since 1970.

    `start`: of the run; it matters only if no journal says when jobs began.
    """
    ends = _EndTimes(progress, start, now)
    if not _is_measurable(ends):
        return None
    return Speed(ends.measure_share(WINDOW_SHARES[0], _get_least_seconds(progress))[0], ends.measure_trend())


def measure_average_speed(progress: RunProgress, start: float) -> Speed | None:
    """Return how fast jobs ended in the whole run, or None if none did. `start` is as for `measure_speed`."""
    last = max((number for number, _ in progress.iter_bins()), default=None)
    if last is None:
        return None
    ends = _EndTimes(progress, start, (last + 1.0) * BIN_SECONDS)
    return Speed(60 * ends.total / max(ends.seconds, 1.0), ends.measure_trend(), is_average=True)


def estimate_remaining_seconds(progress: RunProgress, start: float, now: float, jobs: int) -> Estimate | None:
    """Return how long the remaining `jobs` will take, or None if that cannot be estimated.

    The fewer jobs have ended, and the more the speed varies, the wider the range is. However few jobs remain, they take
    at least half as long as a program usually does.
    """
    ends = _EndTimes(progress, start, now)
    if not jobs or not _is_measurable(ends):
        return None
    windows = [ends.measure_share(share, _get_least_seconds(progress)) for share in WINDOW_SHARES]
    rates = [rate for rate, _ in windows]
    error = 1 / sqrt(max(windows[0][1], MIN_ENDS))  # of a count of events at random times
    usual = progress.median_seconds or 0.0
    return Estimate(
        max(usual / 2, 60 * jobs / rates[0]),
        max(usual / 2, 60 * jobs / max(rates) * (1 - error)),
        max(usual, 60 * jobs / min(rates) * (1 + error)),
    )


def _is_measurable(ends: _EndTimes) -> bool:
    return ends.total >= MIN_ENDS and ends.seconds >= MIN_SECONDS


def _get_least_seconds(progress: RunProgress) -> float:
    """Return the length of the shortest window: jobs that began together also end together."""
    return max(MIN_WINDOW_SECONDS, progress.median_seconds or 0.0)
