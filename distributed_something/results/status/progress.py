"""What the journals say about a run so far, added up line by line: how jobs ended, how fast, and which were slow."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from distributed_something.results.job_counter import JobCounter
from distributed_something.results.status.attempt_lines import parse_time

BIN_SECONDS = 1  # ends of jobs are counted in bins of this length
MAX_SLOWEST = 3
SAMPLE_SIZE = 2_000  # durations that are kept for the median


@dataclass(frozen=True, order=True)
class SlowJob:
    """A job whose program took long."""

    seconds: float
    job: str


class RunProgress:
    """The progress of a run. Add each line once, in any order."""

    def __init__(self) -> None:
        self.counter = JobCounter()
        self._bins: Counter[int] = Counter()  # number of jobs that ended, by the number of the bin
        self._skips: Counter[int] = Counter()  # number of jobs that were skipped, likewise
        self._slowest: list[SlowJob] = []  # slowest first
        self._sample: list[float] = []
        self._timed_jobs = 0
        self._random = random.Random(0)  # the same lines always give the same sample
        self.last_interruption: tuple[float, str] | None = None  # when (seconds since 1970), and which job
        self.interrupted_attempts = 0
        self.first_start: float | None = None  # when the first attempt that was not skipped began (seconds since 1970)
        self.last_end: float | None = None  # when an attempt last ended

    def add_line(self, line: Mapping[str, Any]) -> None:
        self.counter.add_end(line)
        ended = parse_time(line.get("ended"))
        if not ended:
            return
        self.last_end = ended if self.last_end is None else max(self.last_end, ended)
        if line.get("final"):
            (self._skips if line.get("state") == "skipped" else self._bins)[int(ended // BIN_SECONDS)] += 1
        if line.get("state") != "skipped" and (started := parse_time(line.get("started"))):
            self.first_start = started if self.first_start is None else min(self.first_start, started)
        self._add_duration(line)
        if line.get("state") == "interrupted":
            self.interrupted_attempts += 1
            self.last_interruption = max((ended, str(line.get("job"))), self.last_interruption or (0.0, ""))

    @property
    def slowest_jobs(self) -> list[SlowJob]:
        """The jobs whose programs took longest, slowest first, with the longest of their attempts."""
        return list(self._slowest)

    @property
    def median_seconds(self) -> float | None:
        """Median time of the programs of jobs that are done; an estimate beyond SAMPLE_SIZE jobs."""
        return median(self._sample) if self._sample else None

    def iter_bins(self) -> Iterator[tuple[int, int]]:
        """Yield the number of each bin in which jobs ended, in order, and how many did."""
        yield from sorted(self._bins.items())

    def count_ends_since(self, time: float) -> int:
        """Return how many jobs ended or were skipped at this time (seconds since 1970) or later."""
        first, bins = int(time // BIN_SECONDS), (*self._bins.items(), *self._skips.items())
        return sum(count for number, count in bins if number >= first)

    def _add_duration(self, line: Mapping[str, Any]) -> None:
        start, end = parse_time(line.get("program_started")), parse_time(line.get("program_ended"))
        if not start or not end or line.get("state") not in ("done", "failed"):
            return
        slow = SlowJob(max(0.0, end - start), str(line.get("job")))
        if len(self._slowest) < MAX_SLOWEST or slow > self._slowest[-1]:
            others = [other for other in self._slowest if other.job != slow.job]  # a job may have several attempts
            same = [other for other in self._slowest if other.job == slow.job]
            self._slowest = sorted([*others, max([slow, *same])], reverse=True)[:MAX_SLOWEST]
        if line.get("state") == "failed":
            return
        self._timed_jobs += 1
        if len(self._sample) < SAMPLE_SIZE:
            self._sample.append(slow.seconds)
        elif (place := self._random.randrange(self._timed_jobs)) < SAMPLE_SIZE:
            self._sample[place] = slow.seconds
