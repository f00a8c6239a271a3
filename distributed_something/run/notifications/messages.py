"""The texts of the notifications. They contain nothing that a program has printed, because it could be a secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from distributed_something.core.text import format_cost, format_count, format_duration, format_one_line, format_row
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.results.causes import FailureGroup, format_exit_code
from distributed_something.results.command_line import build_run_line
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.summary import format_verdict
from distributed_something.run.monitor.budget import COST_WARNING_SHARE, format_cost_so_far
from distributed_something.run.monitor.policy import EndReason
from distributed_something.worker import mask_text

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile

# SNS accepts ASCII subjects of at most 100 characters. https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT_CHARACTERS = 100
_END_REASONS = {
    EndReason.RUN: "no jobs were left",
    EndReason.FLEET: "the fleet ended while jobs were still waiting",
    EndReason.NOTHING_WORKS: "nothing works",
    EndReason.COST: "it has reached MAX_COST",
}


class NotificationKind(Enum):
    """What a notification is about. A run sends each kind at most once. The values are in keys in the bucket."""

    FAILURE = "failure"
    COST = "cost"
    NOTHING_WORKS = "nothing_works"
    END = "end"


@dataclass(frozen=True)
class Message:
    """A notification's subject, as SNS accepts it, and its text."""

    subject: str
    text: str


class NothingWorksCause(Enum):
    """Why a run was stopped before its jobs were done."""

    EVERY_JOB_FAILED = "every job failed"
    NO_MACHINE = "no machine joined the cluster"
    NO_CONTAINER = "no container took a job"
    NO_SUCCESS = "no job succeeded"


@dataclass(frozen=True)
class RunEndFacts:
    """What the message about the end says.

    `outcome`: None if the records could not be read. `seconds`: how long the run took. `cost`: its cost so far, in USD;
    None if it is unknown. `is_clean`: whether everything that should be removed is removed. `others`: how many jobs of
    the Job file have not been sent, because the run was a canary.
    """

    reason: EndReason | None
    outcome: RunOutcome | None
    seconds: float
    cost: float | None
    is_clean: bool
    others: int = 0


def build_failure_message(file: MonitorFile, totals: RunTotals, group: FailureGroup | None) -> Message:
    """Return the message about the run's first failures. `group`: the largest group of them, if it is known yet."""
    failed = format_count(totals.failed, "job")
    lines = [f"{failed} of {file.MONITOR_APP_NAME} failed for good. So far, {totals.done:,} are done.", ""]
    if group is not None:
        lines += [
            format_row("cause", f"{_format_cause(group)} ({group.id})"),
            format_row("for example", group.example.job),
        ]
    lines += [_format_run(file), "", *_format_command(file, "status", "To see all causes")]
    return _build_message(file, f"{failed} failed", lines)


def build_cost_message(file: MonitorFile, totals: RunTotals, cost: float) -> Message:
    """Return the message that the run has used 80% of MAX_COST."""
    spent = format_cost_so_far(cost, file.MONITOR_MAX_COST)
    lines = [
        f"{file.MONITOR_APP_NAME} has cost {spent} (MAX_COST): more than {COST_WARNING_SHARE:.0%}.",
        "At MAX_COST, no new jobs start. Running jobs finish, and the queue is kept.",
        "",
        format_row("jobs done", f"{totals.done:,}"),
        format_row("jobs failed", f"{totals.failed:,}"),
        _format_run(file),
    ]
    return _build_message(file, f"the run has cost {spent}", lines)


def build_nothing_works_message(file: MonitorFile, cause: NothingWorksCause) -> Message:
    """Return the message that the monitor has stopped the run because nothing works."""
    lines = [
        f"The run of {file.MONITOR_APP_NAME} was stopped because nothing works: {cause.value}.",
        "Its machines were stopped, and its queue was kept.",
        "",
        _format_run(file),
        "",
        *_format_command(file, "why", "To see the cause and what to do"),
    ]
    return _build_message(file, "stopped because nothing works", lines)


def build_end_message(file: MonitorFile, facts: RunEndFacts) -> Message:
    """Return the message about the end of the run."""
    outcome, bucket = facts.outcome, f"s3://{file.MONITOR_BUCKET_NAME}"
    verdict = format_verdict(outcome) if outcome is not None else "its records could not be read"
    reason = f" because {_END_REASONS[facts.reason]}" if facts.reason else ""
    lines = [f"The run of {file.MONITOR_APP_NAME} has ended{reason}: {verdict}.", ""]
    if outcome is not None:
        counts = {
            "jobs done": outcome.counts.done, "already there": outcome.counts.already_there,
            "jobs failed": outcome.counts.failed, "in the queue": outcome.left,
        }  # fmt: skip
        lines += [format_row(label, f"{count:,}") for label, count in counts.items()]
    cost = "unknown"
    if facts.cost is not None:
        cost = f"{format_cost(facts.cost)} USD (estimate: machines without disks and addresses)"
    lines += [
        format_row("time", format_duration(facts.seconds)),
        format_row("cost", cost),
        _format_run(file),
        format_row("summary", f"{bucket}/{file.keys.summary}"),
    ]
    if outcome is not None and facts.is_clean:
        lines.append(format_row("report", f"{bucket}/{file.keys.report} (in a few minutes)"))
    if facts.others:
        others = format_count(facts.others, "other job")
        lines += ["", f"This was a canary: {others} of its Job file {'was' if facts.others == 1 else 'were'} not sent."]
    if not facts.is_clean:
        lines += ["", *_format_command(file, "monitor", "Not everything could be removed. To try again")]
    return _build_message(file, f"the run has ended: {verdict}", lines)


def _build_message(file: MonitorFile, subject: str, lines: list[str]) -> Message:
    """Return the message. The name of the app is ASCII."""
    text = f"{file.MONITOR_APP_NAME}: {subject}".encode("ascii", "replace").decode()
    shortened = text if len(text) <= MAX_SUBJECT_CHARACTERS else f"{text[: MAX_SUBJECT_CHARACTERS - 3]}..."
    return Message(shortened, "\n".join([*lines, ""]))


def _format_cause(group: FailureGroup) -> str:
    """Return the cause without what the program has printed, if a program ended itself."""
    if group.reason_class in ("program", "") and group.exit_code:
        return format_exit_code(group.exit_code)
    return mask_text(format_one_line(group.cause))


def _format_run(file: MonitorFile) -> str:
    return format_row("run", file.run)


def _format_command(file: MonitorFile, command: str, title: str) -> list[str]:
    """Return the command as the user types it in the project's folder."""
    line = build_run_line(file)
    return [f"{title}, type:", f"  {line.format_command(command, line.monitor_file)}"]
