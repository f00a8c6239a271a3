"""How the time, the memory, and the CPU use of programs are distributed."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import median

from distributed_something.results.report.data import Histogram
from distributed_something.results.report.numbers.attempts import DONE, FAILED, AttemptTable

MIN_JOBS_FOR_MEDIAN = 10
TIME_BINS, OTHER_BINS = 36, 40
MIN_PROGRAM_SECONDS = 0.01  # shorter ones are shown as this, because the scale is logarithmic


def build_time_histogram(table: AttemptTable) -> Histogram | None:
    """Return how long programs ran, with bins that grow by the same factor."""
    done, failed = (_list_values(table, state, _find_seconds) for state in (DONE, FAILED))
    done, failed = (array("d", (max(MIN_PROGRAM_SECONDS, value) for value in values)) for values in (done, failed))
    if not done and not failed:
        return None
    low, high = min(done + failed), max(done + failed)
    low, high = low / 1.02, max(high * 1.02, low * 1.2)
    edges = [low * (high / low) ** (number / TIME_BINS) for number in range(TIME_BINS + 1)]
    return _count_values("seconds", edges, done, failed, None)


def build_memory_histogram(table: AttemptTable) -> Histogram | None:
    """Return the programs' peak memory. `limit`: of the containers, or None if they have different ones."""
    done, failed = (_list_values(table, state, lambda table, number: table.peaks[number]) for state in (DONE, FAILED))
    limits = set(table.memory_limits.values())
    return _build_linear("bytes", done, failed, float(limits.pop()) if len(limits) == 1 else None)


def build_processor_histogram(table: AttemptTable, slot_cpus: float | None) -> Histogram | None:
    """Return how many processors each program used on average. `slot_cpus`: those of a slot, or None if unknown."""
    done, failed = (_list_values(table, state, _find_processors) for state in (DONE, FAILED))
    return _build_linear("processors", done, failed, slot_cpus)


def _find_processors(table: AttemptTable, number: int) -> float:
    seconds = _find_seconds(table, number)
    return table.cpu[number] / seconds if seconds >= MIN_PROGRAM_SECONDS else math.nan


def _find_seconds(table: AttemptTable, number: int) -> float:
    return max(0.0, table.ends[number] - table.starts[number])


def _list_values(table: AttemptTable, state: int, find: Callable[[AttemptTable, int], float]) -> array[float]:
    values = (find(table, number) for number in range(len(table)) if table.states[number] == state)
    return array("d", (value for value in values if not math.isnan(value)))


def _build_linear(unit: str, done: array[float], failed: array[float], limit: float | None) -> Histogram | None:
    if not done and not failed:
        return None
    high = max(max(done + failed), limit or 0.0) * 1.02 or 1.0
    edges = [high * number / OTHER_BINS for number in range(OTHER_BINS + 1)]
    return _count_values(unit, edges, done, failed, limit)


def _count_values(
    unit: str, edges: Sequence[float], done: Sequence[float], failed: Sequence[float], limit: float | None
) -> Histogram:
    counts, failed_counts = ([0] * (len(edges) - 1) for _ in range(2))
    for values, numbers in ((done, counts), (failed, failed_counts)):
        for value in values:
            numbers[min(len(numbers) - 1, max(0, bisect_right(edges, value) - 1))] += 1
    middle = median(done) if len(done) >= MIN_JOBS_FOR_MEDIAN else None
    return Histogram(unit, tuple(edges), tuple(counts), tuple(failed_counts), limit, middle)
