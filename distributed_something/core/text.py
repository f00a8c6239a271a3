"""Formatting for people: names, amounts, durations, values in error messages, and lines that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import floor, log10

MAX_NAMES_SHOWN = 5  # names listed on one line
MAX_SHOWN_CHARACTERS = 60  # characters of an invalid value that an error message quotes
LABEL_COLUMNS = 16  # width of the label column of a labeled line
MIN_SHOWN_USD = 0.01
TERMINAL_COLUMNS = 80  # the default width of a terminal


def format_one_line(text: str) -> str:
    """Return `text` on one line: whitespace becomes single spaces, and unprintable characters are escaped."""
    spaced = " ".join(text.split())
    return spaced if spaced.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in spaced)


def format_value(value: object) -> str:
    """Return `value` as Python would write it, shortened to MAX_SHOWN_CHARACTERS."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # for example an integer with more than 4,300 digits
        text = f"this {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def format_row(label: str, text: object, columns: int = LABEL_COLUMNS) -> str:
    """Return a labeled line; in all commands, the text begins in the same column."""
    return f"{label:<{columns}}{text}"


def format_names(names: Sequence[str], most: int = MAX_NAMES_SHOWN) -> str:
    """Return the first `most` names, separated by commas, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 machine", "1,200 machines"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_usd(amount: float) -> str:
    """Return an amount with three significant digits, and at least cents: 0.0312, 1.25, 1,250.00."""
    places = 2 if amount <= 0 else max(2, 2 - floor(log10(amount)))
    dollars, _, decimals = f"{amount:,.{places}f}".partition(".")
    return f"{dollars}.{decimals.rstrip('0'):0<2}"


def format_cost(amount: float, *, short: bool = False) -> str:
    """Return a cost like money, with cents: "12.10", "1,250.00", "under 0.01" (short: "<0.01"), "0"."""
    if 0 < amount < MIN_SHOWN_USD:
        return "<0.01" if short else "under 0.01"
    return f"{amount:,.2f}" if amount else "0"


def format_duration(seconds: float) -> str:
    """Return a duration in a suitable unit: "42 s", "7 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_wrapped_lines(text: str, first_indent: str, next_indent: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width` columns, indented as given. A single long word may be wider."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first_indent,
        subsequent_indent=next_indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first_indent.rstrip()]
