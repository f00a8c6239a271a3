"""The commands that only read: `check` and `why`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.context import Context
from distributed_something.cli.group import Command

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.diagnose.why.cause import Cause


@click.command(
    cls=Command,
    needs="config.py and AWS credentials; the Fleet file if you have one.",
    examples=("check", "check files/exampleFleet.json"),
    next_step="setup, after you have corrected the problems it found",
)
@click.argument("fleet_file", required=False, metavar="[FLEETFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def check(context: Context, fleet_file: Path | None, as_json: bool) -> None:
    """Check the config, account, and Fleet file before you pay."""
    from datetime import UTC, datetime

    from distributed_something.diagnose.check.check import run_preflight_checks
    from distributed_something.diagnose.check.findings import build_findings_json, choose_exit_code, format_findings
    from distributed_something.fleet.fleet_file import load_fleet_file

    settings = context.settings
    if fleet_file:
        context.check_file(fleet_file, "Fleet file", "check")
    content = load_fleet_file(fleet_file, settings=settings, is_local=context.local) if fleet_file else None
    clients = context.clients
    if context.cloud is not None and content is not None:
        content = context.cloud.adapt_fleet_file(content)
    findings = run_preflight_checks(clients, settings, fleet_file, content, datetime.now(UTC))
    context.console.print_result(build_findings_json(findings) if as_json else format_findings(findings))
    raise SystemExit(choose_exit_code(findings))


@click.command(
    cls=Command,
    needs="config.py; the monitor file if startCluster has already written it.",
    examples=("why", "why files/DistributedSomethingSpotFleetRequestId.json"),
    next_step="Follow the advice for the most likely cause, or continue with monitor.",
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the causes as JSON.")
@click.pass_obj
def why(context: Context, monitor_file: Path | None, as_json: bool) -> None:
    """Explain why nothing is running, or why jobs fail."""
    import time

    from distributed_something.core.monitor_file import build_monitor_file
    from distributed_something.diagnose.why.rank import rank_causes
    from distributed_something.diagnose.why.view import build_diagnosis_json, format_diagnosis
    from distributed_something.observe.evidence import (
        build_subject_from_run,
        gather_evidence,
        observe_active_subject,
    )

    run = context.load_monitor_file(monitor_file, "why") if monitor_file else None
    settings, clients = context.settings, context.clients
    subject = build_subject_from_run(run) if run else observe_active_subject(clients, settings)
    if run is None and subject.fleet is None and context.default_monitor_file.is_file():  # the newest run has ended
        monitor_file = context.default_monitor_file
        run = context.load_monitor_file(monitor_file, "why")
        subject = build_subject_from_run(run)
    evidence = gather_evidence(clients, subject, time.time())
    if run is None and subject.fleet is not None:
        run = build_monitor_file(settings, subject.fleet, subject.start or 0.0)
    causes = rank_causes(evidence, _diagnose_jobs(context, run, monitor_file) if run else ())
    format_causes = build_diagnosis_json if as_json else format_diagnosis
    context.console.print_result(format_causes(evidence, causes))


def _diagnose_jobs(context: Context, run: MonitorFile, monitor_file: Path | None) -> list[Cause]:
    """Return why jobs of the run fail; nothing, after a note, if the journals cannot be read."""
    from distributed_something.core.errors import AWSError, format_lookup_error
    from distributed_something.diagnose.why.job_causes import diagnose_failing_jobs
    from distributed_something.results.outcome import load_failures

    line = context.command_line
    try:
        outcome = load_failures(context.clients.s3, run)
    except AWSError as error:
        context.console.print_progress(f"note: the failed jobs cannot be read ({format_lookup_error(error)})")
        return []
    if outcome is None:
        return []
    line = line if monitor_file is None else replace(line, monitor_file=str(monitor_file))
    return list(diagnose_failing_jobs(outcome, line))
