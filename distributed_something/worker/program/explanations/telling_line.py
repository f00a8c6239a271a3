"""The most telling line of a log: the line that says why the program failed.

That is the last line of a Python traceback, Java's `Exception in thread …` or the last `Caused by`, R's `Error in …`,
or what Java programs with picocli say about a wrong command line, above a long usage message. If the log has several of
them, the latest one counts; if it has none, the last line that is not blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from distributed_something.worker.visible_text import remove_escape_sequences

MAX_TELLING_CHARACTERS = 300
MAX_LOG_BYTES = 256 * 1024  # at the end of a log, where the line is searched for
# Also the header of an exception group. The text before it may be a logger's prefix.
_TRACEBACK = re.compile(r"(?:Exception Group )?Traceback \(most recent call last\):\s*$")
_PYTHON_FRAME = re.compile(r'\s+File "')
_JAVA_ERROR = re.compile(r"\s*(?:Exception in thread |Caused by\b)")
_STACK_HEAD = re.compile(r"[\w.$]*(?:Exception|Error|Throwable)\b")  # what precedes the frames of Java and JavaScript
_STACK_FRAME = re.compile(r"\s+at \S")
_R_ERROR = re.compile(r"Error in ")
_R_SHORT_ERROR = re.compile(r"Error:")  # other programs print this too, so it counts only before R's last line
_USAGE_ERROR = re.compile(r"(?:Unknown option|Missing required|Invalid value|Unmatched arg|Expected |option ')")
_USAGE = re.compile(r"Usage: |Possible solutions: ")
_R_LAST_LINE = "Execution halted"


def read_telling_line(log: Path) -> str | None:
    """Return the most telling line in the last MAX_LOG_BYTES of a log, or None if all its lines are blank."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MAX_LOG_BYTES))
        return find_telling_line(file.read().decode("utf-8", "replace"))


def find_telling_line(text: str) -> str | None:
    """Return the most telling line of a log's text, or None if all its lines are blank.

    The line has no escape sequences or control characters, and at most MAX_TELLING_CHARACTERS characters. If a message
    begins on the line after `Error in …:`, both lines are joined.
    """
    lines = [_clean_line(line) for line in re.split(r"\r\n|\n|\r", text)]
    latest = max(_iter_errors(lines), default=None)
    if latest is not None:
        return _shorten(_join_message(lines, *latest))
    return next((_shorten(line) for line in reversed(lines) if line.strip()), None)


def add_telling_line(last_lines: Sequence[str], telling: str | None, most: int) -> list[str]:
    """Return the last lines of a log, at most `most`, with the telling line in the first place if they lack it."""
    lines = list(last_lines[-most:])
    cleaned = [_clean_line(line).strip() for line in lines]
    shown = (text for line, following in pairwise([*cleaned, ""]) for text in (line, _join(line, following)))
    if telling is None or any(_shorten(text).endswith(telling) for text in shown):  # a logger's prefix may precede it
        return lines
    return [telling, *(lines[1:] if len(lines) == most else lines)]


def _iter_errors(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where errors' messages begin: the line's position, and the column in that line."""
    is_r = next((line for line in reversed(lines) if line.strip()), "").strip() == _R_LAST_LINE
    search_from = 0  # lines before this one belong to a traceback
    for position, line in enumerate(lines):
        if position < search_from:
            continue
        following = lines[position + 1] if position + 1 < len(lines) else ""
        if header := _TRACEBACK.search(line):
            error = _find_traceback_end(lines, position, header.start())
            search_from = error[0] if error else position + 1
            if error:
                yield error
        elif (
            _JAVA_ERROR.match(line)
            or (_STACK_HEAD.match(line) and _STACK_FRAME.match(following))
            or (_USAGE_ERROR.match(line) and _USAGE.match(following))
            or _R_ERROR.match(line)
            or (is_r and _R_SHORT_ERROR.match(line))
        ):
            yield position, 0


def _find_traceback_end(lines: Sequence[str], header: int, column: int) -> tuple[int, int] | None:
    """Return where a Python traceback's exception is: the first line after the header that is not indented.

    `column`: where the header begins. A logger may write the same prefix in front of each line of the traceback.
    """
    start = column if header + 1 < len(lines) and _PYTHON_FRAME.match(lines[header + 1][column:]) else 0
    for position in range(header + 1, len(lines)):
        text = lines[position][start:]
        if text.strip() and not text[0].isspace():
            return position, start
    return None


def _join_message(lines: Sequence[str], position: int, column: int) -> str:
    """Return the line from `column` on, and the next line too if the message begins there."""
    following = next((line for line in lines[position + 1 : position + 3] if line.strip()), "")
    return _join(lines[position][column:], following)


def _join(line: str, following: str) -> str:
    return f"{line.strip()} {following.strip()}" if line.rstrip().endswith(":") and following else line


def _shorten(line: str) -> str:
    return line.strip()[:MAX_TELLING_CHARACTERS].rstrip()


def _clean_line(line: str) -> str:
    """Return the line without escape sequences and other characters that cannot be printed."""
    plain = remove_escape_sequences(line)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else " " if c.isspace() else "" for c in plain)
