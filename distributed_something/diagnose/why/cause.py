"""A cause for nothing running, and what all diagnoses ask of the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from distributed_something.core.aws_errors import AWSEvent, FailurePattern, find_failure_pattern
from distributed_something.core.text import format_one_line
from distributed_something.observe.evidence import Evidence
from distributed_something.observe.machines import ObservedMachine
from distributed_something.observe.service import StoppedTask

RECENT_EVENT_SECONDS = 1800.0  # older events of a service or task say little about now
MAX_NAMES_PER_CAUSE = 3  # things of a kind in one line
MAX_EVENT_CHARACTERS = 200  # characters of AWS's own words

Report = TypeVar("Report", AWSEvent, StoppedTask)


@dataclass(frozen=True)
class Cause:
    """Why nothing runs, perhaps. `weight`: how likely (0 to 100). `seen`: what speaks for it."""

    weight: int
    what: str
    seen: str
    remedy: str


def list_live_machines(evidence: Evidence) -> list[ObservedMachine]:
    """Return the machines that run or are about to."""
    return [machine for machine in evidence.machines if machine.state in ("pending", "running")]


def list_running_machines(evidence: Evidence) -> list[ObservedMachine]:
    return [machine for machine in evidence.machines if machine.state == "running"]


def list_recent_reports(evidence: Evidence, reports: Iterable[Report]) -> list[Report]:
    """Return the reports of the last half an hour that are of this run."""
    since = max(evidence.at - RECENT_EVENT_SECONDS, evidence.subject.start or 0.0)
    return [report for report in reports if report.at >= since]


def group_by_pattern(
    table: tuple[FailurePattern, ...], reports: Iterable[Report]
) -> Iterator[tuple[FailurePattern | None, list[Report]]]:
    """Yield each pattern of the table that reports match, with these; None with the reports that match none."""
    matched = [(_match_pattern(table, report), report) for report in reports]
    order = {pattern: number for number, pattern in enumerate(table)}
    matched.sort(key=lambda pair: -1 if pair[0] is None else order[pair[0]])
    for pattern, pairs in groupby(matched, key=lambda pair: pair[0]):
        yield pattern, [report for _, report in pairs]


def _match_pattern(table: tuple[FailurePattern, ...], report: AWSEvent | StoppedTask) -> FailurePattern | None:
    return find_failure_pattern(table, report.kind, report.said, _get_exit_codes(report))


def _get_exit_codes(report: AWSEvent | StoppedTask) -> tuple[int, ...]:
    return report.exit_codes if isinstance(report, StoppedTask) else ()


def format_reports(reports: Sequence[AWSEvent | StoppedTask]) -> str:
    """Return the newest of these reports in AWS's words, and how many there are."""
    newest = max(reports, key=lambda report: report.at)
    parts = [newest.said, *(f"exit code {code}" for code in _get_exit_codes(newest))]
    said = "; ".join(part for part in parts if part)
    shown = format_one_line(": ".join(part for part in (newest.kind, said) if part))[:MAX_EVENT_CHARACTERS]
    return (shown or "an error, no words") + (f" ({len(reports)} times)" if len(reports) > 1 else "")
