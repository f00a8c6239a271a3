"""What setupAWS does, step by step: each was looked up first, is a line of its table, and may have nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from distributed_something.core.text import format_row

STATE_COLUMNS = 18  # columns of the longest state, and a space


class SetupState(StrEnum):
    """What became of a thing."""

    FOUND = "found"
    MADE = "made"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"  # on purpose
    LEFT = "left"  # not as it is to be; the note says why


@dataclass(frozen=True)
class SetupRow:
    """A line of the table: what kind of thing, its name, what became of it, and why.

    `planned`: it would become so, if this were not a dry run.
    """

    kind: str
    name: str
    state: SetupState
    note: str = ""
    planned: bool = False


@dataclass(frozen=True)
class SetupStep:
    """A line, and what makes it true; `act` is None where it is true already.

    `if_denied`: of what one can do without, what to do where this login may not do it; then it is left.
    """

    row: SetupRow
    act: Callable[[], object] | None = None
    if_denied: str = ""


def format_setup_row(row: SetupRow) -> str:
    """Return the row as a line of setupAWS's table."""
    state = f"would be {row.state}" if row.planned else row.state
    note = f" ({row.note})" if row.note else ""
    return format_row(state, f"{row.kind} {row.name}{note}", STATE_COLUMNS)
