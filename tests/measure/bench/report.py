"""The table that a benchmark ends with, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One measurement: what, how much, and the goal with whether it is reached; no goal, no judgement."""

    what: str
    value: str
    goal: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: ""}[self.reached]


def table(lines: Sequence[Line]) -> str:
    """The lines under a heading, in columns."""
    rows = [("measured on this computer", "value", "goal", ""), *((o.what, o.value, o.goal, o.verdict) for o in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    shown = [
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {goal:<{widths[2]}}  {verdict}".rstrip()
        for what, value, goal, verdict in rows
    ]
    return "\n".join([shown[0], "-" * max(map(len, shown)), *shown[1:]])
