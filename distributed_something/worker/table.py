"""Reads tables (CSV and TSV files) as people and spreadsheets write them.

What has only one possible meaning is accepted: a byte order mark, UTF-16, any line ends, semicolons instead of commas,
spaces around names, empty rows, and empty cells beyond the last column. Everything else is an error with a line and a
column, because a guess would run the wrong jobs.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

_ENCODINGS_BY_MARK = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DELIMITERS_BY_SUFFIX = {".csv": ",", ".tsv": "\t"}
TABLE_SUFFIXES = frozenset(_DELIMITERS_BY_SUFFIX)
_NAMES_BY_DELIMITER = {",": "commas", ";": "semicolons", "\t": "tabs"}
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # Excel writes and reads it


class Place(NamedTuple):
    """A place in a table, from 1. `column`: the number of a cell in its row or, in text that has no cells, of a
    character in its line; 0 if unknown."""

    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}" if self.column else f"line {self.line}"


class TableError(ValueError):
    """What is wrong with a table, and where."""

    def __init__(self, place: Place, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}; {remedy}")
        self.place, self.problem, self.remedy = place, problem, remedy


class TableRow(NamedTuple):
    """A row: the number of the line in which it begins, from 1, and the cells, keyed by the names of their columns."""

    line: int
    cells: dict[str, str]


ErrorHandler = Callable[[TableError], None]


def raise_table_error(error: TableError) -> NoReturn:
    """Raise the error, which stops at the first one."""
    raise error


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    has_space_after: bool = False  # whether the file is written with a space after each delimiter: "well, site"
    skipped_lines: int = 0


def iter_table_rows(path: Path, on_error: ErrorHandler = raise_table_error) -> Iterator[TableRow]:
    """Yield each row that is not empty, as it is read.

    Call `on_error` for each row with too many or too few cells, which is skipped, and for everything that ends reading:
    an invalid header, quotes that are not closed, or bytes that are not text. Raise OSError if the file cannot be read.
    """
    try:
        dialect = _detect_dialect(path)
        with open_table_text(path) as stream:
            yield from _iter_rows(_RecordLines(stream, dialect.skipped_lines), dialect, on_error)
    except UnicodeDecodeError:
        on_error(find_undecodable_text(path))
    except _FatalError as error:
        on_error(error.error)


def read_table_names(path: Path) -> list[str]:
    """Return the names of the columns. Raise TableError if the header is not valid, or OSError."""
    try:
        dialect = _detect_dialect(path)
        with open_table_text(path) as stream:
            lines = _RecordLines(stream, dialect.skipped_lines)
            return _read_names(lines, _build_reader(lines, dialect), dialect)
    except UnicodeDecodeError:
        raise find_undecodable_text(path) from None
    except _FatalError as error:
        raise error.error from None


@contextmanager
def open_table_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file in UTF-8, or in UTF-16 if it begins with UTF-16's byte order mark. Line ends are kept."""
    with path.open("rb") as file:
        start = file.read(2)
    with path.open(encoding=_ENCODINGS_BY_MARK.get(start, "utf-8-sig"), newline="") as stream:
        yield stream


def find_undecodable_text(path: Path) -> TableError:
    """Return the error for a file that cannot be decoded, with the place of the first byte that is not text."""
    content = path.read_bytes()
    encoding = _ENCODINGS_BY_MARK.get(content[:2], "utf-8-sig")
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding.removesuffix("-sig"), errors="ignore").lstrip("\ufeff")
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        return TableError(_find_end(before, 1), f"this is not {name} text", "save the table in UTF-8")
    return TableError(Place(1), "it changed while it was being read", "try again")


class _FatalError(Exception):
    """Ends reading. It is not a TableError, so that one that `on_error` raises is not handled a second time."""

    def __init__(self, error: TableError) -> None:
        super().__init__(str(error))
        self.error = error


class _RecordLines:
    """The lines of a table. `record` has those of the row that is being read; `first` is the first one's number."""

    def __init__(self, stream: IO[str], skipped_lines: int) -> None:
        self._stream, self._number = stream, 0
        self.record: list[str] = []
        for _ in range(skipped_lines):
            next(self)
        self.begin_record()

    def __iter__(self) -> _RecordLines:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self._number += 1
        self.record.append(line)
        if "\0" in line:
            place = Place(self._number, line.index(chr(0)) + 1)
            problem = "null character; the file may be UTF-16 without a byte order mark"
            raise _FatalError(TableError(place, problem, "save the table in UTF-8"))
        return line

    def begin_record(self) -> None:
        self.record = []
        self.first = self._number + 1


def _iter_rows(lines: _RecordLines, dialect: _Dialect, on_error: ErrorHandler) -> Iterator[TableRow]:
    reader = _build_reader(lines, dialect)
    names = _read_names(lines, reader, dialect)
    width = len(names)
    while (row := _read_record(lines, reader, dialect)) is not None:
        if not any(map(str.strip, row)):  # spreadsheets leave empty lines, and lines with commas only
            continue
        if len(row) != width and (len(row) < width or any(map(str.strip, row[width:]))):
            on_error(_build_width_error(lines.first, len(row), names))
            continue
        yield TableRow(lines.first, dict(zip(names, row)))  # noqa: B905 - cells after the last name are empty


