"""The run over time: slots by use, jobs left, and what each slot did, or many machines together."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from distributed_something.results.report.data import USES, Lane, LaneRow, Piece, Timeline
from distributed_something.results.report.numbers.attempts import (
    FAILED,
    SKIPPED,
    STATES,
    AttemptTable,
)
from distributed_something.results.report.numbers.machine_time import (
    MachineTime,
    iter_segments,
    list_interruptions,
)

BINS = 250
MAX_LANES = 420
MAX_PIECES = 20_000  # more would make the page too large
MAX_ROWS = 64
MARKS = (50, 90, 99)  # percent of the jobs
MIN_JOBS_FOR_TAIL = 200
TAIL_JOBS, TAIL_SHARE, MIN_TAIL_SECONDS, TAIL_PRECISION = 0.01, 0.2, 300.0, 0.95
BUSY = ("work", "failed", "interrupted")


class _Bins:
    """Adds up the overlap of time spans with bins of equal length."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.sums = [0.0] * BINS

    def add_span(self, start: float, end: float) -> None:
        first = min(BINS - 1, max(0, int(start / self._seconds)))
        last = min(BINS - 1, max(0, int(end / self._seconds)))
        for number in range(first, last + 1):
            low, high = max(start, number * self._seconds), min(end, (number + 1) * self._seconds)
            if high > low:
                self.sums[number] += high - low


@dataclass(frozen=True)
class JobEnds:
    """When jobs ended, in seconds since the run's start, in order: all of them, and those that were not skipped."""

    all: Sequence[float]
    run: Sequence[float]


def find_job_ends(table: AttemptTable, latest: float = math.inf) -> JobEnds:
    """Return when jobs ended; a job that was sent several times counts once, with its last end.

    `latest`: when the last machine ended. A later time is that of a wrong clock, so this replaces it.
    """
    numbers = array("I", (n for n in range(len(table)) if table.finals[n] and not math.isnan(table.ended[n])))
    repeated = _find_repeated_jobs(table, numbers)
    last: dict[int, int] = {}  # the number of the last end of each of these
    for number in numbers:
        if (job := table.jobs[number]) in repeated and table.ended[number] > table.ended[last.setdefault(job, number)]:
            last[job] = number
    numbers = array("I", (n for n in numbers if last.get(table.jobs[n], n) == n))
    ends, run_ends = (
        array("d", sorted(min(table.ended[n], latest) for n in numbers if table.states[n] not in left_out))
        for left_out in ((), (SKIPPED,))
    )
    return JobEnds(ends, run_ends)


def _find_repeated_jobs(table: AttemptTable, numbers: Sequence[int]) -> set[int]:
    """Return the hashes of the jobs that occur several times. A set of all jobs would take much more memory."""
    jobs = sorted(table.jobs[number] for number in numbers)
    return {job for job, following in pairwise(jobs) if job == following}


def build_timeline(
    table: AttemptTable, machines: Sequence[MachineTime], ends: JobEnds, jobs: int, names: dict[int, str] | None
) -> Timeline | None:
    """Return the timeline; None if nothing happened. `jobs`: of the run, also those that have not ended.

    `names`: of the jobs by the number of the attempt, as `list_pieces` asks for them; None to draw rows.
    """
    last = max([*(machine.ended for machine in machines), *ends.all[-1:]], default=0.0)
    if last <= 0:
        return None
    seconds = last / BINS
    bins = {use: _Bins(seconds) for use in USES}
    for machine in machines:
        for lane in machine.lanes:
            for segment in iter_segments(table, machine, lane):
                bins[segment.use].add_span(segment.start, segment.end)
    slots = {use: tuple(total / seconds for total in bins[use].sums) for use in USES}
    left = tuple(max(0, jobs - bisect_left(ends.all, (number + 1) * seconds * (1 + 1e-12))) for number in range(BINS))
    return Timeline(
        seconds, slots, left, _find_marks(ends, jobs), find_tail(ends, last),
        lanes=() if names is None else tuple(_iter_lanes(table, machines, names)),
        rows=tuple(_iter_rows(table, machines, seconds)) if names is None else (),
        interruptions=list_interruptions(machines),
    )  # fmt: skip


