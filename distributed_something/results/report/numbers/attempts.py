"""The attempts of a run, as the report needs them: numbers in arrays, and text in a temporary file.

A run may have a million attempts. Their numbers take about 90 bytes each; names and reasons stay in the file, which is
read once more at the end for those that the page shows.
"""

from __future__ import annotations

import gzip
import json
import math
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import IO, Any

from distributed_something.core.text import format_one_line
from distributed_something.observe.documents.machine_documents import MAX_SLOTS
from distributed_something.results.causes import find_cause
from distributed_something.results.group_values import read_group_values
from distributed_something.results.job_counter import (
    build_failed_job,
    compute_hash,
)
from distributed_something.results.status.attempt_lines import (
    compute_line_seconds,
    is_lost_attempt,
    parse_time,
    read_integer,
    read_number,
)

STATES = ("done", "failed", "interrupted", "skipped", "running")
DONE, FAILED, INTERRUPTED, SKIPPED, RUNNING = range(5)
UNKNOWN = math.nan
MAX_REASON_CHARACTERS = 300
# Times before the run's start and after now are mistakes of a clock, unless they differ by less than this.
MAX_EARLY_SECONDS, MAX_LATE_SECONDS = 86_400.0, 3600.0
_TEXT_KEYS = (
    "job", "state", "final", "attempts", "started", "ended", "exit_code", "machine", "peak_memory_bytes",
    "output_location", "sent",
)  # fmt: skip


