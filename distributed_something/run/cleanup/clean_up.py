"""`run.py cleanup`: remove everything that a run made, or list what is left of it, or of older runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.queue import observe_queue
from distributed_something.run.cleanup.find_run import (
    QUEUE_COUNT_PAUSE_SECONDS,
    check_cleanup_safety,
    recover_monitor_file,
)
from distributed_something.run.cleanup.inventory import (
    RunNames,
    format_inventory,
    observe_all_resources,
    wait_for_removal,
)
from distributed_something.run.cleanup.orphans import (
    delete_orphans,
    find_orphans,
    format_orphan_removal,
    format_orphans,
)
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report

if TYPE_CHECKING:
    from distributed_something.run.run_context import RunContext


def clean_up_and_verify(
    context: RunContext, run: MonitorFile | None, where: Path, *, yes: bool, failed_too: bool
) -> bool:
    """Remove the run, or without one, everything of the app; return whether nothing is left. `where`: the file that
    errors name.

    Raises InputError where jobs would be lost, CloudError where AWS does not even let it look.
    """
    clients, clock = context.clients, context.clock
    found = run or recover_monitor_file(context.settings, clients, clock.now)
    pause = min(QUEUE_COUNT_PAUSE_SECONDS, context.pause)  # the counts of the local queue are exact
    check_cleanup_safety(clients, found, where, clock, yes=yes, pause=pause)
    dead_letter_queue = determine_dead_letter_queue(context, found)
    request = CleanupRequest(
        found, dead_letter_queue, pause=context.pause, whole_app=run is None, failed_too=failed_too
    )
    report = delete_run_resources(clients, request, clock.sleep)
    context.output.print_result(format_cleanup_report(report))
    left = wait_for_removal(clients, RunNames(found, dead_letter_queue), clock.sleep, pause=context.pause)
    context.output.print_result(format_inventory(left))
    return report.complete and left.clean


def report_remaining_resources(context: RunContext, run: MonitorFile | None) -> bool:
    """List what is left of the run, or without one, of all runs of the account; return whether nothing is."""
    if run is None:
        left = observe_all_resources(context.clients)
    else:
        names = RunNames(run, determine_dead_letter_queue(context, run))
        left = wait_for_removal(context.clients, names, context.clock.sleep, pause=context.pause)
    context.output.print_result(format_inventory(left))
    return left.clean


def clean_up_stale_runs(context: RunContext, *, yes: bool) -> bool:
    """List what older runs left, and with `yes` remove what is surely theirs; return whether nothing of that is left,
    and everything could be looked at."""
    found = find_orphans(context.clients, context.clock.now)
    context.output.print_result(format_orphans(found))
    if yes:
        removal = delete_orphans(context.clients, found)
        if removal.removed or removal.failed or found.dead or found.unseen:
            context.output.print_result(format_orphan_removal(removal, found))
        return not (removal.failed or found.unseen)
    return not found.unseen


def determine_dead_letter_queue(context: RunContext, run: MonitorFile) -> str:
    """Return the name of the run's dead-letter queue: as its queue says; once that is gone, or will not tell, as the
    config says."""
    try:
        queue = observe_queue(context.clients.sqs, run.MONITOR_QUEUE_NAME)
    except AWSError:
        queue = None
    return (queue and queue.dead_letter_queue) or context.settings.SQS_DEAD_LETTER_QUEUE
