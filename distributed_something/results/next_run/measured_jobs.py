"""What a run's jobs needed: time in a slot, memory, and files. The forecast of the next run is based on this."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed_something.results.status.attempt_lines import parse_time, read_number

SAMPLE_SIZE = 500  # jobs whose numbers are kept; more would hardly make the forecast narrower


@dataclass(frozen=True)
class MeasuredJobs:
    """The jobs of a run that were measured: those that are done, and those that ran until their time limit.

    `count`: how many there are. `total_seconds`: how long they occupied slots together, with attempts that had to be
    repeated. The sequences have the numbers of at most SAMPLE_SIZE jobs, in ascending order: `seconds` in a slot,
    `program_seconds`, `peak_memory` of the program (bytes), and `file_bytes`: what the job's files need on the disk
    (bytes), with the inputs of the next job. `time_limit`: the shortest one of a job, in seconds; None if unknown.
    `failures`: how many jobs failed, by the reason's class. `first_start`, `last_end`: when the first of the run's
    attempts began and its last one ended, in seconds since 1970; None if unknown.
    """

    count: int = 0
    total_seconds: float = 0.0
    seconds: Sequence[float] = ()
    program_seconds: Sequence[float] = ()
    peak_memory: Sequence[float] = ()
    file_bytes: Sequence[float] = ()
    time_limit: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    first_start: float | None = None
    last_end: float | None = None

    @property
    def mean_seconds(self) -> float:
        return self.total_seconds / self.count if self.count else 0.0


class JobMeasurer:
    """Collects what the jobs of a run needed. Only SAMPLE_SIZE jobs stay in memory.

    These are the jobs whose hashes are smallest, so they do not depend on the order in which journals are read.
    """

    def __init__(self) -> None:
        self._count, self._total, self._final_seconds = 0, 0.0, 0.0
        self._sample: list[tuple[int, tuple[float, ...]]] = []  # a heap: negative hashes, with the job's numbers
        self._time_limit: float | None = None
        self._failures: Counter[str] = Counter()
        self._first_start: float | None = None
        self._last_end: float | None = None

    def add_end(self, line: Mapping[str, Any]) -> None:
        """Add the final end of a job. `line` is a journal's line or a record."""
        state, reason = line.get("state"), str(line.get("reason_class") or "")
        if state == "failed":
            self._failures[reason] += 1
        if state != "skipped":
            self._add_times(line)
        self._final_seconds += _read_number(line.get("seconds"))
        numbers = _measure_job(line)
        if numbers is None or not (state == "done" or (state == "failed" and reason == "time-out")):
            return
        self._count += 1
        self._total += numbers[0]
        if limit := _read_number(line.get("time_limit_seconds")):
            self._time_limit = limit if self._time_limit is None else min(limit, self._time_limit)
        entry = (-_hash_job(line), numbers)
        if len(self._sample) < SAMPLE_SIZE:
            heapq.heappush(self._sample, entry)
        elif entry > self._sample[0]:
            heapq.heapreplace(self._sample, entry)

    def finish(self, attempt_seconds: float) -> MeasuredJobs:
        """Return what was measured. `attempt_seconds`: of all attempts of the run, also those that were repeated."""
        repeated = attempt_seconds / self._final_seconds if self._final_seconds else 1.0
        seconds, program, memory, files = (sorted(numbers[place] for _, numbers in self._sample) for place in range(4))
        return MeasuredJobs(
            self._count, self._total * max(1.0, repeated), tuple(seconds), tuple(program), tuple(memory), tuple(files),
            self._time_limit, dict(self._failures), self._first_start, self._last_end,
        )  # fmt: skip

    def _add_times(self, line: Mapping[str, Any]) -> None:
        started, ended = _parse_time(line.get("started")), _parse_time(line.get("ended"))
        self._first_start = min((time for time in (started, self._first_start) if time is not None), default=None)
        self._last_end = max((time for time in (ended, self._last_end) if time is not None), default=None)


def _measure_job(line: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return the numbers of a job in the order of MeasuredJobs; None if its program's times are unknown.

    While a slot's program runs, the next job's inputs are fetched and the last job's results are uploaded
    (`worker/container/slot.py`), so a job occupies its slot for the longest of the three.
    """
    started, ended = _parse_time(line.get("program_started")), _parse_time(line.get("program_ended"))
    attempt_end = _parse_time(line.get("ended"))
    if started is None or ended is None or attempt_end is None:
        return None
    program, upload = max(0.0, ended - started), max(0.0, attempt_end - ended)
    fetch = max(0.0, _read_number(line.get("seconds")) - program - upload)
    bytes_in, bytes_out = _read_number(line.get("bytes_in")), _read_number(line.get("bytes_out"))
    slot = max(program, fetch, upload)
    return slot, program, _read_number(line.get("peak_memory_bytes")), 2 * bytes_in + bytes_out


def _hash_job(line: Mapping[str, Any]) -> int:
    text = f"{line.get('job')} {line.get('message_id')}"
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")


def _parse_time(value: object) -> float | None:
    return parse_time(value) or None


def _read_number(value: object) -> float:
    return read_number(value) or 0.0
