"""distributed_something.core.text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import floor, log10

MAX_NAMES_SHOWN = 5  # names in one line


def format_names(names: Sequence[str], most: int = MAX_NAMES_SHOWN) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def format_usd(amount: float) -> str:
    """Three figures that count, and at least cents: 0.0312, 1.25, 1,250.00."""
    places = 2 if amount <= 0 else max(2, 2 - floor(log10(amount)))
    whole, _, rest = f"{amount:,.{places}f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"


TERMINAL_COLUMNS = 80  # columns of a terminal that nobody has widened


def format_count(number: int, thing: str) -> str:
    """«1 machine», «1,200 machines»."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_wrapped_lines(said: str, first: str, rest: str, width: int) -> list[str]:
    """`said` in lines of at most `width` columns, begun with `first` and `rest`; only a longer word is longer."""
    return textwrap.wrap(
        said, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def format_duration(seconds: float) -> str:
    """Seconds in words that fit the size: «42 s», «7 min», «3 h 20 min»."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
