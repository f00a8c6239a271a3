"""`run.py monitor`: watch the run to its end, clean up, and print a summary.

Everything that costs money is stopped first.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import observe_fleet
from distributed_something.aws.task_definition import STOP_SECONDS
from distributed_something.core.errors import AWSError, CloudError, translate_aws_errors
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import format_row, wrap_wide_lines
from distributed_something.observe.service import observe_service
from distributed_something.observe.snapshot import observe_run
from distributed_something.results.causes import FailureGroup
from distributed_something.results.summary import RunSummary, find_run_summary, save_run_summary
from distributed_something.run.cleanup.clean_up import determine_dead_letter_queue
from distributed_something.run.cleanup.export_logs import continue_log_export
from distributed_something.run.cleanup.inventory import RunNames, format_inventory, wait_for_removal
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.monitor.loop import Tick, stop_unfinished_run, watch_run
from distributed_something.run.monitor.machine_ends import record_last_machines
from distributed_something.run.monitor.policy import EndReason, Pace
from distributed_something.run.monitor_file_copy import save_cheapest_mode
from distributed_something.run.notifications.notifier import notify_end, notify_nothing_works
from distributed_something.run.report.make_report import save_end_report
from distributed_something.run.run_outcome import EndedRun, format_earlier_end
from distributed_something.run.run_status import RunView, compute_group_costs
from distributed_something.run.screen.view import StatusView
from distributed_something.run.screen.watcher import RunWatcher

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.run.run_context import RunContext


# A container has STOP_SECONDS to stop. Before that, ECS needs a moment to ask it, and then to report that it stopped.
MAX_STOP_SECONDS, STOP_CHECK_SECONDS = STOP_SECONDS + 60.0, 2.0
WATCH_FOOTER = "Ctrl-C stops watching; machines keep costing money until monitor runs again"
EARLIER_END_MESSAGE = "this run has ended before; its summary:"
OTHER_END_MESSAGE = "another monitor has ended this run; its summary:"
RUN_NOT_FOUND_MESSAGE = "\n".join(
    [
        format_row("NOT FOUND", "neither queue {queue}"),
        format_row("", "nor fleet {fleet} exists."),
        format_row("", "If the run had not ended, its jobs were lost with the queue: run"),
        format_row("", "setup, submitJob, and startCluster to process the remaining jobs."),
    ]
)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    `is_clean`: whether everything that should be removed is removed. `is_complete`: whether every job is done.
    `failures`: the failed jobs by cause; none if they are unknown, as at an earlier end.
    """

    is_clean: bool
    is_complete: bool
    failures: tuple[FailureGroup, ...] = field(default=(), compare=False)


def monitor_run(context: RunContext, run: MonitorFile, *, cheapest: bool, pace: Pace) -> RunEnd:
    """Watch the run until it is over, clean up, and print the summary. Return how the run ended.

    If the run ended earlier, print the summary of that end, which is not changed. Raise CloudError if AWS denies access
    at the start, or if machines cannot be stopped.
    """
    clients, clock = context.clients, context.clock
    earlier = _find_earlier_summary(clients, run)
    had_end = earlier is not None and earlier.is_clean
    if had_end and not _has_machines(clients, run):
        return _report_earlier_end(context, run, earlier, is_clean=True)  # what exists now is the next run's
    if cheapest:
        save_cheapest_mode(clients.s3, run)
    view = RunView.open(clients, run)
    with StatusView(context.output, WATCH_FOOTER, compute_group_costs) as screen:
        watcher = RunWatcher(screen, view)
        tick = watch_run(clients, run, watcher, clock, cheapest=cheapest, pace=pace)
    ended_run = EndedRun(clients, run, tick)
    if tick.end_reason is EndReason.RUN:
        lines, is_clean = _clean_up(context, run, tick, ended_run, pace)
    else:
        lines, is_clean = [wrap_wide_lines(stop_unfinished_run(clients, run, tick))], True
        if tick.end_reason is EndReason.NOTHING_WORKS:
            _print_note(context, notify_nothing_works(clients, run, tick.snapshot, tick.history))
        ended_run.tick = _observe_stopped_run(context, view, tick, pace)
    earlier = _find_earlier_summary(clients, run)
    is_known = watcher.has_found_run or tick.history.start is not None
    if (earlier is not None and earlier.is_clean) or not is_known:
        is_watched = watcher.has_found_run and not had_end
        return _report_earlier_end(context, run, earlier, is_clean=is_clean, is_watched=is_watched)
    if tick.end_reason is not EndReason.RUN:
        context.output.print_result(lines[0])
    return _report_end(context, run, tick.end_reason, ended_run, lines, is_clean=is_clean)


def _observe_stopped_run(context: RunContext, view: RunView, tick: Tick, pace: Pace) -> Tick:
    """Wait until the containers have stopped, because jobs end in them until then, and observe the run once more."""
    clients, run, clock = context.clients, view.file, context.clock
    deadline = clock.now() + MAX_STOP_SECONDS
    with suppress(*AWSError):
        while clock.now() < deadline:
            service = observe_service(clients.ecs, run.MONITOR_ECS_CLUSTER, run.names.service)
            if service is None or not service.running:
                break
            clock.sleep(min(pace.interval_seconds, STOP_CHECK_SECONDS))
        return replace(tick, snapshot=observe_run(clients, run, tick.history.start, view.caches, clock.now()))
    return tick


