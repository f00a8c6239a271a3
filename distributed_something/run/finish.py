"""`run.py monitor`: watch the run to its end, clean up, and print a summary.

Everything that costs money is stopped first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError, CloudError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import format_row
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results.summary import format_run_end, load_run_summary, save_run_summary
from distributed_something.run.cleanup.clean_up import determine_dead_letter_queue
from distributed_something.run.cleanup.export_logs import continue_log_export
from distributed_something.run.cleanup.inventory import RunNames, format_inventory, wait_for_removal
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.loop import watch_run
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.monitor.view import MonitorView
from distributed_something.run.monitor_file_copy import save_cheapest_mode

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.run.run_context import RunContext


RUN_NOT_FOUND_MESSAGE = "\n".join(
    [
        format_row("NOT FOUND", "neither queue {queue}"),
        format_row("", "nor fleet {fleet} exists."),
        format_row("", "If the run had not ended, its jobs were lost with the queue: run"),
        format_row("", "setup, submitJob, and startCluster to process the remaining jobs."),
    ]
)


class _RunWatcher:
    """Shows the monitor's snapshots, and collects what the summary needs."""

    def __init__(self, view: MonitorView) -> None:
        self.view = view
        self.machines: set[str] = set()
        self.has_found_run = False  # whether any snapshot contained the run's queue or fleet

    def show_snapshot(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        self.machines.update(snapshot.fleet.machines if snapshot.fleet else ())
        self.has_found_run = self.has_found_run or snapshot.queue is not None or snapshot.fleet is not None
        self.view.show_snapshot(snapshot, history)

    def print_progress(self, text: str) -> None:
        self.view.print_progress(text)


def monitor_run(context: RunContext, run: MonitorFile, *, cheapest: bool, pace: Pace) -> bool:
    """Watch the run and clean up; return whether everything that the run created was deleted or kept on purpose.

    Raise CloudError if AWS denies access at the start, or if the run ends with jobs still in its queue.
    """
    clients = context.clients
    if cheapest:
        save_cheapest_mode(clients.s3, run)
    with MonitorView(run, context.output) as view:
        watcher = _RunWatcher(view)
        try:
            history = watch_run(clients, run, watcher, context.clock, cheapest=cheapest, pace=pace)
        except CloudError as error:  # usually because the run ended with jobs still in its queue
            if watcher.has_found_run:
                _save_summary(clients, run, str(error))
            raise
    dead_letter_queue = determine_dead_letter_queue(context, run)
    request = CleanupRequest(run, dead_letter_queue, pause=min(pace.interval_seconds, 10), ended_at=history.ended)
    return _finish_run(context, request, watcher)


def _finish_run(context: RunContext, request: CleanupRequest, watcher: _RunWatcher) -> bool:
    """Clean up, verify that nothing is left, and print the summary; return whether all of these steps succeeded.

    If no snapshot contained the run's queue or fleet, the run had probably ended earlier. The bucket may then contain
    its real summary, so that file is not overwritten.
    """
    clients, clock, run = context.clients, context.clock, request.monitor_file
    continue_log_export(clients, run, clock.now())
    report = delete_run_resources(clients, request, clock.sleep)
    report.exports = continue_log_export(clients, run, clock.now())
    texts = [format_cleanup_report(report)]
    context.output.print_result(texts[0])
    names = RunNames(run, request.dead_letter_queue, tagged=report.next_batch is not None)
    inventory = wait_for_removal(clients, names, clock.sleep, pause=request.pause)
    texts += [] if inventory.is_clean else [format_inventory(inventory)]
    is_clean = report.is_complete and inventory.is_clean and watcher.has_found_run
    try:
        summary = load_run_summary(clients, run, request.dead_letter_queue)
        texts.append(format_run_end(summary, run, len(watcher.machines), clock.now()))
    except CloudError as error:
        texts.append(str(error))
        is_clean = False
    if watcher.has_found_run:
        _save_summary(clients, run, "\n".join(texts))
    else:
        texts.append(RUN_NOT_FOUND_MESSAGE.format(queue=run.MONITOR_QUEUE_NAME, fleet=run.MONITOR_FLEET_ID))
    context.output.print_result("\n".join(texts[1:]))
    return is_clean


def _save_summary(clients: Clients, run: MonitorFile, summary: str) -> None:
    with suppress(*AWSError):  # the summary is printed in any case
        save_run_summary(clients.s3, run, summary)
