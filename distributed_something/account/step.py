"""A step of setupAWS: a planned change, and the table row that reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from distributed_something.core.text import format_row

STATE_COLUMNS = 18  # width of the longest state, "would be changed", plus two spaces


class SetupState(StrEnum):
    """What happened to a resource."""

    EXISTS = "exists"
    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"  # intentionally
    NOT_DONE = "not done"  # the note gives the reason
    WARNING = "warning"  # nothing to do, as far as AWS lets the user see; the note says what it hides


@dataclass(frozen=True)
class SetupRow:
    """A row of the table: the resource's kind and name, what happened to it, and a note.

    `is_planned`: whether the change has not been made, because this is a dry run.
    """

    kind: str
    name: str
    state: SetupState
    note: str = ""
    is_planned: bool = False


@dataclass(frozen=True)
class SetupStep:
    """A table row, and the function that makes the change; `apply` is None if there is nothing to do.

    `denied_note`: set for an optional step. If AWS denies the step, the row becomes "not done" with this note.
    """

    row: SetupRow
    apply: Callable[[], object] | None = None
    denied_note: str = ""


def format_setup_row(row: SetupRow) -> str:
    """Return the row as a line of setupAWS's table."""
    state = f"would be {row.state}" if row.is_planned else row.state
    note = f" ({row.note})" if row.note else ""
    return format_row(state, f"{row.kind} {row.name}{note}", STATE_COLUMNS)
