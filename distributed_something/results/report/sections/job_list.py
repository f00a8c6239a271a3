"""The table of jobs: the slowest as static HTML, and all of them as data for the script."""

from __future__ import annotations

import math
from collections.abc import Sequence

from distributed_something.results.report.data import JobRow, Report
from distributed_something.results.report.sections.amounts import (
    UNKNOWN,
    format_bytes,
    format_list,
    format_span,
    round_number,
    round_to_kibibytes,
)
from distributed_something.results.report.sections.markup import Html, join_html, make_section, make_tag

STATIC_ROWS = 20
ALREADY_THERE = "already there"
TAKEN_MARK = "*"  # behind the time of a job that has no program
_NOT_APPLICABLE = "–"
# The key of each column's data, its heading, and its class.
COLUMNS = (
    ("name", "job", "job"),
    ("state", "state", "state"),
    ("seconds", "time", "time"),
    ("attempts", "attempts", "number attempts"),
    ("memory", "peak memory", "number memory"),
    ("exit", "exit code", "number exit"),
    ("started", "began after", "number"),
    ("machine", "machine", "machine"),
    ("cause", "cause of failure", "cause-name"),
)


def name_state(state: str) -> str:
    """Return what people read for a row's state."""
    return ALREADY_THERE if state == "skipped" else state


def name_machine(row: JobRow) -> str:
    """Return what people read for a row's machine; "" if it is unknown."""
    return "lost" if row.is_lost else row.machine


def is_taken(row: JobRow) -> bool:
    """Return whether the row says when a worker took the job, because it is unknown when a program began."""
    return row.started is not None and not row.is_program_start


def draw_jobs(report: Report, listed: Sequence[JobRow]) -> Html:
    """Return the section with all jobs. `listed`: the rows that the script's table has."""
    slowest = sorted(report.jobs.rows, key=_sort_slowest)[:STATIC_ROWS]
    if not slowest:
        lead = make_tag("p", "No job has ended yet.", class_="lead")
        return make_section("jobs", "The jobs", lead)
    causes = {cause.group.id: cause.group.cause for cause in report.failures}
    longest = max((find_seconds(row) or 0.0 for row in slowest), default=0.0)
    head = make_tag("tr", *(make_tag("th", title, class_=class_, scope="col") for _, title, class_ in COLUMNS))
    rows = [_draw_job(row, causes, longest) for row in slowest]
    table = make_tag("table", make_tag("thead", head), make_tag("tbody", *rows), class_="jobs")
    static = make_tag("div", table, class_="wide static", tabindex=0)
    return make_section(
        "jobs",
        "All jobs",
        make_tag("p", *_describe_rows(report, listed, len(slowest)), class_="lead"),
        make_tag("div", id="table"),
        static,
    )


def _sort_slowest(row: JobRow) -> tuple[bool, float, str]:
    seconds = find_seconds(row)
    return seconds is None, -(seconds or 0.0), row.job


def find_seconds(row: JobRow) -> float | None:
    """Return how long the job's last attempt took; None if that is unknown, or if its results were already there."""
    is_known = row.seconds is not None and math.isfinite(row.seconds) and name_state(row.state) != ALREADY_THERE
    return row.seconds if is_known else None


def _describe_rows(report: Report, listed: Sequence[JobRow], slowest: int) -> list[Html]:
    """Return what the table holds: with the script, and in the static page."""
    total = report.jobs.total
    if len(listed) >= total and not report.jobs.is_sample:
        scripted = "Click a job for its earlier attempts and its record."
        if report.run_job_command:
            scripted = (
                "Click a job for its earlier attempts, its record, and the command that runs it on your computer."
            )
    else:
        scripted = (
            f"The table has {len(listed):,} of {total:,} jobs: {format_list(_list_parts(report, listed))}. "
            "jobs.tsv has them all. Click a job for its attempts and its record."
        )
    static = f"Without the script, and on paper, these are the {slowest:,} slowest of {total:,} jobs."
    texts = [make_tag("span", scripted, class_="scripted"), make_tag("span", static, class_="unscripted")]
    if any(is_taken(row) for row in report.jobs.rows):
        texts.append(make_tag("span", f" {TAKEN_MARK} when a worker took the job: no program began."))
    return texts


def _list_parts(report: Report, listed: Sequence[JobRow]) -> list[str]:
    """Return which jobs the table has, counted from its rows."""
    failed = sum(row.state == "failed" for row in listed)
    recovered = sum(row.state == "done" and (row.attempts or 0) > 1 for row in listed)
    others = len(listed) - failed - recovered
    parts = [
        _describe_part(failed, report.verdict.failed, "that failed"),
        _describe_part(recovered, report.jobs.recovered, "that were done on a later attempt"),
    ]
    if others:
        is_cut = len(listed) < len(report.jobs.rows)  # because the page would be too large
        which = ", slow ones first" if is_cut else ": the slowest and an even sample" if report.jobs.is_sample else ""
        parts.append(f"{others:,} others{which}")
    return [part for part in parts if part]


def _describe_part(listed: int, total: int, which: str) -> str:
    if not listed:
        return ""
    return f"all {listed:,} {which}" if listed >= total else f"{listed:,} of the {total:,} {which}"


def _draw_job(row: JobRow, causes: dict[str, str], longest: float) -> Html:
    state = name_state(row.state)
    no_program = state == ALREADY_THERE
    seconds, memory = round_number(find_seconds(row), 1), round_to_kibibytes(row.peak_memory_bytes)
    cells = (
        make_tag("code", row.job, title=row.job),
        make_tag("b", state, class_="bad") if state == "failed" else state,
        _NOT_APPLICABLE if no_program and seconds is None else _draw_time(seconds, longest, row.state),
        UNKNOWN if row.attempts is None else f"{row.attempts:,}",
        _NOT_APPLICABLE if no_program and memory is None else format_bytes(None if memory is None else 1024 * memory),
        _NOT_APPLICABLE if row.exit_code is None else str(row.exit_code),
        format_span(round_number(row.started, 0)) + (TAKEN_MARK if is_taken(row) else ""),
        name_machine(row) or UNKNOWN,
        causes.get(row.cause, row.cause),
    )
    return make_tag(
        "tr", *(make_tag("td", cell, class_=column[2]) for column, cell in zip(COLUMNS, cells, strict=True))
    )


def _draw_time(seconds: float | None, longest: float, state: str) -> Html:
    if seconds is None:
        return join_html(format_span(seconds))
    class_ = "u-failed" if state == "failed" else "u-work"
    bar = make_tag("rect", class_=class_, width=f"{max(1.0, 100 * seconds / (longest or 1.0)):.1f}%", height=8)
    return join_html(make_tag("svg", bar, width=50, height=8, aria_hidden="true"), " ", format_span(seconds))
