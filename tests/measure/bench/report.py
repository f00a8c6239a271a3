"""The table that `make bench` prints, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One row of the table. A measurement without a goal has an empty `goal`, and `is_reached` is None."""

    name: str
    value: str
    goal: str = ""
    is_reached: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: ""}[self.is_reached]


def format_table(measurements: Sequence[Measurement]) -> str:
    """Return the measurements as columns of text under a heading."""
    rows = [
        ("measured on this computer", "value", "goal", ""),
        *((row.name, row.value, row.goal, row.verdict) for row in measurements),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {goal:<{widths[2]}}  {verdict}".rstrip()
        for name, value, goal, verdict in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
