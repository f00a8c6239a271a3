"""How a run ended, in words: for a terminal, and for the summary that the auto-monitor leaves in the bucket."""

from __future__ import annotations

from control.cleanup import Report
from control.records import FailedJob, Summary

FAILURES_SHOWN = 20
LINES_SHOWN = 5


def duration(seconds: float) -> str:
    """Seconds in words that fit the size: «42 s», «7 min», «3 h 20 min»."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def report_text(report: Report) -> str:
    """What became of all that the run made, as it goes to standard output."""
    lines = [f"removed         {what}" for what in report.removed]
    lines += [f"kept            {what}" for what in report.kept]
    lines += [f"NOT REMOVED     {what}" for what in report.left]
    return "\n".join(lines)


def summary_text(summary: Summary, *, seconds: float, machines: int, records: str) -> str:
    """The end of a run, as it goes to standard output."""
    lines = [
        f"jobs done       {summary.done:,}",
        f"jobs failed     {summary.dead:,}",
        f"time            {duration(seconds)}",
        f"machines        {machines}",
        f"records, logs   {records}",
    ]
    for failed in summary.failed[:FAILURES_SHOWN]:
        lines += _failure_lines(failed)
    if len(summary.failed) > FAILURES_SHOWN:
        lines.append(f"… and {summary.dead - FAILURES_SHOWN:,} more failed jobs; their records are beside these")
    return "\n".join(lines)


def _failure_lines(failed: FailedJob) -> list[str]:
    tries = f" (after {failed.attempts} attempts)" if failed.attempts else ""
    lines = [f"failed          {failed.job}: {failed.reason}{tries}"]
    lines += [f"                | {line}" for line in failed.last_lines[-LINES_SHOWN:]]
    return [*lines, f"                log: {failed.log}"] if failed.log else lines
