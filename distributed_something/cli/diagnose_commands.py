"""The commands that only read: `check`, `status`, `report`, `why`, and `verify`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.completion.values import ProjectFile, save_failures
from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command
from distributed_something.cli.submit.submit_command import SubmitView

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.diagnose.why.job_causes import JobEvidence
    from distributed_something.observe.evidence import Evidence
    from distributed_something.results.verify.listed_results import VerificationPlan
    from distributed_something.run.monitor.history import RunHistory

WATCH_SECONDS, LOCAL_WATCH_SECONDS = 10.0, 1.0
REPORTS_FOLDER = "reports"
WATCH_FOOTER = "Ctrl-C stops watching; the run continues"


@click.command(
    cls=Command,
    needs="config.py and AWS credentials; the Fleet file if you have one.",
    examples=("check", "check files/exampleFleet.json"),
    next_step="setup, after you have corrected the problems it found",
    runs_workers=False,
)
@click.argument("fleet_file", required=False, metavar="[FLEETFILE]", type=ProjectFile("Fleet file"))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def check(context: Context, fleet_file: Path | None, as_json: bool) -> None:
    """Check the config, account, and Fleet file before you pay."""
    from datetime import UTC, datetime

    from distributed_something.core.errors import InputProblems
    from distributed_something.diagnose.check.check import run_preflight_checks
    from distributed_something.diagnose.check.container_image.http import RegistryHttp
    from distributed_something.diagnose.check.findings import build_findings_json, choose_exit_code, format_findings
    from distributed_something.diagnose.check.prices.price_table import format_prices
    from distributed_something.fleet.fleet_file import load_fleet_file

    problems, settings, content = InputProblems(), None, None
    with problems.collect():
        settings = context.settings
    if fleet_file:
        with problems.collect():
            context.check_file(fleet_file, "Fleet file", "check")
            content = load_fleet_file(fleet_file, settings=settings, is_local=context.local)
    problems.raise_if_any()
    assert settings is not None  # otherwise `problems` was not empty
    clients = context.clients
    if context.cloud is not None and content is not None:
        content = context.cloud.adapt_fleet_file(content)
    fetch = None if context.local else RegistryHttp().fetch
    findings = run_preflight_checks(
        clients, settings, fleet_file, content, datetime.now(UTC), fetch, is_local=context.local
    )
    table = format_prices(findings, settings, is_local=context.local)
    text = "\n".join(filter(None, [format_findings(findings, has_table=bool(table)), table]))
    context.console.print_result(build_findings_json(findings) if as_json else text)
    raise SystemExit(choose_exit_code(findings))


@click.command(
    cls=Command,
    needs="A run that startCluster started: its monitor file or its name, or neither for the newest run. It may have "
    "ended, and its resources may be removed.",
    examples=("status", "status --watch", "status 20261123T104500Z --json"),
    next_step="retry, if jobs failed",
    runs_workers=False,
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=ProjectFile("monitor file"))
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--watch", is_flag=True, help="Show the status again and again, until the run has ended.")
@click.pass_obj
def status(context: Context, monitor_file: Path | None, as_json: bool, watch: bool) -> None:
    """Show a run's progress or end, and why jobs failed."""
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.run.run_status import RunView, observe_status
    from distributed_something.run.screen.print_status import print_status, watch_status

    if as_json and watch:
        raise click.UsageError("--json and --watch cannot be used together")
    file = context.load_run(monitor_file, "status")
    line = context.build_run_line(monitor_file, file)
    clock = Clock()
    with translate_aws_errors("looking at the run"):
        view = RunView.open(context.clients, file)
        if watch:
            pause = LOCAL_WATCH_SECONDS if context.local else WATCH_SECONDS
            current = watch_status(view, context.console, clock, pause=pause, footer=WATCH_FOOTER)
        else:
            current = observe_status(view, clock.now())
        print_status(view, current, context.console, line, as_json=as_json)
    save_failures(context, file.run, current.failures)
    if current.has_failures:
        raise SystemExit(ExitCode.UNFINISHED)


@click.command(
    cls=Command,
    needs="A run that startCluster started: its monitor file or its name, or neither for the newest run. It may have "
    "ended, and its resources may be removed.",
    examples=("report", "report 20261123T104500Z -o reports"),
    next_step="Open report.html in a browser.",
    runs_workers=False,
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False),
              help="Where to write report.html. [default: reports/RUN in the project]")  # fmt: skip
@click.pass_obj
def report(context: Context, monitor_file: Path | None, folder: Path | None) -> None:
    """Make a page about a run: its cost, failures, and jobs."""
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import InputError, translate_aws_errors
    from distributed_something.core.files import write_file_atomically
    from distributed_something.core.text import format_row
    from distributed_something.run.report.make_report import load_report, render_page

    file = context.load_run(monitor_file, "report")
    line = context.build_run_line(monitor_file, file)
    path = (folder or context.project / REPORTS_FOLDER / file.run) / "report.html"
    _create_report_folder(path)
    with translate_aws_errors("reading the journals and records of the run"):
        content = render_page(load_report(context.clients, file, line, Clock().now()))
    try:
        write_file_atomically(path, content)
    except OSError as error:
        problem = f"this file cannot be written: {error.strerror}"
        raise InputError(path, "", problem, "choose another folder with -o") from None
    context.console.print_result(format_row("report", str(shorten_path(path))))


