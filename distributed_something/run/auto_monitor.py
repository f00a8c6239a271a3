"""The auto-monitor: a Lambda function in AWS that does the work of `run.py monitor`, usually one tick per minute.

If AUTO_MONITOR is 'True', startCluster creates the EventBridge rule that calls the function. The function deletes the
rule when the run is over. Both monitors can run at the same time. The summary of the run is saved in the bucket beside
its records, as `summary.txt` and `summary.json`, and `report.html`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import format_fleet_problem
from distributed_something.core.clock import Clock
from distributed_something.core.errors import UserFacingError, translate_aws_errors
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import wrap_wide_lines
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.resources import ResourceKind
from distributed_something.observe.snapshot import RunCaches
from distributed_something.results.command_line import build_run_line
from distributed_something.results.summary import RunSummary, save_run_summary
from distributed_something.run.cleanup.export_logs import continue_log_export
from distributed_something.run.cleanup.inventory import RunNames, format_inventory, observe_run_resources
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.monitor.budget import format_cost_warning
from distributed_something.run.monitor.loop import Tick, run_tick, stop_unfinished_run
from distributed_something.run.monitor.machine_ends import record_last_machines
from distributed_something.run.monitor.policy import PROTECTION_DENIED_MESSAGE, EndReason, Pace
from distributed_something.run.monitor.unusable import format_unusable_machines
from distributed_something.run.monitor_file_copy import find_monitor_file_copy
from distributed_something.run.notifications.notifier import notify_end, notify_nothing_works
from distributed_something.run.report.make_report import save_end_report
from distributed_something.run.run_outcome import EndedRun
from distributed_something.run.schedule import delete_rule_by_name, delete_run_rule

# Reading and drawing a million attempts takes 76 seconds of processor time and 770 MB. Lambda ends a call after 15
# minutes, and the cleanup and the requests for the journals also need some of them.
MAX_REPORT_ATTEMPTS = 500_000
CLEANUP_PAUSE_SECONDS = 2.0  # short, because the next call retries whatever cannot be deleted yet
_PACE_VARIABLES = {
    "LOOK_SECONDS": "interval_seconds",
    "SOON_SECONDS": "short_interval_seconds",
    "SETTLING_SECONDS": "settling_seconds",
    "NEW_MACHINE_SECONDS": "new_machine_seconds",
    "FIRST_CONTAINER_SECONDS": "first_container_seconds",
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle one call from the rule; return a short report of the call.

    `event` contains the bucket and key of the monitor file, and the name of the rule.
    """
    clients, clock = Clients(boto3.Session()), Clock()
    file = find_monitor_file_copy(clients.s3, str(event["bucket"]), str(event["key"]))
    if file is None:
        delete_rule_by_name(clients, str(event.get("rule", "")))
        return {"ended": "there is no monitor file"}
    tick = run_ticks(clients, file, _read_pace(os.environ), clock)
    if tick.end_reason is not None:
        return _finish_run(clients, file, tick, clock)
    snapshot, cost = tick.snapshot, tick.history.cost
    messages = [format_paused_machine(paused, snapshot.service) for paused in snapshot.paused]
    messages += map(format_fleet_problem, snapshot.problems)
    messages += filter(None, [format_unusable_machines(tick.history), format_cost_warning(cost, file.MONITOR_MAX_COST)])
    messages += [PROTECTION_DENIED_MESSAGE] if snapshot.is_protection_denied else []
    messages += tick.notes
    counts = {"jobs": snapshot.jobs, "done": snapshot.totals.done, "dead": snapshot.totals.failed}
    return {**counts, "cost": round(cost, 4), "said": messages}


def run_ticks(clients: Clients, file: MonitorFile, pace: Pace, clock: Clock) -> Tick:
    """Run one tick, or several while machines are becoming idle; return the last tick.

    No tick starts after the next call is due. Raise CloudError if AWS rejects an action; other AWS errors are not
    caught.
    """
    caches, next_call = RunCaches(clients.s3, file), clock.now() + pace.interval_seconds
    while True:
        tick = run_tick(clients, file, caches, clock.now(), cheapest=False, pace=pace)
        for note in tick.notes:
            _log_note(note)
        if tick.failure is not None:
            raise tick.failure  # so that the function's log shows it; the next call repeats the action
        if (
            tick.end_reason is not None
            or not tick.is_scaling_down
            or clock.now() + pace.short_interval_seconds >= next_call
        ):
            return tick
        clock.sleep(pace.short_interval_seconds)


