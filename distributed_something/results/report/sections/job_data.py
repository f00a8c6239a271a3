"""The data that the page's script reads, as compact JSON: one list per column, and each string once.

The script shows text only with `textContent`, and hides characters as `clean_text` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from distributed_something.results.report.data import JobRow, Report, Timeline
from distributed_something.results.report.sections.amounts import round_number, round_to_kibibytes
from distributed_something.results.report.sections.job_list import (
    ALREADY_THERE,
    find_seconds,
    is_taken,
    name_machine,
    name_state,
)
from distributed_something.results.report.sections.lanes import describe_purchase, list_lines
from distributed_something.results.report.sections.timeline import measure_span

MAX_PAGE_BYTES = 1_900_000
MIN_ROW_CHARACTERS = 200_000  # for the rows, also if the rest of the page is very large
_PIECE_CHARACTERS, _OTHER_CHARACTERS = 20, 60_000  # of a program in a lane; of everything else that follows the rows
MAX_REASON_CHARACTERS = 160
_ROW_OVERHEAD, _NUMBER_CHARACTERS = 50, 7  # of a row's other numbers; of the number of a string
_JOB_MARK, _FIRST_GROUP_MARK, _MAX_GROUP_KEYS = "\x01", 2, 8
_WITHOUT_MARKS = dict.fromkeys(range(1, _FIRST_GROUP_MARK + _MAX_GROUP_KEYS))
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})  # so that no text can end the script block


class StringTable:
    """Strings that columns refer to by number."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self._numbers: dict[str, int] = {}

    def add_string(self, text: str) -> int:
        """Return the number of `text`, which is added if it is new."""
        number = self._numbers.setdefault(text, len(self.strings))
        if number == len(self.strings):
            self.strings.append(text)
        return number


def compute_row_budget(report: Report, written: int) -> int:
    """Return how many characters the rows may take, so that the page stays below MAX_PAGE_BYTES.

    `written`: bytes of the page without its data and its list of jobs.
    """
    lanes = report.timeline.lanes if report.timeline else ()
    rest = _OTHER_CHARACTERS + _PIECE_CHARACTERS * sum(len(lane.pieces) for lane in lanes)
    return max(MIN_ROW_CHARACTERS, MAX_PAGE_BYTES - written - rest)


def select_rows(rows: Sequence[JobRow], budget: int) -> list[JobRow]:
    """Return the rows that fit into `budget` characters: failed and retried jobs before others, in the given order."""
    size, kept, known = 0, list[bool](), set[str]()
    kept = [False] * len(rows)
    for number in sorted(range(len(rows)), key=lambda number: (_rank_row(rows[number]), number)):
        row = rows[number]
        texts = {_shorten_reason(row), _make_template(row.output_location, row), _make_template(row.record_key, row)}
        texts |= {name_machine(row), *row.group.values()}
        texts.update(text for attempt in row.earlier for text in (_shorten(attempt.reason), attempt.machine))
        size += (
            len(json.dumps(row.job))
            + _ROW_OVERHEAD * (1 + len(row.earlier))
            + _NUMBER_CHARACTERS * len(row.group)
            + sum(len(json.dumps(text)) for text in texts - known)
        )
        if size > budget:
            break
        known |= texts
        kept[number] = True
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]


