"""`run.py monitor`: watch the run to its end, clean up (what costs money ends first), then sum up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from control import cleanup, ending, export, leftovers, monitorfile, queue, stale
from control.clients import Clients
from control.decide import Pace
from control.errors import AWSError, CloudError
from control.history import History
from control.monitor import watch
from control.monitorfile import MonitorFile
from control.snapshot import Snapshot
from control.text import report_text
from control.view import MonitorView

if TYPE_CHECKING:
    from control.settings import Settings

NO_TRACE = (
    "NO TRACE        neither queue {queue} nor fleet {fleet} was there: if the run had not ended,\n"
    "                its jobs are gone with the queue; setup, submitJob and startCluster run what is not done"
)


def monitor(clients: Clients, run: MonitorFile, settings: Settings, *, cheapest: bool, pace: Pace) -> bool:
    """Whether all that the run made is gone, or kept on purpose. Raises CloudError where AWS refuses for good."""
    if cheapest:
        monitorfile.make_cheapest(run, clients.s3)
    machines: set[str] = set()
    traces: set[bool] = set()
    with MonitorView(run) as view:

        def show(snapshot: Snapshot, history: History) -> None:
            machines.update(snapshot.fleet.machines if snapshot.fleet else ())
            traces.add(snapshot.queue is not None or snapshot.fleet is not None)
            view.show(snapshot, history)

        try:
            last = watch(
                clients, run, cheapest=cheapest, pace=pace, now=time.time, sleep=time.sleep, show=show, say=view.say
            )
        except CloudError as error:  # an end that keeps the jobs
            _leave(clients, run, str(error), seen=True in traces)
            raise
    dead_letter_queue = _dead_letter_queue(clients, run, settings)
    todo = cleanup.Run(run, dead_letter_queue, pause=min(pace.look, 10), ended=last.ended)
    return _end(clients, todo, len(machines), seen=True in traces)


def _end(clients: Clients, todo: cleanup.Run, machines: int, *, seen: bool) -> bool:
    """Cleans up, proves it, sums up. `machines`: how many there were; `seen`: whether any look saw the run."""
    run, dead_letter_queue = todo.monitor_file, todo.dead_letter_queue
    export.go_on(clients, run, time.time())
    report = cleanup.cleanup(clients, todo, time.sleep)
    report.kept.extend(export.go_on(clients, run, time.time()))
    told = [report_text(report)]
    print(told[0], flush=True)
    names = leftovers.Names(run, dead_letter_queue, tagged=report.handed_on)
    left = leftovers.verify(clients, names, time.sleep, pause=todo.pause)
    told += [] if left.clean else [leftovers.text(left)]
    try:
        told.append(ending.summary(clients, run, dead_letter_queue, machines))
        clean = not report.left and left.clean and seen
    except CloudError as error:
        told.append(str(error))
        clean = False
    if not seen:
        told.append(NO_TRACE.format(queue=run.MONITOR_QUEUE_NAME, fleet=run.MONITOR_FLEET_ID))
    print("\n".join(told[1:]), flush=True)
    _leave(clients, run, "\n".join(told), seen=seen)
    return clean


def _leave(clients: Clients, run: MonitorFile, words: str, *, seen: bool) -> None:
    """Puts the summary into the bucket, where one of the run's true end may lie already if nothing of it was `seen`."""
    if seen:
        with suppress(*AWSError):  # it is printed
            ending.leave(clients.s3, run, words)


def _dead_letter_queue(clients: Clients, run: MonitorFile, settings: Settings) -> str:
    """As the queue itself says; once that is gone, or will not tell, as the config says."""
    try:
        url = queue.find(clients.sqs, run.MONITOR_QUEUE_NAME)
        named = queue.dead_letter_name(clients.sqs, url) if url else None
    except AWSError:
        named = None
    return named or settings.SQS_DEAD_LETTER_QUEUE


def clean_up(
    clients: Clients, run: MonitorFile | None, settings: Settings, where: Path, *, pause: float, yes: bool,
    failed_too: bool,
) -> bool:  # fmt: skip
    """`run.py cleanup`: whether nothing is left of the run, or without one, of the app. `where`: what errors name.

    Raises InputError where jobs would be lost, CloudError where AWS does not even let it look.
    """
    found = run or cleanup.find_run(settings, clients)
    cleanup.check_loss(clients, found, where, sleep_of_counts(pause), yes=yes)
    dead_letter_queue = _dead_letter_queue(clients, found, settings)
    todo = cleanup.Run(found, dead_letter_queue, pause=pause, whole_app=run is None, failed_too=failed_too)
    report = cleanup.cleanup(clients, todo, time.sleep)
    print(report_text(report), flush=True)
    left = leftovers.verify(clients, leftovers.Names(found, dead_letter_queue), time.sleep, pause=pause)
    print(leftovers.text(left), flush=True)
    return not report.left and left.clean


def verify(clients: Clients, run: MonitorFile | None, settings: Settings, *, pause: float) -> bool:
    """`run.py cleanup --verify`: whether nothing is left of the run, or without one, of all runs of the account."""
    if run is None:
        left = leftovers.look_at_all(clients)
    else:
        names = leftovers.Names(run, _dead_letter_queue(clients, run, settings))
        left = leftovers.verify(clients, names, time.sleep, pause=pause)
    print(leftovers.text(left), flush=True)
    return left.clean


def remove_stale(clients: Clients, *, yes: bool) -> bool:
    """`run.py cleanup --stale`: lists what older runs left, and with `yes` removes what is surely theirs. Whether
    nothing of that is left, and it was all looked at."""
    found = stale.find(clients)
    print(stale.text(found), flush=True)
    if not yes:
        return not found.unseen
    report = stale.remove(clients, found)
    if told := report_text(report):
        print(told, flush=True)
    return not report.left


def sleep_of_counts(pause: float) -> Callable[[float], None]:
    """SQS's approximate counts need time; the local queue's are exact."""
    return time.sleep if pause >= 1 else lambda seconds: None