class AttemptTable:
    """Collects the attempts of a run, in any order, and its running programs.

    Times are in seconds since the run's start; NaN means unknown.

    Attempt n has `jobs[n]` (a hash), `machines[n]` and `places[n]` (indices into `machine_names` and `place_names`;
    a place is a container and its slot), `states[n]` (an index into STATES), `finals[n]`, `numbers[n]` (its number),
    `fetches[n]` (when its inputs began to be fetched), `starts[n]` and `ends[n]` (of the program), `ended[n]`,
    `limits[n]` (of time), `peaks[n]` (bytes), and `cpu[n]` (seconds). `lost` has the numbers of the attempts whose
    worker was lost, so that their machine and their times are unknown.

    If the disk is full, there is no report, because the end of the run matters more. `problem` then says why. `unread`:
    how many lines are left out because they are not what they should be. `is_last_end`: as JobCounter's, once all lines
    have been added.
    """

    def __init__(self, start: float, now: float) -> None:
        """`start`: of the run. `now`: the current time. Both are in seconds since 1970."""
        self.start, self._latest = start, now - start + MAX_LATE_SECONDS
        self.jobs, self.machines, self.places = array("q"), array("I"), array("I")
        self.states, self.finals, self.numbers = array("B"), array("B"), array("H")
        self.fetches, self.starts, self.ends, self.ended = array("d"), array("d"), array("d"), array("d")
        self.limits, self.peaks, self.cpu = array("d"), array("d"), array("d")
        self.lost: set[int] = set()
        self.machine_names: dict[str, int] = {}  # the index of each, in the order in which they were found
        self.place_names: dict[tuple[str, int | None], int] = {}
        self.slots: dict[str, int] = {}  # of one container, by machine
        self.memory_limits: dict[str, int] = {}  # in bytes, by container
        self.versions: dict[str, None] = {}  # of workers
        self._rows: gzip.GzipFile | None = None
        self._row_file: IO[bytes] | None = None
        self._files = ExitStack()
        self.problem, self.unread = "", 0
        self.is_last_end: Callable[[Mapping[str, Any]], bool] = lambda line: bool(line.get("final"))

    def __len__(self) -> int:
        return len(self.jobs)

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Add an attempt. `line` is a journal's line, with JournalReader's facts, or a record."""
        if isinstance(line.get("job"), str) and line.get("state") in STATES[:RUNNING]:
            self._add_row(line)

    def add_program(self, program: Mapping[str, Any]) -> None:
        """Add a program that runs, or ran when its container was killed. Its job and its end are unknown."""
        self._add_row({"job": "", "state": STATES[RUNNING], "final": False, **program})

    def _add_row(self, line: Mapping[str, Any]) -> None:
        if self.problem:
            return
        try:
            row, numbers = json.dumps(_build_row(line)), self._list_numbers(line)
        except Exception:  # even a bug must not stop the reading of the run's outcome; the report counts these lines
            self.unread += 1
            return
        try:
            self._write_row(row)
        except OSError as error:
            self._stop(f"a temporary file: {error}")
            return
        self._add_facts(line)
        for column, number in numbers:
            column.append(number)

    def iter_rows(self, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the text of each wanted attempt, in order. OSError is not caught.

        The text has the keys of a journal's line, and `seconds`, `cause`, and `group`.
        """
        if self._rows is None or self._row_file is None:
            return
        self._rows.close()
        self._row_file.seek(0)
        with gzip.GzipFile(fileobj=self._row_file, mode="rb") as rows:
            for number, text in enumerate(rows):
                if is_wanted(number):
                    yield number, json.loads(text)

    def close(self) -> None:
        """Remove the temporary file."""
        with suppress(OSError), self._files:
            if self._rows is not None:
                self._rows.close()

    def read_time(self, value: object) -> float:
        """Return a time of a line in seconds since the run's start; NaN if it is unknown or cannot be right."""
        seconds = parse_time(value) - self.start
        return seconds if -MAX_EARLY_SECONDS <= seconds <= self._latest else UNKNOWN

    def _list_numbers(self, line: Mapping[str, Any]) -> list[tuple[array[Any], float]]:
        """Return the columns with the attempt's numbers."""
        place, state, attempts = _find_place(line), str(line["state"]), read_integer(line.get("attempts"))
        return [
            (self.jobs, compute_hash(line["job"])),
            (self.machines, self.machine_names.setdefault(_find_machine(line), len(self.machine_names))),
            (self.places, self.place_names.setdefault(place, len(self.place_names))),
            (self.states, STATES.index(state)),
            (self.finals, bool(line.get("final", True)) and state != "interrupted"),
            (self.numbers, min(max(attempts or 0, 0), 65_535)),
            (self.fetches, self.read_time(line.get("fetch_started"))),
            (self.starts, self.read_time(line.get("program_started"))),
            (self.ends, self.read_time(line.get("program_ended"))),
            (self.ended, self.read_time(line.get("ended"))),
            (self.limits, _read_amount(line.get("time_limit_seconds"))),
            (self.peaks, _read_amount(line.get("peak_memory_bytes")) or UNKNOWN),  # a program cannot use no memory
            (self.cpu, _read_amount(line.get("cpu_seconds"))),
        ]

    def _add_facts(self, line: Mapping[str, Any]) -> None:
        if is_lost_attempt(line):
            self.lost.add(len(self.jobs))
        slots, limit, version = (line.get(key) for key in ("slots", "memory_limit_bytes", "worker_version"))
        if (count := read_integer(slots)) is not None and 0 < count <= MAX_SLOTS:
            machine = _find_machine(line)
            self.slots[machine] = max(count, self.slots.get(machine, 0))
        if (size := read_integer(limit)) is not None and size > 0:
            self.memory_limits[_find_place(line)[0]] = size
        if isinstance(version, str) and len(self.versions) < 10:
            self.versions[version] = None

    def _write_row(self, row: str) -> None:
        if self._rows is None:
            # Compressed, because a Lambda function has only 512 MB of disk space.
            self._row_file = self._open_file()
            self._rows = gzip.GzipFile(fileobj=self._row_file, mode="wb", compresslevel=1)
        self._rows.write(row.encode() + b"\n")

    def _open_file(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile())

    def _stop(self, problem: str) -> None:
        self.problem = problem
        self.close()


def _build_row(line: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: line.get(key) for key in _TEXT_KEYS} | {"seconds": compute_line_seconds(line)}
    row["final"] = bool(line.get("final", True))  # records of older workers do not say so
    if line.get("reason"):
        row["reason"] = format_one_line(str(line["reason"])[:MAX_REASON_CHARACTERS])
    if line.get("state") == "failed":
        row["cause"] = find_cause(build_failed_job(line)).id
    if group := read_group_values(line):
        row["group"] = group
    return row


def _find_machine(line: Mapping[str, Any]) -> str:
    return str(line.get("machine") or "")


def _find_place(line: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the container and the slot."""
    slot = line.get("slot")
    return str(line.get("container") or "") or _find_machine(line), slot if isinstance(slot, int) else None


def _read_amount(value: object) -> float:
    number = read_number(value)
    return UNKNOWN if number is None or number < 0 else number
