"""The rows of text that `retry` prints about the jobs that it sends and leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
    wrap_text,
)

if TYPE_CHECKING:
    from distributed_something.results.causes import FailureGroup
    from distributed_something.results.retry.memory_advice import MemoryEstimate

MAX_GROUPS_SHOWN = 20
MAX_CAUSE_LINES = 4


def list_group_rows(groups: Sequence[FailureGroup]) -> list[str]:
    """Return a row or several lines for each group of failed jobs that will be sent."""
    rows = []
    for group in groups[:MAX_GROUPS_SHOWN]:
        text = f"{group.id} {format_count(len(group.jobs), 'job')}: {group.cause}"
        lines = wrap_text(text, TERMINAL_COLUMNS - LABEL_COLUMNS, MAX_CAUSE_LINES)
        rows.append("\n".join(format_row("", line) for line in lines))
    if len(groups) > MAX_GROUPS_SHOWN:
        rows.append(format_row("", f"and {len(groups) - MAX_GROUPS_SHOWN} more groups"))
    return rows


def format_removal_row(waiting: int, queue: str) -> str:
    """Return the row about the jobs that `--replace` removes before it sends any."""
    text = f"{format_count(waiting, 'waiting job')}, first: --replace removes all that are in the queue {queue}"
    return "\n".join(wrap_row("to remove", text))


def format_other_row(path: str, jobs: int) -> str:
    """Return the row about jobs that are left out because they came from another Job file, or from a script ("")."""
    object_ = "it" if jobs == 1 else "them"
    text = f"{format_count(jobs, 'job')} of {path}; to send {object_} with this file, type:"
    if not path:
        text = f"{format_count(jobs, 'job')} that a script sent; run the corrected script to send {object_} again"
    return "\n".join(wrap_row("not selected", text))


def format_command_row(command: str) -> str:
    """Return a command below the text of a row that introduces it."""
    from distributed_something.results.command_line import format_command_lines

    indent = " " * LABEL_COLUMNS
    return "\n".join(format_command_lines(command, indent, indent))


def format_memory_advice(estimate: MemoryEstimate, memory: int) -> str:
    """Return which MEMORY would have been enough, and where to change it. `memory`: the config's MEMORY in MiB."""
    text = f"{format_count(estimate.jobs, 'job')} ran out of memory"
    if estimate.limit is not None:
        text += f" in containers with {estimate.limit:,} MiB"
    if estimate.peak is not None:
        text += f"; the largest program used {estimate.peak:,} MiB"
    text += ". " + (
        f"They need more than that; try twice the limit, MEMORY = {estimate.enough}."
        if estimate.is_guess
        else f"MEMORY = {estimate.enough} would probably have been enough (an estimate)."
    )
    if memory >= estimate.enough:
        return f"{text} The config has {memory} now."
    change = "Change MEMORY in the config, and MACHINE_TYPE if its machines have less; then run setup"
    return f"{text} {change} before startCluster."


def wrap_row(label: str, text: str) -> list[str]:
    """Return a labeled text in lines that fit a terminal."""
    return format_wrapped_lines(text, format_row(label, ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
