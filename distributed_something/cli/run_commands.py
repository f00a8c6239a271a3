"""The commands of a run, from `setup` to `cleanup`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distributed_something.cli.completion.values import ProjectFile, save_failures
from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command, Number
from distributed_something.core.text import format_row

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.run.monitor.policy import Pace
    from distributed_something.run.run_context import RunContext

CHEAPEST_HELP = "After 15 minutes, stop replacing machines that are terminated."


@click.command(
    cls=Command,
    needs="config.py; on AWS, also AWS credentials and the roles that setupAWS creates.",
    examples=("setup", "--local setup"),
    next_step="submitJob JOBFILE",
)
@click.pass_obj
def setup(context: Context) -> None:
    """Create the queue, log groups, cluster, and an empty service."""
    from distributed_something.core.clock import Clock
    from distributed_something.core.config_settings import find_misspelled_constants
    from distributed_something.core.image_name import find_published_base
    from distributed_something.diagnose.check.container_image.check_image import explain_published_image
    from distributed_something.run.setup import require_bucket, set_up_run

    settings, print_progress = context.settings, context.console.print_progress
    for name, known in find_misspelled_constants(settings).items():
        print_progress(
            f"warning: {context.config_file}: {name}: this is not a known constant, but its name is similar to"
            f" {known}; write {known}, unless {name} is a constant of your own"
        )
    if (base := find_published_base(settings.DOCKERHUB_TAG)) is not None:
        problem, remedy = explain_published_image(settings.DOCKERHUB_TAG, base)
        print_progress(f"warning: {context.config_file}: DOCKERHUB_TAG: {problem}; {remedy}")
    require_bucket(context.clients, settings)
    set_up_run(context.clients, settings, print_progress, Clock().sleep)
    context.print_next_command("submitJob")


@click.command(
    "startCluster",
    cls=Command,
    needs="A Fleet file (fleetFile writes one), and jobs in the queue. On AWS, machines cost money from now on.",
    examples=("startCluster files/exampleFleet.json", "startCluster files/exampleFleet.json --cheapest"),
    next_step="monitor MONITORFILE, unless the config has AUTO_MONITOR = 'True'",
)
@click.argument("fleet_file", metavar="FLEETFILE", type=ProjectFile("Fleet file"))
@click.option("--wait", default=10.0, show_default=True, metavar="MINUTES", type=Number(0, 1440),
              help="How long to wait for the machines to start.")  # fmt: skip
@click.option("--cheapest", is_flag=True, help=CHEAPEST_HELP)
@click.option("--yes", is_flag=True, help="Do not ask before starting machines while the queue is empty.")
@click.pass_obj
def start_cluster(context: Context, fleet_file: Path, wait: float, cheapest: bool, yes: bool) -> None:
    """Start the machines, which take jobs from the queue."""
    from distributed_something.core.monitor_file import build_monitor_file_path
    from distributed_something.results.command_line import format_next_command
    from distributed_something.run.dashboard import ensure_dashboard
    from distributed_something.run.start import start_run, watch_machine_arrivals

    content = _load_fleet_file(context, fleet_file)
    settings, print_progress = context.settings, context.console.print_progress
    if context.cloud is not None:
        content = context.cloud.adapt_fleet_file(content)
        topic = context.cloud.ensure_topic(settings.NOTIFY) if settings.NOTIFY else ""
        # The local cloud writes log streams to files anyway.
        settings = settings.model_copy(update={"EXPORT_LOGS": False, "NOTIFY": topic})
    run_context = replace(build_run_context(context), settings=settings)
    clients, clock = run_context.clients, run_context.clock
    run = start_run(
        run_context, fleet_file, content, context.project, cheapest=cheapest,
        check_account=lambda: _stop_if_check_fails(context, fleet_file, content),
        confirm_start=lambda: None if yes else _confirm_empty_queue(context),
    )  # fmt: skip
    path = shorten_path(build_monitor_file_path(context.project, settings.APP_NAME))
    print_progress(format_row("fleet", f"{run.MONITOR_FLEET_ID} (run {run.run})"))
    _record_inputs(context, run, fleet_file)
    if settings.CREATE_DASHBOARD:
        print_progress(ensure_dashboard(clients.cloudwatch, settings, run.MONITOR_FLEET_ID))
    if settings.AUTO_MONITOR:
        print_progress(format_row("monitor", "runs in AWS, once a minute"))
    else:
        print_progress(format_next_command(context.command_line.format_command("monitor", str(path))))
    pause = 0.5 if context.local else 15.0
    watch_machine_arrivals(clients, settings, run, clock, wait_minutes=wait, pause=pause, print_progress=print_progress)


def _record_inputs(context: Context, run: MonitorFile, fleet_file: Path) -> None:
    """Write what the run was started with to the bucket. If that fails, print a note."""
    import time

    from distributed_something.diagnose.check.container_image.digest import find_image_digest
    from distributed_something.diagnose.check.container_image.http import RegistryHttp
    from distributed_something.jobs.submission.document import find_git_commit
    from distributed_something.run.inputs.run_document import RunFiles, record_run_inputs

    clients, settings = context.clients, context.settings

    def look_up_digest() -> str | None:
        image = settings.DOCKERHUB_TAG
        return (
            None if context.local else find_image_digest(image, settings.AWS_REGION, clients.ecr, RegistryHttp().fetch)
        )

    files = RunFiles(context.config_file, fleet_file, find_git_commit(context.project), look_up_digest)
    if reason := record_run_inputs(clients, settings, run, files, time.time()):
        context.console.print_progress(
            f"note: what the run was started with could not be kept in the bucket ({reason})"
        )


@click.command(
    cls=Command,
    needs="The monitor file, which startCluster writes, or its copy in the bucket. Leave this command running; if it "
    "stops, run it again.",
    examples=(
        "monitor files/DistributedSomethingSpotFleetRequestId.json",
        "monitor files/DistributedSomethingSpotFleetRequestId.json True",
    ),
    next_step="Look at the results in your bucket; the summary at the end shows where they are.",
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=ProjectFile("monitor file"))
@click.argument(
    "cheapest", required=False, metavar="[True|False]", type=click.Choice(["True", "False"], case_sensitive=False)
)
@click.option("--cheapest", "cheapest_option", is_flag=True, help=CHEAPEST_HELP)
@click.pass_obj
def monitor(context: Context, monitor_file: Path | None, cheapest: str | None, cheapest_option: bool) -> None:
    """Watch a run, scale its fleet, and clean up at the end."""
    from distributed_something.run.finish import monitor_run

    if cheapest is None and str(monitor_file).lower() in ("true", "false"):  # the mode without a file
        monitor_file, cheapest = None, str(monitor_file).capitalize()
    run = _load_monitored_run(context, monitor_file)
    lowest_cost = cheapest == "True" or cheapest_option
    end = monitor_run(
        build_run_context(context, monitor_file, run), run, cheapest=lowest_cost, pace=choose_pace(context)
    )
    save_failures(context, run.run, end.failures)
    if context.cloud is not None:
        buckets = context.cloud.list_bucket_names()
        folder = context.cloud.export_buckets(buckets, lambda text: context.console.print_progress(f"warning: {text}"))
        folders = ", ".join(str(shorten_path(folder / bucket)) for bucket in buckets)
        context.console.print_progress(format_row("results", folders))
    if not end.is_clean:
        raise SystemExit(ExitCode.CLOUD)
    if not end.is_complete:
        raise SystemExit(ExitCode.UNFINISHED)


@click.command(
    cls=Command,
    needs="config.py, and the monitor file or the run's name to clean up one run; without it, the whole app is cleaned "
    "up.",
    examples=("cleanup files/DistributedSomethingSpotFleetRequestId.json", "cleanup --verify"),
    next_step="setup, for the next run",
    runs_workers=False,
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=ProjectFile("monitor file"))
@click.option("--verify", is_flag=True, help="Only list what remains of this run or, without a file, of all runs.")
@click.option("--stale", is_flag=True, help="List what older runs left behind; with --yes, delete it.")
@click.option("--yes", is_flag=True, help="Delete the queue even if jobs are waiting in it.")
@click.option("--failed-too", is_flag=True, help="Also delete the app's dead-letter queue if it contains failed jobs.")
@click.pass_obj
def cleanup(
    context: Context, monitor_file: Path | None, verify: bool, stale: bool, yes: bool, failed_too: bool
) -> None:
    """Stop a run and delete its resources, or list what remains."""
    from distributed_something.run.cleanup.clean_up import (
        clean_up_and_verify,
        clean_up_stale_runs,
        report_remaining_resources,
    )

    if monitor_file and context.is_test_run_file(monitor_file) and not (verify or stale):
        _clean_up_test_run(context, monitor_file, yes=yes)
        return
    run = context.load_run(monitor_file, "cleanup") if monitor_file else None
    run_context = build_run_context(context)
    if stale:
        clean = clean_up_stale_runs(run_context, yes=yes)
    elif verify:
        clean = report_remaining_resources(run_context, run)
    else:
        source = monitor_file or context.config_file
        clean = clean_up_and_verify(run_context, run, source, yes=yes, failed_too=failed_too)
    if not clean:
        raise SystemExit(ExitCode.CLOUD)


def _clean_up_test_run(context: Context, monitor_file: Path, *, yes: bool) -> None:
    """Remove what a killed `testRun` left, whether or not it had written its monitor file.

    End with the code 1 if something is left.
    """
    from distributed_something.cli.test_run.removal import remove_killed_test_run

    lines = remove_killed_test_run(build_run_context(context), monitor_file, yes=yes)
    context.console.print_result("\n".join(lines) or format_row("testRun", "nothing is left"))
    if lines:
        raise SystemExit(ExitCode.CLOUD)


def _load_monitored_run(context: Context, given: Path | None) -> MonitorFile:
    """Return the monitor file of the run to watch, and print a note if it is the copy in the bucket.

    Raise InputError if the name of an earlier run was given: its queue and its service are now those of a newer run.
    """
    from distributed_something.core.errors import InputError
    from distributed_something.run.monitor_file_copy import find_newest_copy

    run, path = context.load_run(given, "monitor"), given or context.default_monitor_file
    if path.exists():
        return run
    if str(given) != run.run:
        context.console.print_progress(f"note: {path} does not exist; using its copy in the bucket")
        return run
    newest = find_newest_copy(context.clients.s3, context.settings)
    if newest is not None and newest.run > run.run:
        problem = f"{newest.run} is the newest run of {run.MONITOR_APP_NAME}, and monitor acts only on that one"
        commands = [context.format_command("status", run.run)]
        raise InputError(run.run, "", problem, "to see this run, type", commands=commands)
    return run


def _load_fleet_file(context: Context, path: Path) -> dict[str, Any]:
    """Return the content of the Fleet file. Raise one InputError with all problems of the config, the file, and setup.

    What `setup` creates is looked up only if something else is wrong; otherwise, `start_run` does it.
    """
    from distributed_something.core.errors import InputProblems
    from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file

    problems, settings, content = InputProblems(), None, {}
    with problems.collect():
        settings = context.settings
    with problems.collect():
        context.check_file(path, "Fleet file", "startCluster")
        content = load_fleet_file(path, settings=settings, is_local=context.local)
        if settings is not None and not context.local:  # the local cloud first fills in placeholders
            check_fleet_file(context.clients.ec2, settings, content, path)
    if settings is not None and problems.has_any:
        with problems.collect():
            context.check_setup()
    problems.raise_if_any()
    return content


def build_run_context(context: Context, monitor_file: Path | None = None, run: MonitorFile | None = None) -> RunContext:
    """Return the context of a run's command; `monitor_file`: the file or the run's name, as the user typed it."""
    from distributed_something.run.run_context import RunContext

    line = context.build_run_line(monitor_file, run)
    run_context = RunContext(context.clients, context.settings, context.console, command_line=line)
    # The local cloud's counts are exact.
    return replace(run_context, pause=0.5, settling_seconds=0.0) if context.local else run_context


def choose_pace(context: Context) -> Pace:
    """Return how often to look at the run: more often in the local cloud, where counts are exact and machines start at
    once.
    """
    from distributed_something.run.monitor.policy import Pace

    if not context.local:
        return Pace()
    return Pace(
        interval_seconds=0.5,
        short_interval_seconds=0.5,
        settling_seconds=2.0,
        new_machine_seconds=3.0,
        first_container_seconds=20.0,
    )


def _confirm_empty_queue(context: Context) -> None:
    """Ask before machines are started for an empty queue. End the command unless the answer is yes.

    Raise InputError if there is no terminal to ask in.
    """
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import InputError
    from distributed_something.results.command_line import format_command_rows
    from distributed_something.results.job_source import select_last_job_file
    from distributed_something.run.setup import is_queue_empty

    clients, settings = context.clients, context.settings
    if not is_queue_empty(clients, settings, Clock().now(), has_exact_counts=context.local):
        return
    name, app = settings.SQS_QUEUE_NAME, settings.APP_NAME
    line = select_last_job_file(clients.s3, settings, context.command_line)
    first = line.format_command("submitJob", line.job_file)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        problem = f"the queue {name} of {app} is empty, so its machines would have nothing to do"
        remedy = "add --yes, or type first"
        raise InputError(context.config_file, "SQS_QUEUE_NAME", problem, remedy, commands=[first])
    context.console.print_progress("\n".join([f"The queue {name} is empty; type first:", *format_command_rows(first)]))
    if not click.confirm("Start machines anyway?", default=False, err=True):
        context.console.print_progress("no machines were requested")
        raise SystemExit(ExitCode.INPUT)


def _stop_if_check_fails(context: Context, fleet_file: Path, content: dict[str, Any]) -> None:
    """Print the warnings from `check`, and end the command if `check` finds an error.

    Before `setup`, one error names everything that does not exist, because `check` looks only at the queues.
    Warnings are not printed for the local cloud, which costs nothing and does not emulate everything that `check`
    examines.
    """
    from datetime import UTC, datetime

    from distributed_something.core.errors import InputProblems
    from distributed_something.diagnose.check.check import run_preflight_checks
    from distributed_something.diagnose.check.container_image.http import RegistryHttp
    from distributed_something.diagnose.check.findings import FindingLevel, choose_exit_code, format_findings
    from distributed_something.diagnose.check.prices.check_next_run import select_waiting_forecast
    from distributed_something.diagnose.check.prices.price_table import format_prices

    fetch = None if context.local else RegistryHttp().fetch
    now = datetime.now(UTC)
    findings = run_preflight_checks(
        context.clients, context.settings, fleet_file, content, now, fetch, is_local=context.local
    )
    findings = select_waiting_forecast(findings, context.clients, context.settings, now.timestamp())
    wrong = [finding for finding in findings if finding.level is FindingLevel.WRONG]
    least = FindingLevel.WRONG if context.local else FindingLevel.WARNING
    shown = (FindingLevel.WRONG,) if context.local else (FindingLevel.WRONG, FindingLevel.WARNING)
    problems, are_queues_wrong = InputProblems(), any(finding.topic == "queue" for finding in wrong)
    with problems.collect():
        if are_queues_wrong:
            context.check_setup()
    is_setup_missing = problems.has_any and all(finding.topic == "queue" for finding in wrong)
    if any(finding.level in shown for finding in findings) and not is_setup_missing:
        context.console.print_progress(format_findings(findings, least=least))
    problems.raise_if_any()
    if table := format_prices(findings, context.settings, is_local=context.local):
        context.console.print_progress(table)
    if code := choose_exit_code(findings):
        raise SystemExit(code)