def _build_width_error(line: int, count: int, names: list[str]) -> TableError:
    width = len(names)
    place = Place(line, min(count, width) + 1)
    problem = f"the row has {count} {'cell' if count == 1 else 'cells'}, but the header has {width}"
    if count < width:
        problem += f"; there is none for {names[count]!r}"
    return TableError(place, problem, "give the row as many cells as the header")


def _build_reader(lines: _RecordLines, dialect: _Dialect) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=dialect.delimiter, strict=True, skipinitialspace=dialect.has_space_after)


def _read_record(lines: _RecordLines, reader: Iterator[list[str]], dialect: _Dialect) -> list[str] | None:
    """Return the next record, or None at the end. Raise _FatalError if its quotes are wrong."""
    lines.begin_record()
    try:
        return next(reader, None)
    except csv.Error as error:
        raise _FatalError(_explain_csv_error(error, lines, dialect)) from None


def _explain_csv_error(error: csv.Error, lines: _RecordLines, dialect: _Dialect) -> TableError:
    text = "".join(lines.record)
    position, end = 0, re.compile(rf"[^{dialect.delimiter}\r\n]*")
    is_too_long = "field limit" in str(error)
    limit = f"more than {csv.field_size_limit():,} characters"
    while position < len(text):
        start = position
        if dialect.has_space_after:
            position += len(text) - position - len(text[position:].lstrip(" "))
        if text[position : position + 1] != '"':
            following = end.match(text, position)
            position = (following.end() if following else position) + 1
            if is_too_long and position - start > csv.field_size_limit():
                return TableError(_find_end(text[:start], lines.first), f"the cell has {limit}", "shorten it")
            continue
        cell = _QUOTED_CELL.match(text, position)
        if cell is None or is_too_long:
            problem = f"the quote is not closed, or the cell has {limit}" if is_too_long else "the quote is not closed"
            remedy = 'add the closing quote; write a quote inside quotes twice: ""'
            return TableError(_find_end(text[:position], lines.first), problem, remedy)
        position = cell.end()
        if text[position : position + 1] not in (dialect.delimiter, "\r", "\n", ""):
            remedy = 'write a quote inside quotes twice: ""'
            return TableError(_find_end(text[:position], lines.first), "text after the closing quote", remedy)
        position += 1
    return TableError(Place(lines.first), f"this is not a table ({error})", "check the quotes and the line ends")


def _find_end(before: str, first_line: int) -> Place:
    """Return the place of the character after `before`, which begins with the line `first_line`."""
    ends = list(_LINE_END.finditer(before))
    column = len(before) - (ends[-1].end() if ends else 0) + 1
    return Place(first_line + len(ends), column)


# The header


def _read_names(lines: _RecordLines, reader: Iterator[list[str]], dialect: _Dialect) -> list[str]:
    """Return the names of the columns, without spaces around them and without empty ones at the end."""
    header: list[str] | None = []
    while header is not None and not any(map(str.strip, header)):
        header = _read_record(lines, reader, dialect)
    names = [name.strip() for name in header or ()]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise _FatalError(TableError(Place(1), "there is no header", "write the columns' names in the first line"))
    remedy = "give each column a unique name in the first line"
    for number, name in enumerate(names, 1):
        place = Place(lines.first, number)
        if not name:
            raise _FatalError(TableError(place, "the column has no name", remedy))
        if names.index(name) < number - 1:
            problem = f"{name!r} is also the name of column {names.index(name) + 1}"
            raise _FatalError(TableError(place, problem, remedy))
    return names


def _detect_dialect(path: Path) -> _Dialect:
    """Return the delimiter that the first line and the one after it have in common."""
    default = _DELIMITERS_BY_SUFFIX.get(path.suffix.lower(), ",")
    skipped, samples = 0, list[str]()
    with open_table_text(path) as stream:
        for number, line in enumerate(stream):
            separator = _SEPARATOR_LINE.fullmatch(line) if number == 0 else None
            if separator:
                default, skipped = separator[1], 1
            elif line.strip():
                samples.append(_QUOTED_CELL.sub("x", line).partition('"')[0])
            if len(samples) == 2:
                break
    header = samples[0] if samples else ""
    delimiter = default if skipped else _choose_delimiter(samples, default)
    following = re.findall(f"{re.escape(delimiter)}(.)", header)
    return _Dialect(delimiter, bool(following) and set(following) == {" "}, skipped)


def _choose_delimiter(samples: list[str], default: str) -> str:
    header = samples[0] if samples else ""
    found = [delimiter for delimiter in _NAMES_BY_DELIMITER if delimiter in header]
    if len(found) < 2 or (default == "\t" and default in found):
        return default if not found or default in found else found[0]
    fitting = [delimiter for delimiter in found if len({sample.rstrip().count(delimiter) for sample in samples}) == 1]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(_NAMES_BY_DELIMITER[delimiter] for delimiter in found)
    column = min(header.index(delimiter) for delimiter in found) + 1
    problem = f"the header contains {names}, and either may separate the names"
    raise _FatalError(TableError(Place(1, column), problem, "put names that contain one in double quotes"))
