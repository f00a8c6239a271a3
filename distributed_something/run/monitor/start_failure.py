"""The text about a run that ends because none of its containers starts, or because every job failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distributed_something.core.aws_errors import (
    SERVICE_FAILURE_PATTERNS,
    TASK_FAILURE_PATTERNS,
    FailurePattern,
    find_failure_pattern,
)
from distributed_something.core.errors import AWSError, format_lookup_error
from distributed_something.core.failures.remedies import (
    CRASH_REMEDY,
    CRASH_REMEDY_WITHOUT_IMAGE,
    IMAGE_REMEDY,
    JOINING_REMEDY,
    Remedy,
    format_remedy,
)
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_duration,
    format_one_line,
    format_row,
    format_wrapped_lines,
)
from distributed_something.observe.containers import StartFailure, find_start_failure
from distributed_something.results.advice import Advice
from distributed_something.results.command_line import CommandLine, build_run_line
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.unusable import UNUSABLE_MESSAGE

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients

NO_CONTAINER_MESSAGE = (
    "no container has started in {duration}, although machines are running. The machines were stopped, and the queue"
    " was kept"
)
STOPPED_CONTAINERS_MESSAGE = (
    "{containers} started and stopped without taking a job in {duration}. The machines were stopped, and the queue was"
    " kept"
)
LOGGED_FAILURE_REMEDY = "correct what the lines below show, and type what `next` says"


def describe_start_failure(clients: Clients, file: MonitorFile, seconds: float) -> str:
    """Return the text about a run without any container: what happened, why, and the container's last log lines.

    `seconds`: how long the run has had machines. AWS errors become part of the text, because the machines must be
    stopped in any case.
    """
    duration = format_duration(seconds)
    message = NO_CONTAINER_MESSAGE.format(duration=duration)
    try:
        failure = find_start_failure(clients, file)
    except AWSError as error:
        return "\n".join([message, *_format_fact("cause", f"unknown: {format_lookup_error(error)}")])
    if failure.started:
        containers = format_count(failure.started, "container")
        message = STOPPED_CONTAINERS_MESSAGE.format(containers=containers, duration=duration)
    return "\n".join([message, *format_start_failure(failure, build_run_line(file))])


def format_start_outcome(failure: StartFailure) -> str:
    """Return in a few words what became of the run's containers."""
    if not failure.started:
        return "no container has started"
    return f"{format_count(failure.started, 'container')} started and stopped without taking a job"


def describe_unusable_machines(history: RunHistory) -> str:
    """Return the text about a run whose machines do not join the cluster: what happened, and what to do."""
    message = UNUSABLE_MESSAGE.format(rounds=history.unusable_rounds, machine=history.unusable_machine)
    return "\n".join([message, *_format_fact("remedy", JOINING_REMEDY)])


def format_start_failure(failure: StartFailure, line: CommandLine) -> list[str]:
    """Return the lines about the cause, its remedy, AWS's message, and the container's log.

    `line`: says where workers run.
    """
    pattern = _find_pattern(failure)
    remedy = _select_remedy(pattern.remedy, pattern.remedy_without_image, line) if pattern else ""
    if pattern and _is_logged(failure, pattern):
        remedy = LOGGED_FAILURE_REMEDY
    code = f" (exit code {failure.exit_codes[0]})" if failure.exit_codes else ""
    facts = {
        "cause": pattern.cause if pattern else "",
        "remedy": remedy,
        "ECS": format_one_line(failure.message) + code if failure.message else "reports nothing",
    }
    lines = [line for label, text in facts.items() if text for line in _format_fact(label, text)]
    if failure.lines:
        lines.append("the container's last lines:")
        lines += [f"  | {format_log_line(line)}" for line in failure.lines]
    return lines


def mention_remedy(advice: Advice | None, failure: StartFailure | None) -> Advice | None:
    """Return the advice, which refers to the remedy in the lines about this failure, if there is one."""
    pattern = None if failure is None else _find_pattern(failure)
    if advice is None or failure is None or pattern is None or _is_logged(failure, pattern):
        return advice
    return replace(advice, has_remedy=True)


def _is_logged(failure: StartFailure, pattern: FailurePattern) -> bool:
    """Return whether the worker's own log explains the failure."""
    return bool(failure.lines and pattern.exit_codes) and pattern.remedy != IMAGE_REMEDY


def _find_pattern(failure: StartFailure) -> FailurePattern | None:
    table = (*TASK_FAILURE_PATTERNS, *SERVICE_FAILURE_PATTERNS)
    report = " ".join([failure.message, *failure.lines])  # a wrong processor type is reported only in the log
    return find_failure_pattern(table, failure.kind, report, failure.exit_codes)


def format_worker_crash(failure: StartFailure, line: CommandLine) -> list[str]:
    """Return the lines about a worker that died while it ran jobs: its exit code, what to do, and its log.

    `line`: says where workers run.
    """
    codes = ", ".join(map(str, failure.exit_codes))
    lines = _format_fact("worker", f"it died while it ran these jobs: its container ended with exit code {codes}")
    lines += _format_fact("remedy", _select_remedy(CRASH_REMEDY, CRASH_REMEDY_WITHOUT_IMAGE, line))
    if failure.lines:
        lines.append("the container's last lines:")
        lines += [f"  | {format_log_line(line)}" for line in failure.lines]
    return lines


def _select_remedy(remedy: Remedy, remedy_without_image: Remedy | None, line: CommandLine) -> str:
    if remedy_without_image is not None and not line.has_image:
        remedy = remedy_without_image
    return format_remedy(remedy, is_pushed=line.is_pushed, memory=line.memory_remedy)


def format_log_line(line: str) -> str:
    """Return a log line with its indentation, in which unprintable characters are escaped."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return indent + format_one_line(line)


def _format_fact(label: str, text: str) -> list[str]:
    return format_wrapped_lines(text, format_row(label, ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
