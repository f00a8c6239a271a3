"""Prints a run's status once, or shows it again and again until the run has ended."""

from __future__ import annotations

import json
from dataclasses import replace

from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, explain_aws_error, needs_new_login
from distributed_something.results.advice import choose_current_advice
from distributed_something.results.causes import FAILING_TITLE
from distributed_something.results.command_line import CommandLine, format_next_command
from distributed_something.results.job_counter import JobCounts
from distributed_something.results.job_source import find_job_source
from distributed_something.results.outcome import add_example_details
from distributed_something.results.status.advice_text import format_advice, format_current_advice
from distributed_something.results.status.document import RunStatus, build_status_document
from distributed_something.run.monitor.start_failure import format_start_failure
from distributed_something.run.output import Output
from distributed_something.run.run_status import RunView, compute_group_costs, observe_status
from distributed_something.run.screen.layout import ScreenSize, build_screen, format_failure_details
from distributed_something.run.screen.view import StatusView

PRINTED_ROWS = 40  # for a status that is printed once, which may be longer than the terminal


def print_status(view: RunView, status: RunStatus, output: Output, line: CommandLine, *, as_json: bool) -> None:
    """Print the status to standard output and, after the run, what to do next. AWS errors are not caught."""
    has_batch = status.advice is not None and status.advice.batch is not None
    # While the run goes on, the command is for its end, as in the advice; the queue is then empty.
    has_waiting = has_batch or (status.state.has_ended and status.jobs.left > 0)
    retry_command = line.format_retry(has_waiting=has_waiting)
    if not status.state.has_ended:
        failures, failing = (
            add_example_details(view.clients.s3, view.file, groups) for groups in (status.failures, status.failing)
        )
        status = replace(status, failures=failures, failing=failing)
    costs = compute_group_costs(status)
    if as_json:
        output.print_result(json.dumps(build_status_document(status, retry_command, costs), indent=1))
        return
    lines = [line.plain.rstrip() for line in build_screen(status, costs, "", ScreenSize(height=PRINTED_ROWS))]
    settled = {group.id for group in status.failures if not status.has_group_retry(group)}
    lines += [
        *format_failure_details(status.failures, retry_command if status.state.has_ended else "", settled),
        *(["", f"{FAILING_TITLE}:"] if status.failing else []),
        *format_failure_details(status.failing),
    ]
    if status.start_failure is not None:
        lines += ["", *format_start_failure(status.start_failure, line)]
    output.print_result("\n".join(lines))
    if status.advice is not None:
        output.print_result("\n" + format_advice(status.advice, line))
    elif not status.state.has_ended:
        _print_current_advice(view, status, output, line)
    elif status.has_retry:
        output.print_result(f"\n{format_next_command(retry_command)}")


def _print_current_advice(view: RunView, status: RunStatus, output: Output, line: CommandLine) -> None:
    failures, failing = (
        [failed for group in groups for failed in group.jobs] for groups in (status.failures, status.failing)
    )
    if not (failures or failing):
        return
    source = find_job_source(view.clients, view.file, status.at, status.at)
    counts = JobCounts(status.jobs.done, status.jobs.already_there, len(failures))
    advice, is_urgent = choose_current_advice(failures, failing, counts, status.jobs.left, source)
    if advice is not None:
        output.print_result("\n" + format_current_advice(advice, line, is_urgent=is_urgent))


def watch_status(view: RunView, output: Output, clock: Clock, *, pause: float, footer: str) -> RunStatus:
    """Show the status every `pause` seconds until the run has ended; return the last one.

    If AWS reports an error, print it and retry, unless this was the first look or the user must log in again.
    """
    with StatusView(output, footer, compute_group_costs, is_removed=True) as screen:  # print_status shows the end
        status = None
        while True:
            try:
                status = observe_status(view, clock.now())
            except AWSError as error:
                if status is None or needs_new_login(error):
                    raise
                screen.print_progress(f"{explain_aws_error('looking at the run', error)} (retrying)")
            else:
                screen.show_status(status)
                if status.state.has_ended:
                    return status
            clock.sleep(pause)