def encode_data(report: Report, rows: Sequence[JobRow]) -> str:
    """Return the JSON text, which is safe inside a script element."""
    strings = StringTable()
    content: dict[str, Any] = {
        "total": report.jobs.total,
        "totals": {
            "all": report.jobs.total,
            "failed": report.verdict.failed,
            "retried": report.jobs.retried,
            ALREADY_THERE: report.verdict.already_there,
        },
        "command": report.run_job_command,
        "causes": {cause.group.id: cause.group.cause for cause in report.failures},
        "jobs": _list_columns(rows, strings),
        "earlier": {
            number: [_encode_attempt(attempt, strings) for attempt in row.earlier]
            for number, row in enumerate(rows)
            if row.earlier
        },
        **(_encode_timeline(report.timeline, rows, strings) if report.timeline else {}),
    }
    content["strings"] = strings.strings
    return json.dumps(content, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def _rank_row(row: JobRow) -> int:
    return 0 if row.state == "failed" else 1 if row.earlier or (row.attempts or 0) > 1 else 2


def _list_columns(rows: Sequence[JobRow], strings: StringTable) -> dict[str, Any]:
    add = strings.add_string
    keys = list(dict.fromkeys(key for row in rows for key in row.group))[:_MAX_GROUP_KEYS]
    return {
        "name": [row.job for row in rows],
        "state": [add(name_state(row.state)) for row in rows],
        "attempts": [row.attempts for row in rows],
        "started": [round_number(row.started, 0) for row in rows],
        "taken": [int(is_taken(row)) for row in rows],
        "seconds": [round_number(find_seconds(row), 1) for row in rows],
        "exit": [row.exit_code for row in rows],
        "memory": [round_to_kibibytes(row.peak_memory_bytes) for row in rows],
        "machine": [add(name_machine(row)) for row in rows],
        "cause": [add(row.cause) for row in rows],
        "reason": [add(_shorten_reason(row)) for row in rows],
        "output": [add(_make_template(row.output_location, row, keys)) for row in rows],
        "record": [add(_make_template(row.record_key, row, keys)) for row in rows],
        # A list, because JavaScript moves the keys of an object that look like integers to its beginning.
        "groups": [[key, [add(row.group[key]) if key in row.group else None for row in rows]] for key in keys],
    }


def _make_template(text: str, row: JobRow, keys: Sequence[str] = ()) -> str:
    """Return `text` with marks for the job's name and its group values, so that most jobs share the same text.

    The script replaces them: character 1 stands for the name, and character 2 + N for the value of the group's key N.
    """
    text = text.translate(_WITHOUT_MARKS)
    text = text.replace(row.job, _JOB_MARK) if row.job else text
    for number, key in enumerate(keys or list(row.group)[:_MAX_GROUP_KEYS]):
        value = row.group.get(key, "")
        if len(value) > 1:
            text = text.replace(value, chr(_FIRST_GROUP_MARK + number))
    return text


def _shorten_reason(row: JobRow) -> str:
    return _shorten(row.reason)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_REASON_CHARACTERS else f"{text[: MAX_REASON_CHARACTERS - 1]}…"


def _encode_attempt(attempt: Any, strings: StringTable) -> list[Any]:
    add = strings.add_string
    return [
        add(attempt.state), add(_shorten(attempt.reason)), round_number(attempt.started, 0),
        round_number(attempt.seconds, 1), add(attempt.machine), int(attempt.is_program_start),
    ]  # fmt: skip


def _encode_timeline(timeline: Timeline, rows: Sequence[JobRow], strings: StringTable) -> dict[str, Any]:
    """Return the lines of the lanes, and the slots in each bin, for tooltips."""
    span = measure_span(timeline)
    numbers = {row.job: number for number, row in enumerate(rows)}
    return {
        "span": span,
        "left": timeline.jobs_left,
        "slots": {use: [round_number(value, 1) for value in values] for use, values in timeline.slots.items()},
        "lines": [
            [
                [
                    strings.add_string(_describe_machine(lane.machine, lane.type, lane.is_spot)),
                    lane.slot,
                    round_number(lane.launched, 0),
                    round_number(lane.ended, 0),
                    strings.add_string(lane.end_reason or ""),
                    _encode_pieces(lane.pieces, numbers, strings),
                ]
                for lane in line
            ]
            for line in list_lines(timeline, span)
        ],
    }


def _describe_machine(machine: str, type_: str | None, is_spot: bool | None) -> str:
    return ", ".join(
        [machine, *([type_] if type_ else []), *([describe_purchase(is_spot)] if is_spot is not None else [])]
    )


def _encode_pieces(pieces: Iterable[Any], numbers: dict[str, int], strings: StringTable) -> list[Any]:
    """Return four numbers per piece: its start, its seconds, the string of its state, and its job's row, or -1."""
    flat = list[Any]()
    for piece in pieces:
        flat += [round(piece.start), round_number(piece.end - piece.start, 0), strings.add_string(piece.state),
                 numbers.get(piece.job, -1)]  # fmt: skip
    return flat
