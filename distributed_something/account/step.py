"""What setupAWS does, step by step: each was looked up first, is a line of its table, and may have nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MADE_BY_TAG = ("made-by", "distributed-something")  # the tag of what setupAWS and fleetFile make, and may delete
STATUS_FOUND, STATUS_MADE, STATUS_CHANGED, STATUS_REMOVED = "found", "made", "changed", "removed"
STATUS_KEPT = "kept"  # on purpose
STATUS_LEFT = "left"  # not as it is to be; the note says why


@dataclass(frozen=True)
class SetupRow:
    """A line of the table: what kind of thing, its name, what became of it, and why."""

    kind: str
    name: str
    state: str
    note: str = ""


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
    return f"{row.state:<18}{row.kind} {row.name}" + (f" ({row.note})" if row.note else "")


def has_made_by_tag(tags: list[Any] | dict[str, str] | None) -> bool:
    """Whether the tag says so; services write tags in one of three ways."""
    if isinstance(tags, dict):
        return tags.get(MADE_BY_TAG[0]) == MADE_BY_TAG[1]
    pairs = ((tag.get("Key", tag.get("key")), tag.get("Value", tag.get("value"))) for tag in tags or [])
    return MADE_BY_TAG in pairs
