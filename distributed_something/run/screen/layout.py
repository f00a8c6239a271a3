"""Turns a run's status into the lines of a screen. Every line fits the given width, so that nothing wraps or tears."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from distributed_something.core.text import (
    TERMINAL_COLUMNS,
    format_cost,
    format_count,
    format_duration,
    format_one_line,
    format_wrapped_lines,
    measure_columns,
    shorten_text,
    wrap_text,
)
from distributed_something.results.causes import FAILED_TITLE, FAILING_TITLE, FailureGroup
from distributed_something.results.command_line import wrap_command
from distributed_something.results.status.document import JobNumbers, RunState, RunStatus
from distributed_something.results.status.forecast import Estimate, Speed
from distributed_something.results.summary import MAX_SHARED_VALUES_SHOWN, format_shared_value, wrap_telling_lines

LABEL_WIDTH = 7  # of "jobs", "speed", and so on
MIN_WIDTH, MAX_WIDTH = 60, 120
LINES_AROUND_GROUPS = 3  # a rule, the heading, and the number of other causes
MIN_GROUP_LINES, MAX_CAUSE_LINES = 3, 2
MAX_MESSAGES = 3
MIN_COUNTS = 4  # of jobs in the first row: done, running, waiting, failed
MIN_SLOW_SECONDS = 2.0  # faster jobs are not worth a line
MAX_DETAILED_GROUPS = 10
DETAIL_INDENT = "    "
NUMBERS_WIDTH = 18  # of a group's jobs and USD
NOTHING_WORKS = "nothing works"  # the reason of a run in which no job succeeded
TREND_BARS = "▁▂▃▄▅▆▇█"
FAILED_BAR = "╍"  # differs from the line of done jobs also without colors
_STATE_TEXTS = {
    RunState.STARTING: "waiting for the first container",
    RunState.ENDING: "the queue is empty; the run is ending",
    RunState.DONE: "every job is done",
}


@dataclass(frozen=True)
class ScreenSize:
    """Columns and rows of the terminal."""

    width: int = 80
    height: int = 24


def build_screen(status: RunStatus, group_costs: Sequence[float | None], footer: str, size: ScreenSize) -> list[Text]:
    """Return the lines of the screen, from the title to the footer.

    `group_costs`: USD per group of `status.failures`, and then of `status.failing`.
    """
    width = min(max(size.width, MIN_WIDTH), MAX_WIDTH) - 1  # some terminals wrap a line that fills the last column
    lines = [_build_title(status, width), _build_bar(status, width), *_build_numbers(status, width)]
    others = _build_slowest(status, width)
    if messages := _build_messages(status.messages, width):
        others += [_build_rule(width), *messages]
    if footer:
        others += [_build_rule(width), _cut(Text(f" {footer}", style="dim"), width)]
    space, count = size.height - len(lines) - len(others) - LINES_AROUND_GROUPS, len(status.failures)
    if status.failures and status.failing:  # they share the space, and the second list needs its own lines around it
        space = (space - LINES_AROUND_GROUPS) // 2
    space = max(MIN_GROUP_LINES, space)
    unread = status.jobs.failed - sum(len(group.jobs) for group in status.failures)
    lines += _build_failures(FAILED_TITLE, status.failures, group_costs[:count], width, space - (unread > 0))
    lines += _build_unread_failures(unread, width) if status.failures else []
    lines += _build_failures(FAILING_TITLE, status.failing, group_costs[count:], width, space)
    return [*lines, *others]


def format_failure_details(
    groups: Sequence[FailureGroup], retry_command: str = "", settled: Collection[str] = ()
) -> list[str]:
    """Return lines with an example of each of the largest groups, and the command that runs its jobs again, if any.

    `settled`: the IDs of the groups without a job that `retry` would send.
    """
    lines = []
    for group in groups[:MAX_DETAILED_GROUPS]:
        lines += _format_details(group, "" if group.id in settled else retry_command)
    if (more := len(groups) - MAX_DETAILED_GROUPS) > 0:
        lines += ["", f"… and {format_count(more, 'more cause')}: status --json lists all of them with their jobs"]
    return lines


def _format_details(group: FailureGroup, retry_command: str) -> list[str]:
    """Return lines that are at most TERMINAL_COLUMNS wide, except for the address of the log."""
    example, columns = group.example, TERMINAL_COLUMNS - len(DETAIL_INDENT)
    title, *others = wrap_text(group.cause, TERMINAL_COLUMNS - len(group.id) - 2, MAX_CAUSE_LINES)
    lines = ["", f"{group.id}  {title}", *(f"{'':{len(group.id)}}  {line}" for line in others)]
    details = [*map(format_shared_value, group.shared[:MAX_SHARED_VALUES_SHOWN])]
    details.append(f"for example {format_one_line(example.job)}")
    details += [f"| {line}" for line in wrap_telling_lines(example, columns - len("| "))]
    lines += [f"{DETAIL_INDENT}{shorten_text(detail, columns)}" for detail in details]
    if example.log:
        lines += format_wrapped_lines(f"log: {example.log}", DETAIL_INDENT, DETAIL_INDENT, TERMINAL_COLUMNS)
    command = wrap_command(f"{retry_command} --only {group.id}", columns) if retry_command else []
    return [*lines, *(f"{DETAIL_INDENT}{line}" for line in command)]


def format_status_line(status: RunStatus) -> str:
    """Return the most important numbers as one line, for output that is not a terminal."""
    jobs = status.jobs
    parts = [status.state.value, *_format_counts(jobs)]
    if jobs.submitted is not None:
        parts.append(f"of {jobs.submitted:,}")
    parts.append(format_machines(status))
    if status.cost.so_far:
        parts.append(f"{format_cost(status.cost.so_far)} USD")
    if status.remaining:
        parts.append(_format_remaining(status.remaining))
    return ", ".join(parts)


def format_machines(status: RunStatus) -> str:
    """Return text such as "3 of 4 machines"."""
    machines = status.machines
    if machines.running > machines.target:
        return f"{format_count(machines.running, 'machine')}, {machines.running - machines.target:,} stopping"
    return f"{machines.running:,} of {format_count(machines.target, 'machine')}"


def _build_title(status: RunStatus, width: int) -> Text:
    elapsed = f"{format_duration(status.elapsed)}{'' if status.state.has_ended else ' elapsed'}"
    left = Text(" ").append(format_one_line(status.app), "bold").append(f"  run {status.run}  {status.region}")
    return _join(left, Text(elapsed), width)


def _build_bar(status: RunStatus, width: int) -> Text:
    share = status.share
    if share is None:
        return _cut(Text(f" {_format_state(status) or 'the number of jobs is unknown'}"), width)
    jobs = status.jobs
    failed = min(share, jobs.failed / (jobs.submitted or 1))
    done = min(share - failed, (jobs.done + jobs.already_there) / (jobs.submitted or 1))
    label = _format_percent(share, done, failed)
    columns = width - 2 - len(label)
    full, dashes = int(columns * share), min(int(columns * share), math.ceil(columns * failed))
    lines = min(full - dashes, int(columns * done))  # how the other jobs have ended is not known yet
    bar = Text(" ").append("━" * lines, "green").append(FAILED_BAR * dashes, "red")
    bar.append("━" * (full - dashes - lines), "dim").append("─" * (columns - full), "dim")
    return bar.append(f" {label}")


def _format_percent(share: float, done: float, failed: float) -> str:
    """Return how many percent of the jobs have ended or, if at least 1 % failed, how they ended.

    A run is only at 100 % when every job has ended, and none has failed.
    """
    if failed < 0.01:
        return f"{100 if share == 1 and not failed else min(99, int(100 * share)):>3} %"
    percent = int(100 * done + 1e-9)
    failed_percent = 100 - percent if math.isclose(done + failed, 1) else int(100 * failed + 1e-9)
    return f" {percent} % done, {failed_percent} % failed"


def _build_numbers(status: RunStatus, width: int) -> list[Text]:
    jobs = status.jobs
    rows = _build_counts(jobs, width)
    if state := _format_state(status):
        rows.append(_build_row("state", state, _format_reason(status), width))
    if status.speed is not None:
        rows.append(_build_row("speed", _format_speed(status.speed), _format_remaining(status.remaining), width))
    elif status.state in (RunState.STARTING, RunState.RUNNING):
        rows.append(_build_row("speed", "unknown until more jobs have ended", "end unknown", width))
    cost = "unknown" if status.cost.so_far is None else f"{format_cost(status.cost.so_far)} USD"
    rows.append(_build_row("cost", cost, _format_cost_at_end(status), width))
    if not status.state.has_ended:
        busy = f"{status.jobs.running:,} of {format_count(status.machines.slots, 'slot')} busy"
        rows.append(_build_row("fleet", _format_fleet(status), busy, width))
    return rows


def _build_counts(jobs: JobNumbers, width: int) -> list[Text]:
    """Return one row, or two if the less important numbers do not fit."""
    total = "" if jobs.submitted is None else f"of {jobs.submitted:,}"
    counts, others = _format_counts(jobs), list[str]()
    space = width - 1 - LABEL_WIDTH - len(total) - 1
    while len("   ".join(counts)) > space and len(counts) > MIN_COUNTS:
        others.insert(0, counts.pop())
    rows = [_build_row("jobs", "   ".join(counts), total, width)]
    return [*rows, _build_row("", "   ".join(others), "", width)] if others else rows


def _format_state(status: RunStatus) -> str:
    """Return the state in words; "" while the run is running."""
    match status.state:
        case RunState.FAILED if not status.jobs.failed:
            return "the run has ended; not every job is done"
        case RunState.FAILED:
            return "the run has ended; some jobs failed"
        case RunState.STOPPED:
            return "the run has ended" + (" with jobs left" if status.jobs.waiting else _format_loss(status.jobs))
    return _STATE_TEXTS.get(status.state, "")


def _format_loss(jobs: JobNumbers) -> str:
    return "; some jobs were lost" if jobs.unaccounted else ""


def _format_reason(status: RunStatus) -> str:
    """Return why the run ended early, in the words of `monitor`; "" if it did not."""
    jobs = status.jobs
    has_others = jobs.done or jobs.already_there or jobs.left or jobs.unaccounted
    has_every_job_failed = jobs.failed and not has_others
    return "every job failed" if status.reason == NOTHING_WORKS and has_every_job_failed else status.reason


def _format_counts(jobs: JobNumbers) -> list[str]:
    counts = {"done": jobs.done, "running": jobs.running, "waiting": jobs.waiting, "failed": jobs.failed}
    texts = [f"{count:,} {name}" for name, count in counts.items()]
    texts += [f"{jobs.unaccounted:,} unaccounted for"] if jobs.unaccounted else []
    texts += [f"{jobs.replaced:,} replaced"] if jobs.replaced else []
    return [*texts, f"{jobs.already_there:,} already there"] if jobs.already_there else texts


def _format_fleet(status: RunStatus) -> str:
    interrupted = status.machines.interrupted_attempts
    more = f", {format_count(interrupted, 'attempt')} interrupted" if interrupted else ""
    return format_machines(status) + more


def _format_cost_at_end(status: RunStatus) -> str:
    estimate, limit = status.cost.at_end, status.cost.limit
    if estimate and format_cost(estimate.value) == format_cost(status.cost.so_far or 0.0):
        estimate = None
    text = f"{format_cost(estimate.value)} at the end" if estimate else ""
    if estimate and format_cost(estimate.low) != format_cost(estimate.high):
        text += f" ({format_cost(estimate.low)} to {format_cost(estimate.high)})"
    return f"{text} of {format_cost(limit)}".strip() if limit else text


def _format_remaining(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.value < 1:
        return "a moment left"
    low, high = format_duration(estimate.low), format_duration(estimate.high)
    middle = format_duration(estimate.value)
    return f"about {middle} left" + (f" ({low} to {high})" if low != high else "")


def _format_trend(values: Sequence[float]) -> str:
    most = max(values, default=0.0) or 1.0
    return "".join(TREND_BARS[min(len(TREND_BARS) - 1, int(value / most * len(TREND_BARS)))] for value in values)


def _format_speed(speed: Speed) -> str:
    """Return text such as "94 a minute", in a unit in which the number is not 0."""
    number, unit = speed.per_minute, "minute"
    for longer_unit, factor in (("hour", 60), ("day", 24)):
        if number < 1:
            number, unit = number * factor, longer_unit
    rate = f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
    trend = f"{_format_trend(speed.trend)}  " if speed.trend else ""
    return f"{trend}{rate} a{'n' if unit == 'hour' else ''} {unit}{' on average' if speed.is_average else ''}"


def _build_failures(
    title: str, groups: Sequence[FailureGroup], costs: Sequence[float | None], width: int, space: int
) -> list[Text]:
    """Return the causes in at most `space` lines, and LINES_AROUND_GROUPS. If all fit, a cause may take two lines."""
    if not groups:
        return []
    shown = list(zip(groups, costs, strict=True))[:space]
    columns = width - NUMBERS_WIDTH - len(groups[0].id) - 3
    causes = [wrap_text(group.cause, columns, MAX_CAUSE_LINES) for group, _ in shown]
    if len(groups) > len(shown) or sum(map(len, causes)) > space:
        causes = [[shorten_text(format_one_line(group.cause), columns)] for group, _ in shown]
    rows = [_build_rule(width), _join(Text(f" {title}"), Text(f"{'jobs':>8}{'USD':>10}"), width)]
    for (group, usd), (cause, *others) in zip(shown, causes, strict=True):
        numbers = f"{len(group.jobs):>8,}{'' if usd is None else format_cost(usd, short=True):>10}"
        rows.append(_join(Text(f" {group.id} {cause}"), Text(numbers), width))
        rows += [_cut(Text(f" {'':{len(group.id)}} {line}"), width) for line in others]
    if len(groups) > len(shown):
        jobs = sum(len(group.jobs) for group in groups[len(shown) :])
        more = format_count(len(groups) - len(shown), "more cause")
        rows.append(_join(Text(f" … and {more}; status --json lists all of them"), Text(f"{jobs:>8,}{'':>10}"), width))
    return rows


def _build_unread_failures(count: int, width: int) -> list[Text]:
    """Return a row for failed jobs in no group: a journal's line was not read yet, or there are too many failures."""
    if count <= 0:
        return []
    return [_join(Text(" … and failed jobs that are not grouped yet"), Text(f"{count:>8,}{'':>10}"), width)]


