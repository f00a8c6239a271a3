"""How values look in what a person reads: names, amounts, durations, wrong values, and the lines of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import floor, log10

MAX_NAMES_SHOWN = 5  # names in one line
MAX_SHOWN_CHARACTERS = 60  # characters of a wrong value that a line repeats
LABEL_COLUMNS = 16  # columns in which the text of a labeled line begins
TERMINAL_COLUMNS = 80  # columns of a terminal that nobody has widened


def format_one_line(text: str) -> str:
    """`text` with every run of white space (line ends too) as one space, and what a terminal cannot show escaped."""
    spaced = " ".join(text.split())
    return spaced if spaced.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in spaced)


def format_value(value: object) -> str:
    """`value` as it would be written in a file, cut to what fits in a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits, for one
        text = f"this {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def format_row(label: str, text: object, columns: int = LABEL_COLUMNS) -> str:
    """Return a labeled line, as all commands print them: the text begins in the same column in each."""
    return f"{label:<{columns}}{text}"


def format_names(names: Sequence[str], most: int = MAX_NAMES_SHOWN) -> str:
    """The first `most` names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def format_count(number: int, thing: str) -> str:
    """«1 machine», «1,200 machines»."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_usd(amount: float) -> str:
    """Three figures that count, and at least cents: 0.0312, 1.25, 1,250.00."""
    places = 2 if amount <= 0 else max(2, 2 - floor(log10(amount)))
    whole, _, rest = f"{amount:,.{places}f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"


def format_duration(seconds: float) -> str:
    """Seconds in words that fit the size: «42 s», «7 min», «3 h 20 min»."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_wrapped_lines(said: str, first: str, rest: str, width: int) -> list[str]:
    """`said` in lines of at most `width` columns, begun with `first` and `rest`; only a longer word is longer."""
    return textwrap.wrap(
        said, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]
