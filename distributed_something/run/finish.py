"""`run.py monitor`: watch the run to its end, clean up (what costs money ends first), then sum up."""

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


NO_TRACE_MESSAGE = "\n".join(
    [
        format_row("NO TRACE", "neither queue {queue} nor fleet {fleet} was there: if the run had not ended,"),
        format_row("", "its jobs are gone with the queue; setup, submitJob and startCluster run what is not done"),
    ]
)


class _Watched:
    """Shows what the monitor sees, and keeps what the summary needs of it."""

    def __init__(self, view: MonitorView) -> None:
        self.view = view
        self.machines: set[str] = set()
        self.seen = False  # whether any look saw the run's queue or its fleet

    def show(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        self.machines.update(snapshot.fleet.machines if snapshot.fleet else ())
        self.seen = self.seen or snapshot.queue is not None or snapshot.fleet is not None
        self.view.show(snapshot, history)

    def say(self, text: str) -> None:
        self.view.say(text)


def monitor_run(context: RunContext, run: MonitorFile, *, cheapest: bool, pace: Pace) -> bool:
    """Watch the run and clean up; return whether everything that it made is gone, or kept on purpose. Raises CloudError
    where AWS refuses for good."""
    clients = context.clients
    if cheapest:
        save_cheapest_mode(run, clients.s3)
    with MonitorView(run, context.output) as view:
        watched = _Watched(view)
        try:
            last = watch_run(clients, run, context.clock, watched, cheapest=cheapest, pace=pace)
        except CloudError as error:  # an end that keeps the jobs
            if watched.seen:
                _save_summary(clients, run, str(error))
            raise
    dead_letter_queue = determine_dead_letter_queue(context, run)
    request = CleanupRequest(run, dead_letter_queue, pause=min(pace.look, 10), ended=last.ended)
    return _finish_run(context, request, watched)


def _finish_run(context: RunContext, request: CleanupRequest, watched: _Watched) -> bool:
    """Clean up, prove it, sum up. A summary of the run's true end may lie in the bucket already where no look saw the
    run: then it stays."""
    clients, clock, run = context.clients, context.clock, request.monitor_file
    continue_log_export(clients, run, clock.now())
    report = delete_run_resources(clients, request, clock.sleep)
    report.exports = continue_log_export(clients, run, clock.now())
    told = [format_cleanup_report(report)]
    context.output.print_result(told[0])
    names = RunNames(run, request.dead_letter_queue, tagged=report.next_batch is not None)
    left = wait_for_removal(clients, names, clock.sleep, pause=request.pause)
    told += [] if left.clean else [format_inventory(left)]
    clean = report.complete and left.clean and watched.seen
    try:
        summary = load_run_summary(clients, run, request.dead_letter_queue)
        told.append(format_run_end(summary, run, len(watched.machines), clock.now()))
    except CloudError as error:
        told.append(str(error))
        clean = False
    if watched.seen:
        _save_summary(clients, run, "\n".join(told))
    else:
        told.append(NO_TRACE_MESSAGE.format(queue=run.MONITOR_QUEUE_NAME, fleet=run.MONITOR_FLEET_ID))
    context.output.print_result("\n".join(told[1:]))
    return clean


def _save_summary(clients: Clients, run: MonitorFile, words: str) -> None:
    with suppress(*AWSError):  # it is printed
        save_run_summary(clients.s3, run, words)
