"""Makes the report of a run, during the run or after it, and saves it as a file or in the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed_something.core.errors import CloudError, UserFacingError, translate_aws_errors
from distributed_something.core.text import format_one_line, format_row
from distributed_something.observe.snapshot import RunCaches, observe_run
from distributed_something.results.command_line import CommandLine
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.report.data import Report
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.build_report import build_report
from distributed_something.results.report.page import write_page
from distributed_something.results.status.document import RunState, choose_ended_state
from distributed_something.results.summary import RunSummary, find_run_summary
from distributed_something.run.monitor.history import RunHistory, compute_cost_since, load_history
from distributed_something.run.report.run_facts import RunMoment, gather_run_facts
from distributed_something.run.run_outcome import EndedRun, load_current_outcome, load_ended_outcome
from distributed_something.run.run_status import choose_current_state, find_run_end

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

CONTENT_TYPE = "text/html; charset=utf-8"
FAILURE_NOTE = "note: report.html could not be made: {}; to try again, type: {}"


def load_report(clients: Clients, file: MonitorFile, line: CommandLine, now: float) -> Report:
    """Return the report of a run that has not ended or of one that has. `now`: seconds since 1970.

    AWS errors are not caught. Raise CloudError if the disk is full.
    """
    summary = find_run_summary(clients.s3, file)
    history, now = load_history(clients.s3, file, now)
    table = AttemptTable(file.MONITOR_START_TIME / 1000, now)
    try:
        if summary is not None and summary.is_clean:
            outcome = load_ended_outcome(clients, file, summary, attempts=table)
            moment = _describe_end(file, summary, history, outcome, now)
        else:
            outcome = load_current_outcome(clients, file, now, table)
            moment = _observe_moment(clients, file, history, outcome, table, now)
        return _build_report(clients, file, moment, outcome, table, line)
    finally:
        table.close()


def save_end_report(clients: Clients, ended_run: EndedRun, reason: str, line: CommandLine, now: float) -> str:
    """Save the report of a run that has just ended in the bucket. Return the line to print about it.

    `reason`: why the run ended, as in its summary. No error is raised, because the run has ended in any case.
    """
    file, table = ended_run.file, ended_run.attempts
    command = line.format_command("report", line.monitor_file)
    try:
        with translate_aws_errors(f"writing {file.keys.report}"):
            outcome = ended_run.outcome
            table = ended_run.attempts
            if table is None:
                count = ended_run.tick.snapshot.totals.attempts
                return FAILURE_NOTE.format(f"{count:,} attempts are too many for the auto-monitor", command)
            state = choose_ended_state(reason=reason, is_complete=outcome.is_complete)
            cost = ended_run.tick.history.cost or None
            moment = RunMoment(state, now, ended_run.ended, 0, cost, has_waiting=outcome.left > 0)
            save_report(clients, file, _build_report(clients, file, moment, outcome, table, line))
    except UserFacingError as error:
        return FAILURE_NOTE.format(format_one_line(str(error)), command)
    except Exception as error:  # even a bug must not keep the run's end from being said; the note names the error
        return FAILURE_NOTE.format(format_one_line(f"{type(error).__name__}: {error}"), command)
    finally:
        if table is not None:
            table.close()
    return format_row("report", f"s3://{file.MONITOR_BUCKET_NAME}/{file.keys.report}")


def save_report(clients: Clients, file: MonitorFile, report: Report) -> None:
    """Write the page to the bucket. AWS errors are not caught."""
    clients.s3.put_object(
        Bucket=file.MONITOR_BUCKET_NAME, Key=file.keys.report, Body=render_page(report), ContentType=CONTENT_TYPE
    )


def render_page(report: Report) -> bytes:
    """Return the page in UTF-8; it has at most a few megabytes."""
    chunks: list[bytes] = []
    write_page(report, lambda text: chunks.append(text.encode(errors="replace")))
    return b"".join(chunks)


def _build_report(
    clients: Clients, file: MonitorFile, moment: RunMoment, outcome: RunOutcome, table: AttemptTable, line: CommandLine
) -> Report:
    try:
        if table.problem:
            raise CloudError(table.problem)
        return build_report(gather_run_facts(clients, file, moment, line), outcome, table)
    except OSError as error:
        raise CloudError(f"a temporary file: {error}") from error


def _describe_end(
    file: MonitorFile, summary: RunSummary, history: RunHistory, outcome: RunOutcome, now: float
) -> RunMoment:
    ended = find_run_end(file, summary, history)
    state = choose_ended_state(reason=summary.reason, is_complete=summary.is_complete)
    return RunMoment(state, now, ended, 0, history.cost or None, has_waiting=outcome.left > 0)


def _observe_moment(
    clients: Clients, file: MonitorFile, history: RunHistory, outcome: RunOutcome, table: AttemptTable, now: float
) -> RunMoment:
    snapshot = observe_run(clients, file, history.start, RunCaches(clients.s3, file), now, history.until)
    state, ended = choose_current_state(snapshot, history), None
    if state.has_ended:  # nobody watched the run to its end
        ended = max([history.at or 0.0, *(table.start + time for time in table.ended if time == time)])
    cost = history.cost + (0.0 if state.has_ended else compute_cost_since(history, snapshot))
    running = min(snapshot.running, outcome.left) if state is not RunState.STARTING else 0
    return RunMoment(state, snapshot.at, ended, running, cost or None, has_waiting=outcome.left > 0)
