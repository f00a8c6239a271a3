"""The command `testRun`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distributed_something.cli.completion.values import ProjectFile
from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command
from distributed_something.cli.run_commands import build_run_context
from distributed_something.core.text import format_cost, format_duration, format_names, format_usd, format_wrapped_row

if TYPE_CHECKING:
    from distributed_something.cli.test_run.plan import PlannedTest
    from distributed_something.cli.test_run.run_tester import TestOutcome
    from distributed_something.cli.test_run.view import StepView

MIN_BILLED_SECONDS = 60.0  # EC2 bills each second of a Linux machine, but at least a minute: aws.amazon.com/ec2/pricing
NO_MACHINE_TEXT = "nothing: no machine was seen"


@click.command(
    "testRun",
    cls=Command,
    needs="config.py; on AWS, also the roles that setupAWS creates, a Fleet file (fleetFile writes one), and the "
    "image. It takes about ten minutes and costs a few cents.",
    examples=("testRun", "testRun files/exampleFleet.json", "--local testRun"),
    next_step="setup, for the first real run",
)
@click.argument("fleet_file", required=False, metavar="[FLEETFILE]", type=ProjectFile("Fleet file"))
@click.pass_obj
def test_run(context: Context, fleet_file: Path | None) -> None:
    """Prove with one machine and two tiny jobs that runs work."""
    from distributed_something.cli.test_run.run_tester import RunTester
    from distributed_something.cli.test_run.steps import AWS_PACE, LOCAL_PACE, Step
    from distributed_something.cli.test_run.view import StepView
    from distributed_something.core.clock import Clock

    plan, console, clock = _build_plan(context, fleet_file), context.console, Clock()
    pace = LOCAL_PACE if context.local else AWS_PACE
    with StepView(console, clock.now) as view:
        view.begin_step(Step.CHECKED)
        _check_account(context, plan, view)
        run_context = replace(build_run_context(context), settings=plan.settings, clock=clock)
        outcome = RunTester(run_context, plan, context.project, pace, view).run()
        view.print_row("cost", None, _format_cost(context, plan, outcome))
    _report_end(context, outcome, ("testRun", *((str(fleet_file),) if fleet_file else ())))


def _build_plan(context: Context, given: Path | None) -> PlannedTest:
    """Return the plan. Raise one InputError with all problems of the config and the Fleet file."""
    from distributed_something.cli.test_run.plan import build_test_plan, choose_cheapest_type
    from distributed_something.core.clock import Clock
    from distributed_something.fleet.fleet_file import check_fleet_file

    path, content = _load_fleet_file(context, given)
    settings, clients = context.settings, context.clients
    if context.cloud is not None:
        content = context.cloud.adapt_fleet_file(content)
    check_fleet_file(clients.ec2, settings, content, path)
    plan = build_test_plan(settings, path, content, choose_cheapest_type(clients.ec2, settings, Clock().now()))
    check_fleet_file(clients.ec2, plan.settings, plan.fleet, path)
    return plan


def _load_fleet_file(context: Context, given: Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the Fleet file's path and content. Raise one InputError with its problems and those of the config."""
    from distributed_something.core.errors import InputProblems
    from distributed_something.fleet.fleet_file import load_fleet_file

    problems, settings, path, content = InputProblems(), None, Path(), {}
    with problems.collect():
        settings = context.settings
    with problems.collect():
        path = given or _find_fleet_file(context)
        context.check_file(path, "Fleet file", "testRun")
        content = load_fleet_file(path, settings=settings, is_local=context.local)
    problems.raise_if_any()
    return path, content


def _find_fleet_file(context: Context) -> Path:
    """Return the project's Fleet file. Raise InputError if it has none, or several."""
    from distributed_something.core.errors import InputError
    from distributed_something.core.files import list_files_of_kind
    from distributed_something.results.command_line import FLEET_FILE_WORD

    line, folder = context.command_line, shorten_path(context.project / "files")
    if line.fleet_file != FLEET_FILE_WORD:
        return Path(line.fleet_file)
    paths = [str(path) for path in list_files_of_kind(folder, "Fleet file")]
    if not paths:
        remedy = f"write one, type: {line.format_command('fleetFile')}"
        raise InputError(folder, "", "this folder contains no Fleet file", remedy)
    remedy = f"give one of them: {line.format_command('testRun', paths[0])}"
    raise InputError(folder, "", f"this folder contains several Fleet files ({format_names(paths)})", remedy)


