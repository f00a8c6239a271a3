"""The monitor in AWS itself: a Lambda function that does one step a minute, as `run.py monitor` does one every 30 s.
While machines fall idle it does as many as that one.

It is called by the rule that startCluster makes (AUTO_MONITOR) and that it deletes when the run is over. It may run
beside `run.py monitor`. How the run ended lies in the bucket then: `runs/APP_NAME/RUN/summary.txt`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.core.aws_errors import format_fleet_problem
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, UserFacingError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.resources import ResourceKind
from distributed_something.results.summary import format_run_end, load_run_summary, save_run_summary
from distributed_something.run.cleanup.export_logs import continue_log_export
from distributed_something.run.cleanup.inventory import RunNames, format_inventory, observe_run_resources
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.monitor.budget import format_cost_warning
from distributed_something.run.monitor.loop import Tick, run_tick, stop_unfinished_run
from distributed_something.run.monitor.policy import EndReason, Pace
from distributed_something.run.monitor_file_copy import find_monitor_file_copy
from distributed_something.run.schedule import delete_rule_by_name, delete_run_rule

CLEANUP_PAUSE_SECONDS = 2.0  # what cannot go yet is tried again at the next step
_PACE_VARIABLES = {
    "LOOK_SECONDS": "look",
    "SOON_SECONDS": "soon",
    "SETTLING_SECONDS": "settle",
    "NEW_MACHINE_SECONDS": "new",
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One call. `event`: bucket and key of the monitor file, and the rule's name. What it returns is for the log."""
    clients, clock = Clients(boto3.Session()), Clock()
    file = find_monitor_file_copy(clients.s3, str(event["bucket"]), str(event["key"]))
    if file is None:
        delete_rule_by_name(clients, str(event.get("rule", "")))
        return {"ended": "there is no monitor file"}
    tick = run_ticks(clients, file, _read_pace(os.environ), clock)
    if tick.over is not None:
        return _finish_run(clients, file, tick, clock)
    look, cost = tick.look, tick.history.cost
    said = [*map(format_paused_machine, look.paused), *map(format_fleet_problem, look.problems)]
    said += filter(None, [format_cost_warning(cost, file.MONITOR_MAX_COST)])
    return {"jobs": look.jobs, "dead": look.dead, "cost": round(cost, 4), "said": said}


def run_ticks(clients: Clients, file: MonitorFile, pace: Pace, clock: Clock) -> Tick:
    """One step, and while machines fall idle, those that are due before the next call; what the last came to. Raises
    AWS's errors."""
    prices, next_call = SpotPriceCache(file.MONITOR_MACHINE_PRICE), clock.now() + pace.look
    while True:
        tick = run_tick(clients, file, clock.now(), prices, cheapest=False, pace=pace)
        if tick.over is not None or not tick.soon or clock.now() + pace.soon >= next_call:
            return tick
        clock.sleep(pace.soon)


def _read_pace(env: Mapping[str, str]) -> Pace:
    """The function's own environment may say how quick the cloud is, in seconds; AWS's needs none of it."""
    return replace(Pace(look=60.0), **{part: float(env[name]) for name, part in _PACE_VARIABLES.items() if name in env})


def _finish_run(clients: Clients, file: MonitorFile, tick: Tick, clock: Clock) -> dict[str, Any]:
    """Cleans up, or where jobs are kept, stops the machines; the rule goes last, when nothing is left to do."""
    if tick.over is EndReason.RUN:
        words, done = _clean_up_once(clients, file, tick.history.ended, clock)
    else:
        try:
            words, done = str(stop_unfinished_run(clients, file, tick)), True
        except UserFacingError as error:
            words, done = str(error), False
    save_run_summary(clients.s3, file, words)
    if done:
        delete_run_rule(clients, file)
    return {"ended": tick.over.value if tick.over else "", "done": done, "words": words}


def _clean_up_once(clients: Clients, file: MonitorFile, ended: float | None, clock: Clock) -> tuple[str, bool]:
    """The words of the summary, and whether nothing is left."""
    dead_letter_queue = file.MONITOR_DEAD_LETTER_QUEUE
    once = CleanupRequest(
        file, dead_letter_queue, pause=CLEANUP_PAUSE_SECONDS, patient=False, keep_rule=True, ended=ended
    )
    report = delete_run_resources(clients, once, clock.sleep)
    report.exports = continue_log_export(clients, file, clock.now())
    left = observe_run_resources(clients, RunNames(file, dead_letter_queue, tagged=report.next_batch is not None))
    rest = [
        thing for thing in left.things if thing.kind is not ResourceKind.RULE
    ]  # its own goes last, by `_finish_run`
    left = replace(left, things=rest)
    if not (report.complete and left.clean):
        return f"{format_cleanup_report(report)}\n{format_inventory(left)}", False
    try:
        summary = load_run_summary(clients, file, dead_letter_queue)
        told = format_run_end(summary, file, file.MONITOR_MACHINES, clock.now())
    except CloudError as error:
        told = str(error)
    return f"{format_cleanup_report(report)}\n{told}", True
