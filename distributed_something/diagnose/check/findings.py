"""What a check found: lines of ok, warning or wrong with a remedy, as text for a terminal and as JSON for scripts.

«Wrong» is kept for what cannot work. What may work, or could not be looked up, is a warning: it stops nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from distributed_something.core.text import TERMINAL_COLUMNS, format_count, format_one_line, format_wrapped_lines

FindingDetails = Mapping[str, Any] | None
_TOPIC_COLUMN, _MESSAGE_COLUMN = 9, 25  # columns where the topic and what was found begin


class FindingLevel(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of the list. `details`: the numbers behind it, for scripts. `by_user`: a file of the user's is wrong."""

    level: FindingLevel
    topic: str
    said: str
    remedy: str = ""
    by_user: bool = False
    details: dict[str, Any] = field(default_factory=dict, compare=False)


def build_ok_finding(topic: str, said: str, remedy: str = "", *, details: FindingDetails = None) -> Finding:
    """Looked at, and nothing is wrong; a `remedy` here is an advice."""
    return Finding(FindingLevel.OK, topic, format_one_line(said), remedy, details=dict(details or {}))


def build_warning_finding(topic: str, said: str, remedy: str, *, details: FindingDetails = None) -> Finding:
    """It may work, cost more, or could not be looked up."""
    return Finding(FindingLevel.WARNING, topic, format_one_line(said), remedy, details=dict(details or {}))


def build_wrong_finding(
    topic: str, said: str, remedy: str, *, by_user: bool = False, details: FindingDetails = None
) -> Finding:
    """The run cannot work like this."""
    return Finding(FindingLevel.WRONG, topic, format_one_line(said), remedy, by_user, dict(details or {}))


def choose_exit_code(found: Iterable[Finding]) -> int:
    """0 where nothing is wrong; 2 where the user's files are; 1 where only the account is."""
    wrongs = [one for one in found if one.level is FindingLevel.WRONG]
    return 0 if not wrongs else 2 if any(one.by_user for one in wrongs) else 1


def format_findings(
    found: Sequence[Finding], width: int = TERMINAL_COLUMNS, *, least: FindingLevel = FindingLevel.OK
) -> str:
    """The list as it goes to standard output: a line a finding, its remedy below it, then the sum of all.

    `least`: the mildest level that is shown.
    """
    shown = list(FindingLevel)[list(FindingLevel).index(least) :]
    lines = [line for one in found if one.level in shown for line in _format_finding_lines(one, width)]
    return "\n".join([*lines, *([""] if lines else []), format_findings_summary(found)])


def format_findings_summary(found: Sequence[Finding]) -> str:
    """How many of each, in one line."""
    count = {level: sum(one.level is level for one in found) for level in FindingLevel}
    warnings = format_count(count[FindingLevel.WARNING], "warning")
    if count[FindingLevel.WRONG]:
        return f"{count[FindingLevel.WRONG]} wrong, {warnings}: correct what is wrong first"
    return f"nothing is wrong, {warnings}, {count[FindingLevel.OK]} ok"


def build_findings_json(found: Sequence[Finding]) -> str:
    """The same list for scripts: one JSON object with `exit_code` and `findings`."""
    findings = [
        {"level": one.level.value, "topic": one.topic, "said": one.said, "remedy": one.remedy, "details": one.details}
        for one in found
    ]
    return json.dumps({"exit_code": choose_exit_code(found), "findings": findings}, indent=2, default=str)


def _format_finding_lines(one: Finding, width: int) -> list[str]:
    mark = one.level.value.upper() if one.level is FindingLevel.WRONG else one.level.value
    head = f"{mark:{_TOPIC_COLUMN}}{one.topic:{_MESSAGE_COLUMN - _TOPIC_COLUMN}}"
    lines = format_wrapped_lines(one.said, head, " " * _MESSAGE_COLUMN, width)
    if one.remedy:
        lines += format_wrapped_lines(one.remedy, " " * _MESSAGE_COLUMN + "→ ", " " * (_MESSAGE_COLUMN + 2), width)
    return lines
