"""The jobs that the report lists: all of them, or of a large run those that matter and an even choice of the others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed_something.core.text import shorten_text
from distributed_something.results.report.data import EarlierAttempt, JobRow, JobRows
from distributed_something.results.report.numbers.attempts import DONE, FAILED, AttemptTable
from distributed_something.results.status.attempt_lines import read_integer
from distributed_something.worker import RunKeys, convert_exit_code

MAX_ALL_ROWS = 12_000  # up to this number, all jobs are listed
MAX_SAMPLED_ROWS = 10_000
MAX_FAILED_ROWS, MAX_RETRIED_ROWS, SLOWEST_ROWS = 3_000, 3_000, 1_000
MAX_EARLIER_ATTEMPTS = 20
MAX_GROUP_VALUES, MAX_VALUE_COLUMNS = 20, 100


@dataclass(frozen=True)
class RowSource:
    """What the rows are made of. `is_last_end`: whether the text of an attempt is about the job's last end.

    `keys`: of the run's records. `mask`: replaces a text that contains a secret.
    """

    table: AttemptTable
    keys: RunKeys
    is_last_end: Callable[[Mapping[str, Any]], bool]
    mask: Callable[[str], str]


def choose_jobs(table: AttemptTable) -> set[int] | None:
    """Return the hashes of the jobs to list; None for all jobs."""
    numbers = [number for number in range(len(table)) if table.finals[number]]
    if len(numbers) <= MAX_ALL_ROWS:
        return None
    chosen = _take(table, (n for n in numbers if table.states[n] == FAILED), MAX_FAILED_ROWS)
    retried = (n for n in numbers if _is_recovered(table, n))
    chosen |= _take(table, retried, MAX_RETRIED_ROWS)
    known = (n for n in numbers if table.starts[n] <= table.ends[n])
    slowest = heapq.nlargest(SLOWEST_ROWS, known, key=lambda n: table.ends[n] - table.starts[n])
    chosen |= {table.jobs[n] for n in slowest}
    step = math.ceil(len(numbers) / max(1, MAX_SAMPLED_ROWS - len(chosen)))
    return chosen | {table.jobs[n] for n in numbers[::step]}


def _is_recovered(table: AttemptTable, number: int) -> bool:
    return bool(table.finals[number]) and table.numbers[number] > 1 and table.states[number] == DONE


def build_job_rows(source: RowSource, total: int) -> tuple[JobRows, dict[int, str]]:
    """Return the rows, and the job of each attempt whose job is listed.

    `total`: the jobs of the run. The temporary file is read once. OSError is not caught.
    """
    table, chosen = source.table, choose_jobs(source.table)
    texts: dict[str, list[dict[str, Any]]] = {}
    names: dict[int, str] = {}
    for number, text in table.iter_rows(lambda n: chosen is None or table.jobs[n] in chosen):
        text["number"] = number
        text["group"] = _read_group(source, text.get("group"))  # shortened now, because all texts are in memory
        texts.setdefault(str(text["job"]), []).append(text)
        names[number] = str(text["job"])
    rows = [row for job, attempts in texts.items() if (row := _build_row(source, job, attempts)) is not None]
    rows.sort(key=lambda row: (-(row.seconds or 0.0), row.job))
    retried = {table.jobs[n] for n in range(len(table)) if table.finals[n] and table.numbers[n] > 1}
    recovered = {table.jobs[n] for n in range(len(table)) if _is_recovered(table, n)}
    return JobRows(tuple(rows), total, chosen is not None, len(retried), len(recovered)), names


def count_recovered_jobs(table: AttemptTable) -> int:
    """Return how many jobs were done after an attempt at them had failed."""
    first: dict[int, float] = {}  # when an attempt at the job failed first
    for number in range(len(table)):
        if table.states[number] == FAILED and not math.isnan(table.ended[number]):
            first[table.jobs[number]] = min(table.ended[number], first.get(table.jobs[number], math.inf))
    done = {
        table.jobs[number]
        for number in range(len(table))
        if table.states[number] == DONE and table.ended[number] >= first.get(table.jobs[number], math.inf)
    }
    return len(done)


def count_lost_jobs(table: AttemptTable) -> int:
    """Return how many jobs failed for good because the worker of their last attempt was lost."""
    last = {table.jobs[number]: table.ended[number] for number in table.lost if table.finals[number]}
    later = {
        table.jobs[number]
        for number in range(len(table) if last else 0)
        if table.finals[number]
        and number not in table.lost
        and table.ended[number] > last.get(table.jobs[number], math.inf)
    }
    return len(last.keys() - later)


def _take(table: AttemptTable, numbers: Iterable[int], count: int) -> set[int]:
    jobs: set[int] = set()
    for number in numbers:
        jobs.add(table.jobs[number])
        if len(jobs) >= count:
            break
    return jobs


def _build_row(source: RowSource, job: str, attempts: list[dict[str, Any]]) -> JobRow | None:
    """Return the row of a job; None if the job has not ended."""
    ends = [text for text in attempts if text["final"] and text.get("state") != "interrupted"]
    last = next((text for text in reversed(ends) if source.is_last_end(text)), None)
    if last is None:
        return None
    earlier = [text for text in attempts if text is not last][-MAX_EARLIER_ATTEMPTS:]
    started, is_program_start = _find_start(source.table, last)
    return JobRow(
        job=job,
        state=str(last.get("state")),
        attempts=read_integer(last.get("attempts")),
        started=started,
        seconds=last.get("seconds"),
        exit_code=convert_exit_code(read_integer(last.get("exit_code"))),
        peak_memory_bytes=read_integer(last.get("peak_memory_bytes")) or None,
        machine=str(last.get("machine") or ""),
        cause=str(last.get("cause") or ""),
        reason=source.mask(str(last.get("reason") or "")),
        output_location=source.mask(str(last.get("output_location") or "")),
        record_key=source.keys.record(job),
        group=last["group"],
        earlier=tuple(_build_earlier(source, text) for text in earlier),
        is_program_start=is_program_start,
        ended=_find_end(source.table, last),
        is_lost=last["number"] in source.table.lost,
    )


def _read_group(source: RowSource, group: Mapping[str, str] | None) -> dict[str, str]:
    """Return the values to show. A value may be a list that is as long as a message."""
    values = list((group or {}).items())[:MAX_GROUP_VALUES]
    return {key: shorten_text(source.mask(value), MAX_VALUE_COLUMNS) for key, value in values}


def _build_earlier(source: RowSource, text: Mapping[str, Any]) -> EarlierAttempt:
    started, is_program_start = _find_start(source.table, text)
    return EarlierAttempt(
        str(text.get("state")), source.mask(str(text.get("reason") or "")), started, text.get("seconds"),
        str(text.get("machine") or ""), is_program_start,
    )  # fmt: skip


def _find_start(table: AttemptTable, text: Mapping[str, Any]) -> tuple[float | None, bool]:
    """Return when the attempt's program began, or else when a worker took the job; None if both are unknown.

    A worker takes the next job while a program runs, so these times may differ by the length of a job. The second value
    is whether the first one is about the program.
    """
    number = text["number"]
    if not math.isnan(table.starts[number]):
        return table.starts[number], True
    if number in table.lost:
        return None, False
    taken = table.read_time(text.get("started"))
    return None if math.isnan(taken) else taken, False


def _find_end(table: AttemptTable, text: Mapping[str, Any]) -> float | None:
    end = table.ended[text["number"]]
    return None if math.isnan(end) else end