def _build_slowest(status: RunStatus, width: int) -> list[Text]:
    """Return a row with as many of the slowest jobs as fit, at least one."""
    if not status.slowest or status.slowest[0].seconds < MIN_SLOW_SECONDS:
        return []
    median = status.median_seconds  # of the jobs that are done
    right = "" if median is None else f"(median {format_duration(median)})"
    space = width - 1 - LABEL_WIDTH - len(right) - 1
    jobs = [f"{format_one_line(slow.job)} {format_duration(slow.seconds)}" for slow in status.slowest]
    while len(jobs) > 1 and measure_columns(", ".join(jobs)) > space:
        jobs.pop()
    if len(jobs) == 1:
        time = format_duration(status.slowest[0].seconds)
        jobs = [f"{shorten_text(format_one_line(status.slowest[0].job), space - len(time) - 1)} {time}"]
    return [_build_row("slow", ", ".join(jobs), right, width)]


def _build_messages(messages: Sequence[str], width: int) -> list[Text]:
    lines: list[str] = []
    for message in messages[:MAX_MESSAGES]:
        first, *others = wrap_text(message, max(1, width - 4), 2)
        lines += [f" {first}", *(f"   {line}" for line in others)]
    return [_cut(Text(line), width) for line in lines]


def _build_row(label: str, text: str, right: str, width: int) -> Text:
    return _join(Text(f" {label:<{LABEL_WIDTH}}").append(text), Text(right), width)


def _build_rule(width: int) -> Text:
    return Text(f" {'─' * (width - 1)}", style="dim")


def _join(left: Text, right: Text, width: int) -> Text:
    """Return the left text, shortened if necessary, and the right text at the end of the line."""
    space = width - right.cell_len
    return _cut(left, space - (1 if right else 0)).append(" " * max(0, space - min(left.cell_len, space))).append(right)


def _cut(text: Text, width: int) -> Text:
    """Shorten the text to `width` columns; it then ends with an ellipsis."""
    if cell_len(text.plain) > width:
        text.truncate(max(0, width), overflow="ellipsis")
        text.plain = set_cell_size(text.plain, max(0, width)) if cell_len(text.plain) > width else text.plain
    return text
