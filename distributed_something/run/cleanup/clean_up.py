"""`run.py cleanup`: delete everything that a run created, or list what is left of a run or of older runs."""

from __future__ import annotations

from contextlib import suppress
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
from distributed_something.run.monitor.history import record_stop
from distributed_something.run.run_outcome import load_recorded_failures

if TYPE_CHECKING:
    from distributed_something.run.run_context import RunContext


def clean_up_and_verify(
    context: RunContext, run: MonitorFile | None, source: Path, *, yes: bool, failed_too: bool
) -> bool:
    """Delete the run's resources, or all resources of the app if `run` is None; return whether nothing is left.

    `source`: the file named in error messages. Raise InputError if jobs would be lost or a newer run is active, or
    CloudError if fleets cannot be listed or jobs cannot be counted.
    """
    clients, clock = context.clients, context.clock
    file = run or recover_monitor_file(clients, context.settings, clock.now)
    pause = min(
        QUEUE_COUNT_PAUSE_SECONDS, context.pause
    )  # the local cloud's counts are exact, so it needs no long pause
    check_cleanup_safety(clients, file, source, clock, yes=yes, pause=pause)
    dead_letter_queue = determine_dead_letter_queue(context, file)
    request = CleanupRequest(
        file, dead_letter_queue, pause=context.pause, whole_app=run is None, failed_too=failed_too,
        count_recorded_failures=lambda: load_recorded_failures(clients, file, clock.now()),
    )  # fmt: skip
    with suppress(*AWSError):  # what costs money is removed all the same
        record_stop(clients.s3, file, clock.now())
    report = delete_run_resources(clients, request, clock.sleep)
    context.output.print_result(format_cleanup_report(report))
    inventory = wait_for_removal(clients, RunNames(file, dead_letter_queue), clock.sleep, pause=context.pause)
    context.output.print_result(format_inventory(inventory))
    return report.is_complete and inventory.is_clean


def report_remaining_resources(context: RunContext, run: MonitorFile | None) -> bool:
    """Print what is left of the run, or of all runs in the account if `run` is None; return whether nothing is left."""
    if run is None:
        inventory = observe_all_resources(context.clients)
    else:
        names = RunNames(run, determine_dead_letter_queue(context, run))
        inventory = wait_for_removal(context.clients, names, context.clock.sleep, pause=context.pause)
    context.output.print_result(format_inventory(inventory))
    return inventory.is_clean


def clean_up_stale_runs(context: RunContext, *, yes: bool) -> bool:
    """Print the orphans from older runs; with `yes`, also delete the ones that certainly belong to this package.

    Return True if everything could be listed and, with `yes`, no deletion failed.
    """
    report = find_orphans(context.clients, context.clock.now)
    context.output.print_result(format_orphans(report))
    if yes:
        removal = delete_orphans(context.clients, report)
        if removal.removed or removal.failed or report.orphans or report.unchecked_parts:
            context.output.print_result(format_orphan_removal(removal, report))
        return not (removal.failed or report.unchecked_parts)
    return not report.unchecked_parts


def determine_dead_letter_queue(context: RunContext, run: MonitorFile) -> str:
    """Return the name of the run's dead-letter queue from the job queue's attributes, or else from the config."""
    try:
        queue = observe_queue(context.clients.sqs, run.MONITOR_QUEUE_NAME)
    except AWSError:
        queue = None
    return (queue and queue.dead_letter_queue) or context.settings.SQS_DEAD_LETTER_QUEUE
