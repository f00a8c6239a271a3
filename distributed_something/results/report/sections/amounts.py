"""How the page writes amounts, and where it puts the marks of an axis. `report.js` writes amounts in the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

UNKNOWN = "unknown"
MIN_JOBS_FOR_PRICE = 20  # fewer jobs say too little about what 1,000 would cost
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_LOG_MARKS = (0.01, 0.1, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 259200)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_span(seconds: float | None) -> str:
    """Return a duration, such as "0.034 s", "0.4 s", "42 s", "3.6 min", "45 min", "5 h 24 min", or "2 d 3 h"."""
    if seconds is None:
        return UNKNOWN
    if 0 < seconds < 0.095:  # the table's times, which the script writes, have one decimal
        return f"{seconds:.2g} s"
    if seconds < 9.95:
        return f"{_trim_number(seconds, 1)} s"
    if seconds < 89.5:
        return f"{_round_half_up(seconds)} s"
    if seconds < 9.95 * _MINUTE:
        return f"{_trim_number(seconds / _MINUTE, 1)} min"
    minutes = _round_half_up(seconds / _MINUTE)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 2 * _DAY // _MINUTE:
        return _join_units(minutes, 60, "h", "min")
    return _join_units(_round_half_up(minutes / 60), 24, "d", "h")


def format_bytes(size: float | None) -> str:
    """Return a number of bytes in a suitable binary unit, such as "1.4 GiB"."""
    if size is None:
        return UNKNOWN
    power = min(len(_UNITS) - 1, int(math.log2(size) // 10)) if size >= 1 else 0
    return f"{_trim_number(size / 1024**power, 1 if power else 0)} {_UNITS[power]}"


def format_share(share: float) -> str:
    """Return a share of 0 to 1 as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def format_money(amount: float) -> str:
    """Return an amount with cents, such as "1,250.00"."""
    return f"{amount:,.2f}"


def format_time(timestamp: float) -> str:
    """Return a time in seconds since 1970 as "28 November 2026, 08:12 UTC"."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def format_interval(start: float, end: float) -> str:
    """Return from when to when, without the second date if it is the same as the first."""
    first, last = (datetime.fromtimestamp(timestamp, UTC) for timestamp in (start, end))
    if first.date() == last.date():
        return f"{first.day} {first:%B %Y, %H:%M}–{last:%H:%M} UTC"
    return f"{first.day} {first:%B %Y, %H:%M} – {last.day} {last:%B %Y, %H:%M} UTC"


def round_number(number: float | None, decimals: int) -> float | int | None:
    """Return a number with at most so many decimals, as the page's data has it: an integer if there are none.

    Return None for a number that is unknown or not finite, which JSON cannot express.
    """
    if number is None or not math.isfinite(number):
        return None
    rounded = round(number, decimals)
    return int(rounded) if rounded == int(rounded) else rounded


def round_to_kibibytes(size: int | None) -> int | None:
    """Return a number of bytes in KiB, as the page's data has it, rounded up."""
    return None if size is None else -(-size // 1024)


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as "1 job" or "1,200 jobs"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_mark(seconds: float, step: float | None = None) -> str:
    """Return a round duration, such as "30 s", "1 min", or "2 h": in the largest unit that divides `step` or itself."""
    units = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"))
    whole = seconds if step is None else step
    size, unit = next(((size, unit) for size, unit in units if whole >= size and whole % size == 0), (1, "s"))
    return f"{seconds / size:g} {unit}" if seconds else "0"


def list_time_marks(end: float, most: int = 6) -> list[float]:
    """Return the marks of a time axis from 0 to `end` seconds, at most `most` and the one at 0."""
    step = next((step for step in _STEPS if end / step <= most), math.ceil(end / most / _STEPS[-1]) * _STEPS[-1])
    return [float(number * step) for number in range(math.floor(end / step) + 1)]


def list_log_marks(start: float, end: float, most: int = 6) -> list[float]:
    """Return the marks of a logarithmic time axis between `start` and `end` seconds."""
    marks = [float(mark) for mark in _LOG_MARKS if start <= mark <= end]
    return marks[:: math.ceil(len(marks) / most)] if marks else []


def list_linear_marks(start: float, end: float, most: int = 4, base: int = 10) -> list[float]:
    """Return round marks between `start` and `end`. `base`: 2 for round numbers of bytes, else 10."""
    if end <= start:
        return []
    rough = (end - start) / most
    if base == 2:
        step = 2.0 ** math.ceil(math.log2(rough))
    else:
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor >= rough)
    return [number * step for number in range(math.ceil(start / step), math.floor(end / step + 1e-9) + 1)]


def format_list(words: Sequence[str]) -> str:
    """Return words as "a", "a and b", or "a, b, and c"."""
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])}, and {words[-1]}"


def _round_half_up(number: float) -> int:
    """Round as JavaScript's Math.round does, so that the static table and the script's table agree."""
    return math.floor(number + 0.5)


def _trim_number(number: float, decimals: int) -> str:
    rounded = math.floor(number * 10**decimals + 0.5) / 10**decimals
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.{decimals}f}"


def _join_units(number: int, size: int, large: str, small: str) -> str:
    rest = number % size
    return f"{number // size} {large}" + (f" {rest} {small}" if rest else "")
