"""distributed_something.run.cleanup.report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CleanupReport:
    """What was removed, what was kept on purpose (with the reason), and what could not be removed. `handed_on`: what
    has the app's names is the next batch's by now."""

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    handed_on: bool = False


def format_cleanup_report(report: CleanupReport) -> str:
    """What became of all that the run made, as it goes to standard output."""
    lines = [f"removed         {what}" for what in report.removed]
    lines += [f"kept            {what}" for what in report.kept]
    lines += [f"NOT REMOVED     {what}" for what in report.left]
    return "\n".join(lines)
