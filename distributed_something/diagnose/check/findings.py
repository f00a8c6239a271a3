"""Findings of the checks, as text for a terminal and as JSON for scripts.

The level WRONG is only for problems that keep a run from working, because startCluster stops at them. A setup that may
still work, or that could not be looked up, gets a WARNING.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from distributed_something.core.text import TERMINAL_COLUMNS, format_count, format_one_line, format_wrapped_lines

FindingDetails = Mapping[str, Any] | None
_TOPIC_COLUMN, _MESSAGE_COLUMN = 9, 25  # columns where the topic and the message begin


class FindingLevel(Enum):
    """Severity of a finding, from mild to severe."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    `is_user_error`: whether the problem is in one of the user's files. `details`: the numbers behind the message, for
    scripts. `is_tabulated`: whether the text shows it in the table of prices and not as a finding.
    """

    level: FindingLevel
    topic: str
    message: str
    remedy: str = ""
    is_user_error: bool = False
    details: dict[str, Any] = field(default_factory=dict, compare=False)
    is_tabulated: bool = False


def build_ok_finding(
    topic: str, message: str, remedy: str = "", *, details: FindingDetails = None, is_tabulated: bool = False
) -> Finding:
    """Return a finding that reports no problem; its `remedy` is only advice."""
    text, numbers = format_one_line(message), dict(details or {})
    return Finding(FindingLevel.OK, topic, text, remedy, details=numbers, is_tabulated=is_tabulated)


def build_warning_finding(topic: str, message: str, remedy: str, *, details: FindingDetails = None) -> Finding:
    """Return a finding about something that may fail, may cost more, or could not be looked up."""
    return Finding(FindingLevel.WARNING, topic, format_one_line(message), remedy, details=dict(details or {}))


def build_wrong_finding(
    topic: str, message: str, remedy: str, *, is_user_error: bool = False, details: FindingDetails = None
) -> Finding:
    """Return a finding about a problem that keeps a run from working."""
    return Finding(FindingLevel.WRONG, topic, format_one_line(message), remedy, is_user_error, dict(details or {}))


def choose_exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if no finding is WRONG, 2 if any WRONG finding is a user error, and 1 otherwise."""
    wrong_findings = [finding for finding in findings if finding.level is FindingLevel.WRONG]
    if not wrong_findings:
        return 0
    return 2 if any(finding.is_user_error for finding in wrong_findings) else 1


def format_findings(
    findings: Sequence[Finding], width: int = TERMINAL_COLUMNS, *, least: FindingLevel = FindingLevel.OK,
    has_table: bool = False,
) -> str:  # fmt: skip
    """Return the findings as text: each message with its remedy below it, then a summary of all findings.

    `least`: the mildest level that is shown. `has_table`: whether the table of prices shows some of them.
    """
    shown_levels = list(FindingLevel)[list(FindingLevel).index(least) :]
    shown = [each for each in findings if each.level in shown_levels and not (has_table and each.is_tabulated)]
    lines = [line for finding in shown for line in _format_finding_lines(finding, width)]
    return "\n".join([*lines, *([""] if lines else []), format_findings_summary(findings)])


def format_findings_summary(findings: Sequence[Finding]) -> str:
    """Return one line with the number of findings at each level."""
    counts = {level: sum(finding.level is level for finding in findings) for level in FindingLevel}
    warnings = format_count(counts[FindingLevel.WARNING], "warning")
    if counts[FindingLevel.WRONG]:
        return f"{counts[FindingLevel.WRONG]} wrong, {warnings}: fix what is wrong first"
    return f"nothing is wrong, {warnings}, {counts[FindingLevel.OK]} ok"


def build_findings_json(findings: Sequence[Finding]) -> str:
    """Return one JSON object with `exit_code` and `findings`, for scripts."""
    entries = [
        {
            "level": finding.level.value,
            "topic": finding.topic,
            "said": finding.message,
            "remedy": finding.remedy,
            "details": finding.details,
        }
        for finding in findings
    ]
    return json.dumps({"exit_code": choose_exit_code(findings), "findings": entries}, indent=2, default=str)


def _format_finding_lines(finding: Finding, width: int) -> list[str]:
    level = finding.level.value.upper() if finding.level is FindingLevel.WRONG else finding.level.value
    head = f"{level:{_TOPIC_COLUMN}}{finding.topic:{_MESSAGE_COLUMN - _TOPIC_COLUMN}}"
    lines = format_wrapped_lines(finding.message, head, " " * _MESSAGE_COLUMN, width)
    if finding.remedy:
        lines += format_wrapped_lines(finding.remedy, " " * _MESSAGE_COLUMN + "→ ", " " * (_MESSAGE_COLUMN + 2), width)
    return lines