def _find_marks(ends: JobEnds, jobs: int) -> dict[int, float]:
    """Return when these percentages of the jobs had ended. Of few jobs, a high percentage is all of them."""
    needed = {mark: math.ceil(jobs * mark / 100) for mark in MARKS if jobs >= 100 / (100 - mark)}
    return {mark: ends.all[count - 1] for mark, count in needed.items() if 0 < count <= len(ends.all)}


def find_tail(ends: JobEnds, last: float) -> tuple[float, int] | None:
    """Return how long the end of the run was, in which few jobs were left, and how many these were.

    Return None unless at most 1 % of the jobs took at least a fifth of the run, and 5 minutes.
    """
    count = len(ends.run)
    if count < MIN_JOBS_FOR_TAIL:
        return None
    most = int(count * TAIL_JOBS)
    seconds = ends.run[-1] - ends.run[-most - 1]
    if seconds < max(TAIL_SHARE * last, MIN_TAIL_SECONDS):
        return None
    fewest = next(jobs for jobs in range(1, most + 1) if ends.run[-1] - ends.run[-jobs - 1] >= TAIL_PRECISION * seconds)
    return ends.run[-1] - ends.run[-fewest - 1], fewest


def count_lanes(machines: Sequence[MachineTime]) -> int:
    return sum(len(machine.lanes) for machine in machines)


def count_pieces(machines: Sequence[MachineTime]) -> int:
    return sum(len(lane) for machine in machines for lane in machine.lanes)


def _iter_lanes(table: AttemptTable, machines: Sequence[MachineTime], names: dict[int, str]) -> Iterator[Lane]:
    for machine in machines:
        document = machine.document
        for slot, numbers in enumerate(machine.lanes):
            pieces = tuple(
                Piece(segment.start, segment.end, STATES[table.states[segment.attempt]], names.get(segment.attempt, ""))
                for segment in iter_segments(table, machine, numbers)
                if segment.attempt is not None
            )
            yield Lane(
                document.machine, document.type, document.zone, document.is_spot, slot, machine.launched,
                machine.ended if machine.has_ended else None, document.end_reason, pieces,
            )  # fmt: skip


def _iter_rows(table: AttemptTable, machines: Sequence[MachineTime], seconds: float) -> Iterator[LaneRow]:
    """Yield about MAX_ROWS rows of about equally many machines, which have the same type and zone."""
    for _, members in groupby(machines, key=lambda machine: (machine.document.type, machine.document.zone)):
        group = list(members)
        rows = max(1, min(len(group), round(MAX_ROWS * len(group) / len(machines))))
        for row in range(rows):
            first, last = row * len(group) // rows, (row + 1) * len(group) // rows
            yield _build_row(table, group[first:last], seconds)


def _build_row(table: AttemptTable, machines: Sequence[MachineTime], seconds: float) -> LaneRow:
    busy, paid = _Bins(seconds), _Bins(seconds)
    ended, failed = [0] * BINS, [0] * BINS
    for machine in machines:
        for lane in machine.lanes:
            paid.add_span(machine.launched, machine.ended)
            for segment in iter_segments(table, machine, lane):
                if segment.use in BUSY:
                    busy.add_span(segment.start, segment.end)
                if segment.attempt is not None:
                    number = min(BINS - 1, max(0, int(segment.end / seconds)))
                    ended[number] += 1
                    failed[number] += table.states[segment.attempt] == FAILED
    return LaneRow(
        len(machines),
        tuple(min(1.0, used / total) if total else 0.0 for used, total in zip(busy.sums, paid.sums, strict=True)),
        tuple(bad / count if count else 0.0 for bad, count in zip(failed, ended, strict=True)),
        machines[0].document.type, machines[0].document.zone,
    )  # fmt: skip