def _log_note(note: str) -> None:
    """Write a line to the function's log, if there is one."""
    if note:
        print(note, flush=True)


def _read_pace(env: Mapping[str, str]) -> Pace:
    """Return the default pace, with overrides from the environment (the local cloud runs faster than AWS)."""
    overrides = {field: float(env[variable]) for variable, field in _PACE_VARIABLES.items() if variable in env}
    return replace(Pace(interval_seconds=60.0), **overrides)


def _finish_run(clients: Clients, file: MonitorFile, tick: Tick, clock: Clock) -> dict[str, Any]:
    """Clean up, or just stop the machines if jobs are kept. Delete the rule last, once nothing is left to do."""
    ended_run, outcome, steps = EndedRun(clients, file, tick, MAX_REPORT_ATTEMPTS), None, ""
    try:
        if tick.end_reason is EndReason.RUN:
            text, is_done = _clean_up_once(clients, file, tick, ended_run, clock)
        else:
            text, is_done = wrap_wide_lines(stop_unfinished_run(clients, file, tick)), True
            if tick.end_reason is EndReason.NOTHING_WORKS:
                _log_note(notify_nothing_works(clients, file, tick.snapshot, tick.history))
    except UserFacingError as error:
        text, is_done = str(error), False
    if is_done:
        try:
            with translate_aws_errors("reading the journals and records of the run"):
                outcome, note = ended_run.outcome, ended_run.save_job_table()
                ended_run.forecast_next_run()
                text = "\n".join(filter(None, [text, note, ended_run.format_outcome()]))
                steps = ended_run.format_next_steps(build_run_line(file))
        except UserFacingError as error:  # everything that costs money is stopped, so the run has ended anyway
            text = f"{text}\n{error}"
    reason = tick.end_reason.value if tick.end_reason else ""
    is_known, is_complete = outcome is not None, outcome is not None and outcome.is_complete
    report, text = text, "\n".join(filter(None, [text, steps]))
    is_clean = is_done and is_known  # `monitor` replaces a summary that is not clean
    summary = RunSummary(reason, is_clean, is_complete, text, ended_run.ended, report=report,
                         start_failure=ended_run.start_failure)  # fmt: skip
    save_run_summary(clients.s3, file, summary, outcome)
    if is_done:
        _log_note(notify_end(clients, file, ended_run.build_end_facts(outcome, is_clean=is_clean)))
        delete_run_rule(clients, file)
    report_line = ""
    if is_clean:  # after the rule is deleted, because Lambda ends a call that takes too long
        record_last_machines(clients, file, ended_run.tick.history, clock.now())
        report_line = save_end_report(clients, ended_run, reason, build_run_line(file), clock.now())
    return {"ended": reason, "done": is_done, "words": text, "report": report_line}


def _clean_up_once(
    clients: Clients, file: MonitorFile, tick: Tick, ended_run: EndedRun, clock: Clock
) -> tuple[str, bool]:
    """Run each cleanup step once; return the text about it, and whether nothing is left."""
    dead_letter_queue = file.MONITOR_DEAD_LETTER_QUEUE
    request = CleanupRequest(
        file, dead_letter_queue, pause=CLEANUP_PAUSE_SECONDS, retry_steps=False, keep_rule=True,
        ended_at=tick.history.ended, count_recorded_failures=ended_run.count_recorded_failures,
    )  # fmt: skip
    report = delete_run_resources(clients, request, clock.sleep)
    report.exports = continue_log_export(clients, file, clock.now())
    inventory = observe_run_resources(clients, RunNames(file, dead_letter_queue, tagged=report.next_batch is not None))
    # Ignore the rule that calls this function, because `_finish_run` deletes it last.
    resources = [resource for resource in inventory.resources if resource.kind is not ResourceKind.RULE]
    inventory = replace(inventory, resources=resources)
    if report.is_complete and inventory.is_clean:
        return format_cleanup_report(report), True
    return f"{format_cleanup_report(report)}\n{format_inventory(inventory)}", False
