"""Text for people: names, amounts, durations, values in error messages, and lines that fit a terminal.

Also finds names that are probably misspelled.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import floor, log10

MAX_NAMES_SHOWN = 5  # names listed on one line
MAX_SHOWN_CHARACTERS = 60  # characters of an invalid value that an error message quotes
ROW_INDENT = "  "  # of a text below its label
LABEL_COLUMNS = 16  # width of the label column of a labeled line
MIN_SHOWN_USD = 0.01
TERMINAL_COLUMNS = 80  # the default width of a terminal
DEFAULT_PROGRAM = ("python", "run.py")  # how commands begin if it is unknown how the user types them
MAX_DISTANCE = 2  # letters in which a misspelled name differs; with three or more, another name was probably meant
SHORT_NAME_LENGTH = 4  # letters; two such names that differ in two letters are different words
# The spaces between a number and its unit, or the noun that it counts, such as "(0.12 USD", "3 h 20 min", "5–7 jobs".
_UNIT_SPACES = re.compile(r"(?<!\S)[^\s\w]?(?:\d+ h )?\d(?:[\d.,–-]*\d)? (?=[^\W\d_]\S{0,14}(?!\S))")
_FIXED_SPACE = "\N{NO-BREAK SPACE}"
_PLURAL_PATTERN = re.compile(r"ies(?=_|$)")


def format_one_line(text: str) -> str:
    """Return `text` on one line: whitespace becomes single spaces, and unprintable characters are escaped."""
    spaced = " ".join(text.split())
    return spaced if spaced.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in spaced)


def format_value(value: object) -> str:
    """Return `value` as Python would write it, shortened to MAX_SHOWN_CHARACTERS."""
    return _write_value(value, repr)


def format_json(value: object) -> str:
    """Return a value from a JSON file as JSON, but a text as Python would write it, shortened as above."""
    write_json = partial(json.dumps, ensure_ascii=False, default=str)
    return _write_value(value, repr if isinstance(value, str) else write_json)


def _write_value(value: object, write: Callable[[object], str]) -> str:
    try:
        text = write(value)
    except (ValueError, RecursionError):  # for example an integer with more than 4,300 digits
        text = f"this {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def format_row(label: str, text: object, columns: int = LABEL_COLUMNS) -> str:
    """Return a labeled line; in all commands, the text begins in the same column."""
    return f"{label:<{columns}}{text}"


def format_wrapped_row(label: str, text: object) -> str:
    """Return a labeled text in lines of at most TERMINAL_COLUMNS columns.

    If a word, such as an address, does not fit beside the label, the text is below it. An even longer word is not
    broken, so that it can be copied.
    """
    words = str(text)
    if max(map(measure_columns, words.split()), default=0) > TERMINAL_COLUMNS - LABEL_COLUMNS:
        return "\n".join([label, *format_wrapped_lines(words, ROW_INDENT, ROW_INDENT, TERMINAL_COLUMNS)])
    return "\n".join(format_wrapped_lines(words, format_row(label, ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS))


def format_names(names: Sequence[str], most: int = MAX_NAMES_SHOWN) -> str:
    """Return the first `most` names, separated by commas, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def find_similar_name(name: str, known_names: Iterable[str]) -> str | None:
    """Return the known name that `name` is probably a misspelling of, or None. A known name is not a misspelling.

    A name in which two letters are replaced, among them the first or the last, is another word (`comment`, not
    `command`). Names are also similar if they differ only in case, or as singular and plural do (`JOB_RETRY`,
    `JOB_RETRIES`). If several known names are equally similar, return the first one in alphabetical order.
    """
    candidates = sorted(set(known_names))
    if name in candidates:
        return None
    distances = [
        (distance, candidate)
        for candidate in candidates
        if (distance := _measure_similarity(name, candidate)) <= _get_limit(name, candidate)
        and not _is_other_word(name, candidate, distance)
    ]
    return min(distances)[1] if distances else None


