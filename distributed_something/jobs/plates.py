"""Short forms for many values: `A-H`, `1-12`, `01-12`, `P1-P3`, wells such as `A01-H12`, or `96` for a full plate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

MAX_RANGE_VALUES = 100_000  # per option; more values are probably a typo
PLATE_SIZES = {
    6: (2, 3),
    12: (3, 4),
    24: (4, 6),
    48: (6, 8),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}  # rows, columns
_NUMBER_RANGE = re.compile(r"(\D*)(\d+)-(\D*)(\d+)")
_LETTER_RANGE = re.compile(r"([A-Z]{1,2})-([A-Z]{1,2})|([a-z])-([a-z])")
_WELL_NAME = re.compile(r"([A-Za-z]{1,2})(\d{1,3})")
_WELL_BLOCK = re.compile(r"([A-Za-z]{1,2})(\d{1,3})-([A-Za-z]{1,2})(\d{1,3})")


class BadRange(ValueError):
    """An error in a range. `remedy`: specific advice, or "" if the general advice on ranges is enough."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy


def expand_ranges(text: str) -> list[str]:
    """Return the values in a text such as `1-3,7`, in order. Numbers with leading zeros keep their width.

    Raise BadRange if the text is not a list of values and ranges, or if it contains a value twice.
    """
    return _check_unique(value for item in _split_items(text) for value in _expand_item(item))


def expand_wells(text: str, digits: int) -> list[str]:
    """Return the wells in a text such as `A01,C03-D04`, row by row; `96` is a full plate.

    `digits`: the minimum number of digits in the column number. Raise BadRange if the text is not a list of wells and
    blocks.
    """
    if text.isdecimal():
        if int(text) not in PLATE_SIZES:
            sizes = ", ".join(map(str, PLATE_SIZES))
            raise BadRange(f"there is no {text}-well plate", f"use one of the plate sizes {sizes}")
        rows, columns = PLATE_SIZES[int(text)]
        return [
            build_well_name(row, column, digits) for row in _iter_row_names(1, rows) for column in range(1, columns + 1)
        ]
    return _check_unique(well for item in _split_items(text) for well in _expand_well_item(item, digits))


def build_well_name(row: str, column: int | str, digits: int) -> str:
    """Return a well name such as `A01`."""
    return f"{row}{int(column):0{digits}d}"


def _expand_well_item(item: str, digits: int) -> Iterator[str]:
    if match := _WELL_NAME.fullmatch(item):
        yield build_well_name(match[1], match[2], digits)
    elif match := _WELL_BLOCK.fullmatch(item):
        columns = _build_number_range(int(match[2]), int(match[4]), item)
        for row, column in product(_expand_letters(match[1], match[3], item), columns):
            yield build_well_name(row, column, digits)
    else:
        raise BadRange(f"{item!r} is not a well", "write a well such as A01, or a block such as A01-H12")


def _split_items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if "" in items:
        raise BadRange(f"{text!r} has an empty part")
    return items


def _expand_item(item: str) -> Iterator[str]:
    if match := _LETTER_RANGE.fullmatch(item):
        yield from _expand_letters(match[1] or match[3], match[2] or match[4], item)
    elif (match := _NUMBER_RANGE.fullmatch(item)) and match[1] == match[3]:
        width = len(match[2]) if match[2].startswith("0") else 0
        yield from (f"{match[1]}{n:0{width}d}" for n in _build_number_range(int(match[2]), int(match[4]), item))
    else:
        yield item  # a single value, which may contain a dash


def _build_number_range(first: int, last: int, item: str) -> range:
    if last < first:
        raise BadRange(f"{item!r} runs backward")
    if last - first >= MAX_RANGE_VALUES:
        raise BadRange(f"{item!r} has more than {MAX_RANGE_VALUES:,} values")
    return range(first, last + 1)


def _expand_letters(first: str, last: str, item: str) -> Iterator[str]:
    """Yield the rows from `first` to `last`. `AA` follows `Z`, as on plates and in spreadsheets."""
    numbers = _build_number_range(_parse_row_number(first), _parse_row_number(last), item)
    return (row.lower() if first.islower() else row for row in _iter_row_names(numbers[0], numbers[-1]))


def _iter_row_names(first: int, last: int) -> Iterator[str]:
    for number in range(first, last + 1):
        more, letter = divmod(number - 1, 26)
        yield (chr(64 + more) if more else "") + chr(65 + letter)


def _parse_row_number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number


def _check_unique(values: Iterator[str]) -> list[str]:
    unique = list(values)
    if len(set(unique)) < len(unique):
        duplicate = next(value for value in unique if unique.count(value) > 1)
        raise BadRange(f"{duplicate!r} is listed twice")
    return unique
