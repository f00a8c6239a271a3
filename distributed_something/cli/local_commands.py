"""The commands for the local cloud: `runScript`, `interrupt`, and `stop`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command, Number
from distributed_something.core.text import format_count, format_row

if TYPE_CHECKING:
    from distributed_something.localcloud import LocalCloud
    from distributed_something.localcloud.client.job_queues import JobQueue


@click.command(
    "runScript",
    cls=Command,
    needs="The program. For a script that sends jobs, setup, which creates the queue.",
    examples=("--local runScript aws s3 sync FOLDER s3://BUCKET/PREFIX", "--local runScript python my_script.py"),
    next_step="startCluster, if the script has sent jobs",
    runs_workers=False,
    context_settings={"allow_interspersed_args": False},  # options after the program's name are the program's
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="PROGRAM [ARGUMENT]...")
@click.pass_obj
def run_script(context: Context, command: tuple[str, ...]) -> None:
    """Run the AWS CLI or a script of yours with the local cloud.

    The program needs no change: environment variables tell boto3 and the AWS CLI to use the local cloud instead of AWS.
    """
    context.check_local("runScript", *command)
    from distributed_something.core.errors import InputError

    assert context.cloud is not None
    environment = os.environ | context.cloud.build_environment()
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except OSError as error:
        problem = f"{command[0]!r} cannot be started ({error.strerror})"
        raise InputError("runScript", "", problem, "check the name, or give the path of the program") from None
    raise SystemExit(code if code >= 0 else 128 - code)  # as in a shell, 128 and the number of the signal


@click.command(
    cls=Command,
    needs="A run in the local cloud (startCluster).",
    examples=("--local interrupt", "--local interrupt --notice 5"),
    next_step="monitor, which shows how the run recovers",
    runs_workers=False,
)
@click.argument("machine", required=False, metavar="[INSTANCE_ID]")
@click.option("--notice", default=120.0, show_default=True, metavar="SECONDS", type=Number(0, 120),
              help="How long the machine keeps running after the notice.")  # fmt: skip
@click.pass_obj
def interrupt(context: Context, machine: str | None, notice: float) -> None:
    """Interrupt a machine, as EC2 interrupts spot machines."""
    context.check_local("interrupt")
    _check_run_is_active(context)
    assert context.cloud is not None
    cloud = context.cloud
    context.console.print_progress(
        format_row("machine", f"{cloud.interrupt_machine(machine, notice_seconds=notice)} is interrupted")
    )


def _check_run_is_active(context: Context) -> None:
    """Raise InputError with the commands that start a run if none is active. The local cloud is not started for this.

    If that cannot be looked up, the local cloud reports why.
    """
    from distributed_something.core.errors import InputError
    from distributed_something.results.command_line import RUN_COMMANDS

    app = context.settings.APP_NAME
    remaining = context.find_remaining_commands()
    if remaining and remaining != RUN_COMMANDS[-1:]:
        names = [name for name in remaining if name not in RUN_COMMANDS[-1:]]
        commands = context.command_line.list_run_commands(names)
        problem = f"no run of {app} is active, so there are no machines"
        raise InputError("interrupt", "", problem, "type first", commands=commands)


@click.command(
    cls=Command,
    needs="Nothing. Results stay in the folder local/.",
    examples=("--local stop", "--local --project examples/cellcount stop"),
    next_step="setup, which starts the local cloud again",
)
@click.option("--yes", is_flag=True, help="Do not ask, even if jobs are lost.")
@click.pass_obj
def stop(context: Context, yes: bool) -> None:
    """Stop the local cloud and all its processes.

    If a run is not finished, its results so far are copied to local/, and the jobs in its queue are lost.
    """
    context.check_local("stop")
    from distributed_something.localcloud import describe_former_cloud, find_local_cloud, stop_local_cloud

    print_progress, project = context.console.print_progress, context.project
    cloud = find_local_cloud(project)
    notice = None if cloud else describe_former_cloud(project)
    if cloud is not None:
        _end_runs(context, cloud, yes)
    stopped = stop_local_cloud(project)
    print_progress("the local cloud is stopped" if stopped else "this project's local cloud was not running")
    if notice:
        print_progress(f"note: {notice}")


def _end_runs(context: Context, cloud: LocalCloud, yes: bool) -> None:
    """Report the jobs that `stop` loses, ask whether to lose them, and export the results of unfinished runs.

    A finished run has no queue. Without a terminal, do not ask. An emulator that does not respond must not prevent
    `stop`, which is then the remedy.
    """
    from distributed_something.localcloud import LocalCloudError

    print_progress = context.console.print_progress
    try:
        queues = cloud.list_job_queues()
    except LocalCloudError as error:
        print_progress(f"warning: jobs may be lost, and results are not copied to local/: {error}")
        return
    unfinished = [queue for queue in queues if queue.jobs]
    for queue in unfinished:
        print_progress(format_row("jobs", _describe_lost_jobs(queue)))
    if unfinished and not yes and sys.stdin.isatty() and not click.confirm("Stop the local cloud?", err=True):
        print_progress("the local cloud is still running; monitor finishes the run")
        raise SystemExit(ExitCode.INPUT)
    if queues:
        _record_ends(cloud, queues)
        _export_results(context, cloud)


def _record_ends(cloud: LocalCloud, queues: Sequence[JobQueue]) -> None:
    """Save that the runs end now: what is submitted later, to new queues with the same names, belongs to other runs.

    A run whose documents cannot be read or written must not prevent `stop`.
    """
    from distributed_something.core.errors import AWSError, InputError
    from distributed_something.run.monitor.history import record_stop
    from distributed_something.run.monitor_file_copy import find_monitor_file_copy
    from distributed_something.worker import RunKeys

    s3 = cloud.build_client("s3")
    for run in filter(None, (queue.run for queue in queues)):
        with suppress(*AWSError, InputError):
            file = find_monitor_file_copy(s3, run.bucket, RunKeys(run.app, run.name).monitor_file)
            if file is not None:
                record_stop(s3, file, time.time())


def _describe_lost_jobs(queue: JobQueue) -> str:
    verb = "is" if queue.jobs == 1 else "are"
    run = f"run {queue.run.name}" if queue.run else "no run is active"
    running = f"; {queue.running:,} running" if queue.running else ""
    jobs = format_count(queue.jobs, "job")
    return f"{jobs} {verb} still in the queue {queue.name} ({run}{running}) and will be lost"


def _export_results(context: Context, cloud: LocalCloud) -> None:
    from distributed_something.localcloud import LocalCloudError

    try:
        folders = cloud.export_all_buckets(lambda text: context.console.print_progress(f"warning: {text}"))
    except LocalCloudError as error:
        context.console.print_progress(f"warning: {error}; they stay in the bucket, which the next start finds again")
        return
    if folders:
        context.console.print_progress(format_row("results", ", ".join(str(shorten_path(path)) for path in folders)))