def _clean_up(
    context: RunContext, run: MonitorFile, tick: Tick, ended_run: EndedRun, pace: Pace
) -> tuple[list[str], bool]:
    """Remove what the run created; return the text about it, and whether nothing is left."""
    clients, clock = context.clients, context.clock
    dead_letter_queue = determine_dead_letter_queue(context, run)
    request = CleanupRequest(
        run, dead_letter_queue, pause=min(pace.interval_seconds, 10), ended_at=tick.history.ended,
        count_recorded_failures=ended_run.count_recorded_failures,
    )  # fmt: skip
    continue_log_export(clients, run, clock.now())
    report = delete_run_resources(clients, request, clock.sleep)
    report.exports = continue_log_export(clients, run, clock.now())
    texts = [format_cleanup_report(report)]
    context.output.print_result(texts[0])
    names = RunNames(run, request.dead_letter_queue, tagged=report.next_batch is not None)
    inventory = wait_for_removal(clients, names, clock.sleep, pause=request.pause)
    if not inventory.is_clean:
        texts.append(format_inventory(inventory))
        context.output.print_result(texts[1])
    return texts, report.is_complete and inventory.is_clean


def _report_end(
    context: RunContext, run: MonitorFile, reason: EndReason | None, ended_run: EndedRun, lines: list[str], *,
    is_clean: bool,
) -> RunEnd:  # fmt: skip
    """Print the outcome, and save it with `lines`, which are already printed."""
    outcome, note, steps = None, "", ""
    try:
        with translate_aws_errors("reading the journals and records of the run"):
            outcome, note = ended_run.outcome, ended_run.save_job_table()
            ended_run.forecast_next_run()
            text = ended_run.format_outcome()
            steps = ended_run.format_next_steps(context.command_line)
    except CloudError as error:
        text, is_clean = str(error), False
    _print_note(context, note)
    report, text = "\n".join([*lines, text]), "\n".join(filter(None, [text, steps]))
    context.output.print_result(text)
    end = RunEnd(is_clean, outcome is not None and outcome.is_complete, outcome.groups if outcome else ())
    summary = RunSummary(
        reason.value if reason else "", end.is_clean, end.is_complete, "\n".join([*lines, text]), ended_run.ended,
        report=report, start_failure=ended_run.start_failure,
    )  # fmt: skip
    with suppress(*AWSError):  # the summary is printed in any case
        save_run_summary(context.clients.s3, run, summary, outcome)
    _print_note(context, notify_end(context.clients, run, ended_run.build_end_facts(outcome, is_clean=end.is_clean)))
    if outcome is not None:
        record_last_machines(context.clients, run, ended_run.tick.history, context.clock.now())
        context.output.print_progress(
            save_end_report(context.clients, ended_run, summary.reason, context.command_line, context.clock.now())
        )
    return end


def _print_note(context: RunContext, note: str) -> None:
    if note:
        context.output.print_progress(note)


def _report_earlier_end(
    context: RunContext, run: MonitorFile, earlier: RunSummary | None, *, is_clean: bool,
    is_watched: bool = False,
) -> RunEnd:  # fmt: skip
    """Print the summary of an earlier end, or that there is no such run.

    `is_watched`: whether another monitor has ended the run while this one watched it.
    """
    if earlier is None:
        names = {"queue": run.MONITOR_QUEUE_NAME, "fleet": run.MONITOR_FLEET_ID}
        context.output.print_result(RUN_NOT_FOUND_MESSAGE.format(**names))
        return RunEnd(is_clean=False, is_complete=False)
    text = earlier.text
    with suppress(*AWSError):  # the saved text has the same advice, with commands as they were typed elsewhere
        text = format_earlier_end(context.clients, run, earlier, context.command_line, context.clock.now())
    context.output.print_result(f"{OTHER_END_MESSAGE if is_watched else EARLIER_END_MESSAGE}\n{text}")
    if is_watched:  # the other monitor is still making it
        address = f"s3://{run.MONITOR_BUCKET_NAME}/{run.keys.report}"
        context.output.print_progress(format_row("report", f"{address} (in a few minutes)"))
    return RunEnd(is_clean, earlier.is_complete)


def _has_machines(clients: Clients, run: MonitorFile) -> bool:
    """Return whether the run's fleet is active or still has machines. Raise CloudError if AWS reports an error."""
    with translate_aws_errors("looking for the run's fleet"):
        fleet = observe_fleet(clients.ec2, run.MONITOR_FLEET_ID)
    return fleet is not None and (fleet.is_active or bool(fleet.machines))


def _find_earlier_summary(clients: Clients, run: MonitorFile) -> RunSummary | None:
    with translate_aws_errors("looking for an earlier summary of the run"):
        return find_run_summary(clients.s3, run)
