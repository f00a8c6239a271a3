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
from datetime import datetime
from typing import IO, Any

from distributed_something.core.text import format_one_line
from distributed_something.results.causes import find_cause
from distributed_something.results.group_values import read_group_values
from distributed_something.results.job_counter import (
    build_failed_job,
    compute_hash,
)
from distributed_something.results.status.attempt_lines import compute_line_seconds, is_lost_attempt

STATES = ("done", "failed", "interrupted", "skipped", "running")
DONE, FAILED, INTERRUPTED, SKIPPED, RUNNING = range(5)
UNKNOWN = math.nan
MAX_REASON_CHARACTERS = 300
MAX_YEARS = 100 * 366 * 86_400.0  # a time that is further from the run's start is a mistake
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

    If the disk is full, or if a line is not what it should be, there is no report, because the end of the run matters
    more. `problem` then says why. `is_last_end`: as JobCounter's, once all lines have been added.
    """

    def __init__(self, start: float) -> None:
        self.start = start  # of the run, in seconds since 1970
        self.jobs, self.machines, self.places = array("q"), array("I"), array("I")
        self.states, self.finals, self.numbers = array("B"), array("B"), array("H")
        self.fetches, self.starts, self.ends, self.ended = array("d"), array("d"), array("d"), array("d")
        self.limits, self.peaks, self.cpu = array("d"), array("d"), array("d")
        self.lost: set[int] = set()
        self.machine_names: dict[str, int] = {}  # the index of each, in the order in which they were found
        self.place_names: dict[tuple[str, object], int] = {}
        self.slots: dict[str, int] = {}  # of one container, by machine
        self.memory_limits: dict[str, int] = {}  # in bytes, by container
        self.versions: dict[str, None] = {}  # of workers
        self._rows: gzip.GzipFile | None = None
        self._row_file: IO[bytes] | None = None
        self._files = ExitStack()
        self.problem = ""
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
            self._write_row(_build_row(line))
            self._add_numbers(line)
        except OSError as error:
            self._stop(f"a temporary file: {error}")
        except Exception as error:  # even a bug must not stop the reading of the run's outcome; the report names it
            self._stop(f"{type(error).__name__}: {error}")

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

    def _add_numbers(self, line: Mapping[str, Any]) -> None:
        machine, container = str(line.get("machine") or ""), str(line.get("container") or "")
        if is_lost_attempt(line):
            self.lost.add(len(self.jobs))
        self.jobs.append(compute_hash(line["job"]))
        self.machines.append(self.machine_names.setdefault(machine, len(self.machine_names)))
        place = (container or machine, line.get("slot") if isinstance(line.get("slot"), int) else None)
        self.places.append(self.place_names.setdefault(place, len(self.place_names)))
        self.states.append(STATES.index(str(line["state"])))
        self.finals.append(bool(line.get("final", True)) and line["state"] != "interrupted")
        number = line.get("attempts")
        self.numbers.append(min(max(number, 0), 65_535) if isinstance(number, int) else 0)
        for key, values in (("fetch_started", self.fetches), ("program_started", self.starts),
                            ("program_ended", self.ends), ("ended", self.ended)):  # fmt: skip
            values.append(self._read_time(line.get(key)))
        for key, values in (("time_limit_seconds", self.limits), ("peak_memory_bytes", self.peaks),
                            ("cpu_seconds", self.cpu)):  # fmt: skip
            values.append(_read_number(line.get(key)))
        self._add_facts(line, machine, place[0])

    def _add_facts(self, line: Mapping[str, Any], machine: str, container: str) -> None:
        slots, limit, version = (line.get(key) for key in ("slots", "memory_limit_bytes", "worker_version"))
        if isinstance(slots, int) and 0 < slots < 10_000:
            self.slots[machine] = max(slots, self.slots.get(machine, 0))
        if isinstance(limit, int) and limit > 0:
            self.memory_limits[container] = limit
        if isinstance(version, str) and len(self.versions) < 10:
            self.versions[version] = None

    def _read_time(self, value: object) -> float:
        try:
            seconds = datetime.fromisoformat(str(value)).timestamp() - self.start
        except (ValueError, OverflowError):
            return UNKNOWN
        return seconds if abs(seconds) < MAX_YEARS else UNKNOWN

    def _write_row(self, row: Mapping[str, Any]) -> None:
        if self._rows is None:
            # Compressed, because a Lambda function has only 512 MB of disk space.
            self._row_file = self._open_file()
            self._rows = gzip.GzipFile(fileobj=self._row_file, mode="wb", compresslevel=1)
        self._rows.write(json.dumps(row).encode() + b"\n")

    def _open_file(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile())

    def _stop(self, problem: str) -> None:
        self.problem = problem
        self.close()


def _build_row(line: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: line.get(key) for key in _TEXT_KEYS} | {"seconds": compute_line_seconds(line)}
    if line.get("reason"):
        row["reason"] = format_one_line(str(line["reason"])[:MAX_REASON_CHARACTERS])
    if line.get("state") == "failed":
        row["cause"] = find_cause(build_failed_job(line)).id
    if group := read_group_values(line):
        row["group"] = group
    return row


def _read_number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e18 else UNKNOWN  # type: ignore[operator, arg-type]
