"""The command `status`, which looks at a run without changing anything."""

from __future__ import annotations

from pathlib import Path

import click

from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.group import Command
from distributed_something.cli.monitor_file import find_monitor_file

WATCH_SECONDS, LOCAL_WATCH_SECONDS = 10.0, 1.0
WATCH_FOOTER = "Ctrl-C stops watching; the run continues"


@click.command(
    cls=Command,
    needs="A run that startCluster started. It may have ended, and its resources may be removed.",
    examples=("status", "status --watch", "status files/DistributedSomethingSpotFleetRequestId.json --json"),
    next_step="retry, if jobs failed",
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--watch", is_flag=True, help="Show the status again and again, until the run has ended.")
@click.pass_obj
def status(context: Context, monitor_file: Path | None, as_json: bool, watch: bool) -> None:
    """Show how a run is going or how it ended, and why jobs failed."""
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.run.run_status import RunView, observe_status
    from distributed_something.run.screen.print_status import print_status, watch_status

    if as_json and watch:
        raise click.UsageError("--json and --watch cannot be used together")
    path, file = find_monitor_file(context, monitor_file)
    retry, clock = context.format_command("retry", path), Clock()
    with translate_aws_errors("looking at the run"):
        view = RunView.open(context.clients, file)
        if watch:
            pause = LOCAL_WATCH_SECONDS if context.local else WATCH_SECONDS
            current = watch_status(view, context.console, clock, pause=pause, footer=WATCH_FOOTER)
        else:
            current = observe_status(view, clock.now())
    print_status(view, current, context.console, retry, as_json=as_json)
    if current.has_failures:
        raise SystemExit(ExitCode.UNFINISHED)