def _create_report_folder(path: Path) -> None:
    """Create the folder of the report. Raise InputError if the report cannot be in it, before the run is read."""
    import os

    from distributed_something.core.errors import InputError

    remedy = "choose another with -o"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(path.parent, "", f"this folder cannot be created: {error.strerror}", remedy) from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(path.parent, "", "you may not write to this folder", remedy)
    if path.is_dir():
        raise InputError(path.parent, "", "this folder has a folder with the name report.html", remedy)


@click.command(
    cls=Command,
    needs="config.py; the monitor file, or a run's name, if startCluster has already started it.",
    examples=("why", "why files/DistributedSomethingSpotFleetRequestId.json"),
    next_step="Follow the advice for the most likely cause, or continue with monitor.",
    runs_workers=False,
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=ProjectFile("monitor file"))
@click.option("--json", "as_json", is_flag=True, help="Print the causes as JSON.")
@click.pass_obj
def why(context: Context, monitor_file: Path | None, as_json: bool) -> None:
    """Explain why nothing is running, or why jobs fail."""
    import time

    from distributed_something.core.monitor_file import build_monitor_file
    from distributed_something.diagnose.why.job_causes import JobEvidence
    from distributed_something.diagnose.why.rank import rank_causes
    from distributed_something.diagnose.why.view import build_diagnosis_json, format_diagnosis
    from distributed_something.observe.evidence import (
        build_subject_from_run,
        gather_evidence,
        observe_active_subject,
    )

    run = context.load_run(monitor_file, "why") if monitor_file else None
    settings, clients = context.settings, context.clients
    subject = (
        build_subject_from_run(run, assigns_addresses=settings.ASSIGN_IP)
        if run
        else observe_active_subject(clients, settings)
    )
    if run is None and subject.fleet is None:  # the newest run has ended, or there is none
        run = context.find_newest_run("why")
        subject = build_subject_from_run(run, assigns_addresses=settings.ASSIGN_IP) if run else subject
    evidence = gather_evidence(clients, subject, time.time())
    if run is None and subject.fleet is not None:
        run = build_monitor_file(settings, subject.fleet, subject.start or 0.0)
    line = context.build_run_line(monitor_file, run)
    jobs = _load_jobs(context, run, evidence) if run else JobEvidence()
    line = line.select_job_file(jobs.source.job_file)
    causes = rank_causes(evidence, jobs, line)
    format_causes = build_diagnosis_json if as_json else format_diagnosis
    context.console.print_result(format_causes(evidence, causes, jobs, line))


def _load_jobs(context: Context, run: MonitorFile, evidence: Evidence) -> JobEvidence:
    """Return what the run's documents say about its jobs; nothing, after a note, if they cannot be read."""
    from distributed_something.core.errors import AWSError, format_lookup_error
    from distributed_something.diagnose.why.job_causes import JobEvidence
    from distributed_something.results.job_source import find_job_source
    from distributed_something.results.next_batch import find_next_batch
    from distributed_something.results.retry.settled_jobs import drop_settled_jobs, find_settled_jobs
    from distributed_something.results.summary import find_run_summary
    from distributed_something.run.monitor.history import load_history
    from distributed_something.run.monitor.policy import EndReason
    from distributed_something.run.monitor.unusable import has_useless_replacements
    from distributed_something.run.run_outcome import drop_lost_jobs, load_ended_outcome

    s3 = context.clients.s3
    try:
        summary, history = find_run_summary(s3, run), load_history(s3, run, evidence.at)[0]
        if summary is None or not summary.is_clean:
            return _load_current_jobs(context, run, evidence, history)
        outcome = load_ended_outcome(context.clients, run, summary)
        ended = summary.ended or history.ended or summary.saved or evidence.at
        source = find_job_source(context.clients, run, ended, evidence.at)
        batch = find_next_batch(context.clients, run, ended, evidence.at)
        outcome = drop_settled_jobs(outcome, find_settled_jobs(s3, run, outcome.failures, evidence.at))
        left = outcome.left
        outcome = drop_lost_jobs(context.clients, run, outcome, ended, evidence.at)
    except AWSError as error:
        context.console.print_progress(f"note: the failed jobs cannot be read ({format_lookup_error(error)})")
        return JobEvidence(has_pauses=evidence.has_pauses)
    gone = left - outcome.left
    is_hopeless = summary.reason == EndReason.NOTHING_WORKS.value and not (gone and outcome.is_complete)
    return JobEvidence(
        outcome, source, has_ended=True, is_hopeless=is_hopeless,
        is_regular=summary.reason == EndReason.RUN.value or bool(gone),
        has_no_machine=has_useless_replacements(history), batch=batch, gone=gone,
    )  # fmt: skip


