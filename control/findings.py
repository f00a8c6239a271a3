"""What a check found: lines of ok, warning or wrong with a remedy, as text for a terminal and as JSON for scripts.

«Wrong» is kept for what cannot work. What may work, or could not be looked up, is a warning: it stops nobody.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from control.errors import one_line

WIDTH = 80  # columns of a terminal that nobody has widened
Details = Mapping[str, Any] | None
_TOPIC, _SAID = 9, 25  # columns where the topic and what was found begin


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of the list. `details`: the numbers behind it, for scripts. `by_user`: a file of the user's is wrong."""

    level: Level
    topic: str
    said: str
    remedy: str = ""
    by_user: bool = False
    details: dict[str, Any] = field(default_factory=dict, compare=False)


def ok(topic: str, said: str, remedy: str = "", *, details: Details = None) -> Finding:
    """Looked at, and nothing is wrong; a `remedy` here is an advice."""
    return Finding(Level.OK, topic, one_line(said), remedy, details=dict(details or {}))


def warning(topic: str, said: str, remedy: str, *, details: Details = None) -> Finding:
    """It may work, cost more, or could not be looked up."""
    return Finding(Level.WARNING, topic, one_line(said), remedy, details=dict(details or {}))


def wrong(topic: str, said: str, remedy: str, *, by_user: bool = False, details: Details = None) -> Finding:
    """The run cannot work like this."""
    return Finding(Level.WRONG, topic, one_line(said), remedy, by_user, dict(details or {}))


def exit_code(found: Iterable[Finding]) -> int:
    """0 where nothing is wrong; 2 where the user's files are; 1 where only the account is."""
    wrongs = [one for one in found if one.level is Level.WRONG]
    return 0 if not wrongs else 2 if any(one.by_user for one in wrongs) else 1


def text(found: Sequence[Finding], width: int = WIDTH, *, least: Level = Level.OK) -> str:
    """The list as it goes to standard output: a line a finding, its remedy below it, then the sum of all.

    `least`: the mildest level that is shown.
    """
    shown = list(Level)[list(Level).index(least) :]
    lines = [line for one in found if one.level in shown for line in _lines(one, width)]
    return "\n".join([*lines, *([""] if lines else []), summary(found)])


def summary(found: Sequence[Finding]) -> str:
    """How many of each, in one line."""
    count = {level: sum(one.level is level for one in found) for level in Level}
    if count[Level.WRONG]:
        return f"{count[Level.WRONG]} wrong, {counted(count[Level.WARNING], 'warning')}: correct what is wrong first"
    return f"nothing is wrong, {counted(count[Level.WARNING], 'warning')}, {count[Level.OK]} ok"


def as_json(found: Sequence[Finding]) -> str:
    """The same list for scripts: one JSON object with `exit_code` and `findings`."""
    findings = [
        {"level": one.level.value, "topic": one.topic, "said": one.said, "remedy": one.remedy, "details": one.details}
        for one in found
    ]
    return json.dumps({"exit_code": exit_code(found), "findings": findings}, indent=2, default=str)


def _lines(one: Finding, width: int) -> list[str]:
    mark = one.level.value.upper() if one.level is Level.WRONG else one.level.value
    head = f"{mark:{_TOPIC}}{one.topic:{_SAID - _TOPIC}}"
    lines = wrapped(one.said, head, " " * _SAID, width)
    if one.remedy:
        lines += wrapped(one.remedy, " " * _SAID + "→ ", " " * (_SAID + 2), width)
    return lines


def counted(number: int, thing: str) -> str:
    """«1 machine», «1,200 machines»."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def wrapped(said: str, first: str, rest: str, width: int) -> list[str]:
    """`said` in lines of at most `width` columns, begun with `first` and `rest`; only a longer word is longer."""
    return textwrap.wrap(
        said, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]