def measure_distance(first: str, second: str) -> int:
    """Return the Damerau-Levenshtein distance (optimal string alignment) between two names.

    This is the number of letters to add, remove, or replace, and of neighboring letters to swap.
    """
    before_last: list[int] = []
    last = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        row = [i]
        for j, other in enumerate(second, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return last[-1]


def _measure_similarity(name: str, candidate: str) -> int:
    singular, candidate_singular = (_PLURAL_PATTERN.sub("y", text.lower()) for text in (name, candidate))
    distance = measure_distance(name, candidate)
    return min(distance, 1) if singular == candidate_singular else distance


def _is_other_word(name: str, candidate: str, distance: int) -> bool:
    replaced = [letter != other for letter, other in zip(name, candidate, strict=False)]
    return len(name) == len(candidate) and distance == sum(replaced) == MAX_DISTANCE and (replaced[0] or replaced[-1])


def _get_limit(name: str, candidate: str) -> int:
    return 1 if min(len(name), len(candidate)) <= SHORT_NAME_LENGTH else MAX_DISTANCE


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


def measure_columns(text: str) -> int:
    """Return how many columns of a terminal a line of printable text takes. Some characters take two or none."""
    return sum(map(_measure_character, text)) if not text.isascii() else len(text)


def shorten_text(text: str, columns: int) -> str:
    """Return a line of text that takes at most `columns` columns; an ellipsis stands for what is left out."""
    if measure_columns(text) <= columns:
        return text
    return f"{text[: _count_fitting_characters(text, columns - 1)].rstrip()}…"


def shorten_start(path: str, columns: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return the end of a path, of at most `columns` columns; an ellipsis stands for what is left out before it."""
    return shorten_text(path[::-1], columns)[::-1]


def wrap_text(text: str, columns: int, most: int) -> list[str]:
    """Return `text` in at most `most` lines of at most `columns` columns; an ellipsis stands for what is left out.

    A line ends at a space if the next word fits in a line. A longer word, such as an address, is broken, unless the
    space is in the line's second half. A number and its unit count as one word.
    """
    lines: list[str] = []
    rest = _join_units(format_one_line(text))
    while measure_columns(rest) > columns and len(lines) < most - 1:
        fitting = max(1, _count_fitting_characters(rest, columns))
        space = rest.rfind(" ", 0, fitting + 1)
        word = rest[space + 1 :].split(" ", 1)[0]
        end = space if space >= max(1, fitting // 2) or (space > 0 and measure_columns(word) <= columns) else fitting
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return [line.replace(_FIXED_SPACE, " ") for line in (*lines, shorten_text(rest, columns))]


def _join_units(text: str) -> str:
    """Return `text` with fixed spaces between numbers and their units, where no line may end."""
    return _UNIT_SPACES.sub(lambda match: match[0].replace(" ", _FIXED_SPACE), text)


def _count_fitting_characters(text: str, columns: int) -> int:
    width = 0
    for number, character in enumerate(text):
        width += _measure_character(character)
        if width > columns:
            return number
    return len(text)


def _measure_character(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def format_wrapped_lines(text: str, first_indent: str, next_indent: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width` columns, indented as given.

    A word that does not fit, such as an address, is alone on its line, which is indented less. A word that is even
    wider than `width` is not broken, so that it can be copied. A number and its unit count as one word.
    """
    lines, line, has_word = list[str](), first_indent, False
    for joined in _join_units(" ".join(text.split())).split(" "):
        word = joined.replace(_FIXED_SPACE, " ")
        columns = measure_columns(word)
        if has_word and measure_columns(line) + 1 + columns > width:
            lines.append(line)
            line, has_word = next_indent, False
        if not has_word and measure_columns(line) + columns > width:
            lines += [line.rstrip()] if line.strip() else []
            line = " " * min(len(next_indent), max(0, width - columns))
        line += f" {word}" if has_word else word
        has_word = True
    return [*lines, line.rstrip()]


def wrap_wide_lines(text: str, width: int = TERMINAL_COLUMNS) -> str:
    """Return the text with the lines wrapped that are wider than `width`, below the text of a labeled line.

    A line that ends with a backslash is part of a command and stays as it is.
    """
    return "\n".join(wrapped for line in text.split("\n") for wrapped in _wrap_line(line, width))


def _wrap_line(line: str, width: int) -> list[str]:
    if measure_columns(line) <= width or line.endswith("\\"):
        return [line]
    label = line[:LABEL_COLUMNS]
    if label.strip() and label.endswith("  "):
        return format_wrapped_lines(line[LABEL_COLUMNS:], label, " " * LABEL_COLUMNS, width)
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return format_wrapped_lines(line, indent, indent, width)