def _load_current_jobs(context: Context, run: MonitorFile, evidence: Evidence, history: RunHistory) -> JobEvidence:
    """Return the same for a run without a recorded end. If nothing of it exists any more, nobody watched it to its end.

    AWS errors are not caught.
    """
    from distributed_something.diagnose.why.job_causes import JobEvidence, is_everything_gone
    from distributed_something.observe.documents.replacements import load_replacements
    from distributed_something.results.job_source import find_job_source
    from distributed_something.results.outcome import load_failures
    from distributed_something.run.monitor.unusable import has_useless_replacements
    from distributed_something.run.run_outcome import load_current_outcome

    clients, counts = context.clients, evidence.counts
    source = find_job_source(clients, run, min(history.until, evidence.at), evidence.at)
    if is_everything_gone(evidence):
        outcome = load_current_outcome(clients, run, evidence.at)
        return JobEvidence(outcome, source, has_ended=True, is_regular=True)
    replacements = load_replacements(clients.s3, run, evidence.at)
    failures = load_failures(clients.s3, run, replacements=replacements)
    if failures is None:
        return JobEvidence(source=source, has_pauses=evidence.has_pauses)
    outcome = replace(failures, left=counts.jobs if counts else 0)
    has_success = outcome.counts.done or outcome.counts.already_there
    return JobEvidence(
        outcome, source, is_hopeless=not has_success, has_pauses=evidence.has_pauses,
        has_no_machine=has_useless_replacements(history),
    )  # fmt: skip


@click.command(
    cls=Command,
    needs="A run that startCluster started: its monitor file or its name, or neither for the newest run. It may have "
    "ended, and its resources may be removed.",
    examples=("verify", "verify 20261123T104500Z --json"),
    next_step="If results are changed, delete them; then submitJob JOBFILE runs the jobs whose results are missing.",
    runs_workers=False,
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.option("--yes", is_flag=True, help="Do not ask before sending many requests.")
@click.pass_obj
def verify(context: Context, monitor_file: Path | None, as_json: bool, yes: bool) -> None:
    """Check that every result is in the bucket as it was uploaded."""
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.results.verify.listed_results import check_run_exists, plan_verification
    from distributed_something.results.verify.verify_results import verify_results
    from distributed_something.results.verify.view import build_verification_json, format_repair, format_verification

    file = context.load_run(monitor_file, "verify")
    s3 = context.clients.s3
    with translate_aws_errors("reading the records of the run"):
        plan = plan_verification(s3, file.MONITOR_BUCKET_NAME, file.keys)
        check_run_exists(s3, file.MONITOR_BUCKET_NAME, file.keys, plan)
    _confirm_requests(context, file, plan, yes=yes)
    view = SubmitView(plan.results, context.console, "verifying results")
    with translate_aws_errors("verifying the results of the run"), view as show_progress:
        verification = verify_results(s3, file, lambda count: show_progress(count, plan.results))
    if as_json:
        context.console.print_result(build_verification_json(verification, file.run, file.MONITOR_APP_NAME))
    else:
        context.console.print_result(format_verification(verification, file.run, file.MONITOR_APP_NAME))
        if verification.is_repairable:
            context.console.print_result(format_repair(_list_repairs(context, monitor_file, file)))
    if not verification.is_intact:
        raise SystemExit(ExitCode.CLOUD)


def _list_repairs(context: Context, given: Path | None, file: MonitorFile) -> list[str]:
    """Return the commands that run the run's jobs without results again."""
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.results.command_line import RUN_COMMANDS
    from distributed_something.results.job_source import find_job_source

    now = Clock().now()
    with translate_aws_errors("reading the submissions of the app"):
        source = find_job_source(context.clients, file, now, now)
    line = context.build_run_line(given, file).select_job_file(source.job_file)
    remaining = context.find_remaining_commands()
    return line.list_run_commands([name for name in RUN_COMMANDS if name in remaining or name == "submitJob"])


def _confirm_requests(context: Context, file: MonitorFile, plan: VerificationPlan, *, yes: bool) -> None:
    """Print how many requests it takes, if they are many, and ask. End the command unless the answer is yes.

    The local cloud costs nothing, so nobody is asked. Raise InputError if there is no terminal to ask in.
    """
    from distributed_something.core.errors import InputError
    from distributed_something.results.verify.listed_results import MAX_UNASKED_REQUESTS
    from distributed_something.results.verify.view import format_plan

    if plan.requests <= MAX_UNASKED_REQUESTS:
        return
    text = format_plan(plan, is_free=context.local)
    if not (yes or context.local or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise InputError(file.run, "", text, "add --yes to send them")
    context.console.print_progress(text)
    if not (yes or context.local) and not click.confirm("Send them?", default=False, err=True):
        context.console.print_progress("nothing was verified")
        raise SystemExit(ExitCode.INPUT)