def _check_account(context: Context, plan: PlannedTest, view: StepView) -> None:
    """Make all checks of `check` except that of the queues, which do not exist yet, before anything is created.

    End the command if something is wrong, or raise InputError if another test run of the app is active.
    """
    from datetime import UTC, datetime

    from distributed_something.diagnose.check.check import run_preflight_checks
    from distributed_something.diagnose.check.container_image.http import RegistryHttp
    from distributed_something.diagnose.check.findings import FindingLevel, choose_exit_code, format_findings

    _check_no_other_test(context, plan)
    fetch, now = None if context.local else RegistryHttp().fetch, datetime.now(UTC)
    findings = run_preflight_checks(context.clients, plan.settings, plan.fleet_file, plan.fleet, now, fetch)
    findings = [finding for finding in findings if finding.topic != "queue"]
    if code := choose_exit_code(findings):
        context.console.print_progress(format_findings(findings, least=FindingLevel.WRONG))
        context.console.print_result("stopped at      account checked; nothing was created")
        raise SystemExit(code)
    view.end_step("nothing is wrong")


def _check_no_other_test(context: Context, plan: PlannedTest) -> None:
    """Raise InputError if another test run of the app is in progress. If S3 refuses to say, the checks explain that."""
    from contextlib import suppress

    from distributed_something.cli.test_run.lock import TestRunLock
    from distributed_something.cli.test_run.removal import build_removal_command
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import AWSError
    from distributed_something.core.monitor_file import build_monitor_file_path

    path = build_monitor_file_path(context.project, plan.settings.APP_NAME)
    removal = build_removal_command(context.command_line, path)
    with suppress(*AWSError):
        TestRunLock(context.clients.s3, plan.settings, removal).check_free(Clock().now())


def _format_cost(context: Context, plan: PlannedTest, outcome: TestOutcome) -> str:
    from distributed_something.diagnose.check.cost import IPV4_USD_PER_HOUR

    if context.local:
        return "nothing, on this computer"
    if outcome.machine_seconds is None:
        return NO_MACHINE_TEXT
    seconds = max(outcome.machine_seconds, MIN_BILLED_SECONDS)
    use = f"{plan.machine_type} for {format_duration(seconds)}"
    if plan.settings.ON_DEMAND_MACHINES:
        return f"not known: {use}, an on-demand machine, whose price is not looked up"
    if outcome.hourly is None:
        return f"not known: {use}, whose spot price could not be looked up"
    hourly = outcome.hourly + (IPV4_USD_PER_HOUR if plan.settings.ASSIGN_IP else 0.0)
    total = format_cost(hourly * seconds / 3600)
    return f"{total} USD: {use} at {format_usd(hourly)} USD per hour"


def _report_end(context: Context, outcome: TestOutcome, again: Sequence[str] = ("testRun",)) -> None:
    """Print why the test run stopped, and what is left. End the command with the matching exit code.

    `again`: the words of the command that tests again, which the remedies do not contain in full.
    """
    from distributed_something.cli.test_run.explanation import format_explanation
    from distributed_something.results.command_line import format_next_command

    console = context.console
    if outcome.remaining:
        console.print_result("\n".join(outcome.remaining))
    if outcome.explanation is not None:
        console.print_result(format_explanation(outcome.explanation, context.command_line))
    elif outcome.stopped_step is not None:
        console.print_result(format_wrapped_row("stopped at", outcome.stopped_step.value))
    if outcome.remaining:
        raise SystemExit(ExitCode.CLOUD)
    if isinstance(outcome.error, KeyboardInterrupt):  # `main` would say how to continue, but nothing is left
        console.print_progress("run.py: interrupted; nothing is left of this test run")
        raise SystemExit(ExitCode.INTERRUPTED)
    if outcome.error is not None:
        raise outcome.error
    if outcome.explanation is not None:
        console.print_progress(format_next_command(context.format_command(*again)))
        raise SystemExit(ExitCode.UNFINISHED)
    console.print_result(format_wrapped_row("passed", "every step works; type the commands of a real run"))
    context.print_next_command("setup")
