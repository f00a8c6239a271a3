"""The monitor in AWS itself: a Lambda function that does one step a minute, as `run.py monitor` does one every 30 s.
While machines fall idle it does as many as that one.

It is called by the rule that startCluster makes (AUTO_MONITOR) and that it deletes when the run is over. It may run
beside `run.py monitor`. How the run ended lies in the bucket then: `runs/APP_NAME/RUN/summary.txt`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import boto3

from control import cleanup, costs, ending, export, leftovers, monitorfile, schedule
from control.clients import Clients
from control.costs import Prices
from control.decide import End, Pace
from control.errors import CloudError, Problem
from control.monitor import Tick, step, stopped
from control.monitorfile import MonitorFile
from control.text import report_text

CLEANUP_PAUSE_SECONDS = 2.0  # what cannot go yet is tried again at the next step
_QUICKER = {"LOOK_SECONDS": "look", "SOON_SECONDS": "soon", "SETTLING_SECONDS": "settle", "NEW_MACHINE_SECONDS": "new"}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One call. `event`: bucket and key of the monitor file, and the rule's name. What it returns is for the log."""
    clients = Clients(boto3.Session())
    file = monitorfile.copy_of(clients.s3, str(event["bucket"]), str(event["key"]))
    if file is None:
        schedule.stop(clients, str(event.get("rule", "")))
        return {"ended": "there is no monitor file"}
    tick = steps(clients, file, _pace(os.environ), now=time.time, sleep=time.sleep)
    if tick.over is not None:
        return _end(clients, file, tick)
    cost = tick.history.cost
    said = [*tick.look.paused, *tick.look.news.values(), costs.warning(cost, file.MONITOR_MAX_COST)]
    return {"jobs": tick.look.jobs, "dead": tick.look.dead, "cost": round(cost, 4), "said": list(filter(None, said))}


def steps(
    clients: Clients, file: MonitorFile, pace: Pace, *, now: Callable[[], float], sleep: Callable[[float], None]
) -> Tick:
    """One step, and while machines fall idle, those that are due before the next call; what the last came to. Raises
    AWS's errors."""
    prices, next_call = Prices(file.MONITOR_MACHINE_PRICE), now() + pace.look
    while True:
        tick = step(clients, file, now(), prices, cheapest=False, pace=pace)
        if tick.over is not None or not tick.soon or now() + pace.soon >= next_call:
            return tick
        sleep(pace.soon)


def _pace(env: Mapping[str, str]) -> Pace:
    """The function's own environment may say how quick the cloud is, in seconds; AWS's needs none of it."""
    return replace(Pace(look=60.0), **{part: float(env[name]) for name, part in _QUICKER.items() if name in env})


def _end(clients: Clients, file: MonitorFile, tick: Tick) -> dict[str, Any]:
    """Cleans up, or where jobs are kept, stops the machines; the rule goes last, when nothing is left to do."""
    if tick.over is End.RUN:
        words, done = _clean_up(clients, file, tick.history.ended)
    else:
        try:
            words, done = str(stopped(clients, file, tick)), True
        except Problem as error:
            words, done = str(error), False
    ending.leave(clients.s3, file, words)
    if done:
        schedule.stop_for(clients, file)
    return {"ended": tick.over.value if tick.over else "", "done": done, "words": words}


def _clean_up(clients: Clients, file: MonitorFile, ended: float | None) -> tuple[str, bool]:
    """The words of the summary, and whether nothing is left."""
    dead_letter_queue = file.MONITOR_DEAD_LETTER_QUEUE
    once = cleanup.Run(file, dead_letter_queue, pause=CLEANUP_PAUSE_SECONDS, patient=False, keep_rule=True, ended=ended)
    report = cleanup.cleanup(clients, once, time.sleep)
    report.kept.extend(export.go_on(clients, file, time.time()))
    left = leftovers.look(clients, leftovers.Names(file, dead_letter_queue, tagged=report.handed_on))
    left = replace(left, things=[one for one in left.things if one.kind != "rule"])  # its own goes last, by `_end`
    if report.left or not left.clean:
        return f"{report_text(report)}\n{leftovers.text(left)}", False
    try:
        told = ending.summary(clients, file, dead_letter_queue, file.MONITOR_MACHINES)
    except CloudError as error:
        told = str(error)
    return f"{report_text(report)}\n{told}", True
