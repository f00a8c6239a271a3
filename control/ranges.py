"""Short ways to write many values: `A-H`, `1-12`, `01-12`, `P1-P3`, wells such as `A01-H12`, or a whole plate: `96`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

MOST_VALUES = 100_000  # of one option: more is a slip
PLATES = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}  # rows, columns
_NUMBERS = re.compile(r"(\D*)(\d+)-(\D*)(\d+)")
_LETTERS = re.compile(r"([A-Z]{1,2})-([A-Z]{1,2})|([a-z])-([a-z])")
_WELL = re.compile(r"([A-Za-z]{1,2})(\d{1,3})")
_BLOCK = re.compile(r"([A-Za-z]{1,2})(\d{1,3})-([A-Za-z]{1,2})(\d{1,3})")


class BadRange(ValueError):
    """The text names no values; it says why."""


def expand(text: str) -> list[str]:
    """The values of `1-3,7` in order, each once. A number that is written with zeros in front keeps its width."""
    return _once(value for item in _items(text) for value in _values(item))


def wells(text: str, digits: int) -> list[str]:
    """The wells of `A01,C03-D04`, row by row, the column with at least so many digits; `96` is a whole plate."""
    if text.isdecimal():
        if int(text) not in PLATES:
            raise BadRange(f"there is no plate of {text} wells; there are {', '.join(map(str, PLATES))}")
        rows, columns = PLATES[int(text)]
        return [well(row, column, digits) for row in _rows(1, rows) for column in range(1, columns + 1)]
    return _once(one for item in _items(text) for one in _wells(item, digits))


def well(row: str, column: int | str, digits: int) -> str:
    """`A01`."""
    return f"{row}{int(column):0{digits}d}"


def _wells(item: str, digits: int) -> Iterator[str]:
    if match := _WELL.fullmatch(item):
        yield well(match[1], match[2], digits)
    elif match := _BLOCK.fullmatch(item):
        columns = _counted(int(match[2]), int(match[4]), item)
        for row, column in product(_letters(match[1], match[3], item), columns):
            yield well(row, column, digits)
    else:
        raise BadRange(f"{item!r} is no well; write one such as A01, or A01-H12 for all between")


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if "" in items:
        raise BadRange(f"{text!r} has an empty part")
    return items


def _values(item: str) -> Iterator[str]:
    if match := _LETTERS.fullmatch(item):
        yield from _letters(match[1] or match[3], match[2] or match[4], item)
    elif (match := _NUMBERS.fullmatch(item)) and match[1] == match[3]:
        width = len(match[2]) if match[2].startswith("0") else 0
        yield from (f"{match[1]}{n:0{width}d}" for n in _counted(int(match[2]), int(match[4]), item))
    else:
        yield item  # a name, though there may be a dash in it


def _counted(first: int, last: int, item: str) -> range:
    if last < first:
        raise BadRange(f"{item!r} runs backwards")
    if last - first >= MOST_VALUES:
        raise BadRange(f"{item!r} has more than {MOST_VALUES:,} values")
    return range(first, last + 1)


def _letters(first: str, last: str, item: str) -> Iterator[str]:
    """`A` to `Z`, then `AA`, as on plates and in spreadsheets."""
    numbers = _counted(_number(first), _number(last), item)
    return (row.lower() if first.islower() else row for row in _rows(numbers[0], numbers[-1]))


def _rows(first: int, last: int) -> Iterator[str]:
    for number in range(first, last + 1):
        more, letter = divmod(number - 1, 26)
        yield (chr(64 + more) if more else "") + chr(65 + letter)


def _number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number


def _once(values: Iterator[str]) -> list[str]:
    found = list(values)
    if len(set(found)) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise BadRange(f"{twice!r} stands there twice")
    return found
