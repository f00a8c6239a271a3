"""`run.py monitor`: watch the run to its end, clean up (what costs money ends first), then sum up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.aws.sqs import find_dead_letter_name, find_queue
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, CloudError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.output import Output
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results.summary import format_summary_from_records, save_run_summary
from distributed_something.run.cleanup.export_logs import continue_log_export
from distributed_something.run.cleanup.find_run import check_cleanup_safety, recover_monitor_file
from distributed_something.run.cleanup.inventory import (
    RunNames,
    format_inventory,
    observe_all_resources,
    wait_for_removal,
)
from distributed_something.run.cleanup.orphans import delete_orphans, find_orphans, format_orphans
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.loop import watch_run
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.monitor.view import MonitorView
from distributed_something.run.monitor_file_copy import save_cheapest_mode

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


NO_TRACE_MESSAGE = (
    "NO TRACE        neither queue {queue} nor fleet {fleet} was there: if the run had not ended,\n"
    "                its jobs are gone with the queue; setup, submitJob and startCluster run what is not done"
)


def monitor_run(
    clients: Clients, run: MonitorFile, settings: Settings, clock: Clock, output: Output, *, cheapest: bool, pace: Pace
) -> bool:
    """Whether all that the run made is gone, or kept on purpose. Raises CloudError where AWS refuses for good."""
    if cheapest:
        save_cheapest_mode(run, clients.s3)
    machines: set[str] = set()
    traces: set[bool] = set()
    with MonitorView(run, output) as view:

        def show(snapshot: RunSnapshot, history: RunHistory) -> None:
            machines.update(snapshot.fleet.machines if snapshot.fleet else ())
            traces.add(snapshot.queue is not None or snapshot.fleet is not None)
            view.show(snapshot, history)

        try:
            last = watch_run(
                clients, run, cheapest=cheapest, pace=pace, now=clock.now, sleep=clock.sleep, show=show, say=view.say
            )
        except CloudError as error:  # an end that keeps the jobs
            _save_summary(clients, run, str(error), seen=True in traces)
            raise
    dead_letter_queue = _determine_dead_letter_queue(clients, run, settings)
    todo = CleanupRequest(run, dead_letter_queue, pause=min(pace.look, 10), ended=last.ended)
    return _finish_run(clients, todo, clock, output, len(machines), seen=True in traces)


def _finish_run(
    clients: Clients, todo: CleanupRequest, clock: Clock, output: Output, machines: int, *, seen: bool
) -> bool:
    """Cleans up, proves it, sums up. `machines`: how many there were; `seen`: whether any look saw the run."""
    run, dead_letter_queue = todo.monitor_file, todo.dead_letter_queue
    continue_log_export(clients, run, clock.now())
    report = delete_run_resources(clients, todo, clock.sleep)
    report.kept.extend(continue_log_export(clients, run, clock.now()))
    told = [format_cleanup_report(report)]
    output.print_result(told[0])
    names = RunNames(run, dead_letter_queue, tagged=report.handed_on)
    left = wait_for_removal(clients, names, clock.sleep, pause=todo.pause)
    told += [] if left.clean else [format_inventory(left)]
    try:
        told.append(format_summary_from_records(clients, run, dead_letter_queue, machines, clock.now()))
        clean = not report.left and left.clean and seen
    except CloudError as error:
        told.append(str(error))
        clean = False
    if not seen:
        told.append(NO_TRACE_MESSAGE.format(queue=run.MONITOR_QUEUE_NAME, fleet=run.MONITOR_FLEET_ID))
    output.print_result("\n".join(told[1:]))
    _save_summary(clients, run, "\n".join(told), seen=seen)
    return clean


def _save_summary(clients: Clients, run: MonitorFile, words: str, *, seen: bool) -> None:
    """Puts the summary into the bucket, where one of the run's true end may lie already if nothing of it was `seen`."""
    if seen:
        with suppress(*AWSError):  # it is printed
            save_run_summary(clients.s3, run, words)


def _determine_dead_letter_queue(clients: Clients, run: MonitorFile, settings: Settings) -> str:
    """As the queue itself says; once that is gone, or will not tell, as the config says."""
    try:
        url = find_queue(clients.sqs, run.MONITOR_QUEUE_NAME)
        named = find_dead_letter_name(clients.sqs, url) if url else None
    except AWSError:
        named = None
    return named or settings.SQS_DEAD_LETTER_QUEUE


def clean_up_and_verify(
    clients: Clients, run: MonitorFile | None, settings: Settings, where: Path, clock: Clock, output: Output, *,
    pause: float, yes: bool, failed_too: bool,
) -> bool:  # fmt: skip
    """`run.py cleanup`: whether nothing is left of the run, or without one, of the app. `where`: what errors name.

    Raises InputError where jobs would be lost, CloudError where AWS does not even let it look.
    """
    found = run or recover_monitor_file(settings, clients, clock.now)
    check_cleanup_safety(clients, found, where, choose_count_sleep(clock, pause), yes=yes)
    dead_letter_queue = _determine_dead_letter_queue(clients, found, settings)
    todo = CleanupRequest(found, dead_letter_queue, pause=pause, whole_app=run is None, failed_too=failed_too)
    report = delete_run_resources(clients, todo, clock.sleep)
    output.print_result(format_cleanup_report(report))
    left = wait_for_removal(clients, RunNames(found, dead_letter_queue), clock.sleep, pause=pause)
    output.print_result(format_inventory(left))
    return not report.left and left.clean


def report_remaining_resources(
    clients: Clients, run: MonitorFile | None, settings: Settings, clock: Clock, output: Output, *, pause: float
) -> bool:
    """`run.py cleanup --verify`: whether nothing is left of the run, or without one, of all runs of the account."""
    if run is None:
        left = observe_all_resources(clients)
    else:
        names = RunNames(run, _determine_dead_letter_queue(clients, run, settings))
        left = wait_for_removal(clients, names, clock.sleep, pause=pause)
    output.print_result(format_inventory(left))
    return left.clean


def clean_up_stale_runs(clients: Clients, clock: Clock, output: Output, *, yes: bool) -> bool:
    """`run.py cleanup --stale`: lists what older runs left, and with `yes` removes what is surely theirs. Whether
    nothing of that is left, and it was all looked at."""
    found = find_orphans(clients, clock.now)
    output.print_result(format_orphans(found))
    if not yes:
        return not found.unseen
    report = delete_orphans(clients, found)
    if told := format_cleanup_report(report):
        output.print_result(told)
    return not report.left


def choose_count_sleep(clock: Clock, pause: float) -> Callable[[float], None]:
    """SQS's approximate counts need time; the local queue's are exact."""
    return clock.sleep if pause >= 1 else lambda seconds: None
