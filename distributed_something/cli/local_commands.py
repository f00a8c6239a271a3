"""The commands for the cloud in this computer: `interrupt` and `stop`."""

from __future__ import annotations

import click

from distributed_something.cli.context import Context
from distributed_something.cli.group import Command, Number
from distributed_something.core.text import format_row


@click.command(cls=Command)
@click.argument("machine", required=False, metavar="[INSTANCE_ID]")
@click.option("--notice", default=120.0, show_default=True, metavar="SECONDS", type=Number(0, 120),
              help="How long the machine has left, as spot machines do.")  # fmt: skip
@click.pass_obj
def interrupt(context: Context, machine: str | None, notice: float) -> None:
    """Take a machine away as a spot machine is taken."""
    context.check_local("interrupt")
    assert context.cloud is not None
    cloud = context.cloud
    context.console.print_progress(
        format_row("machine", f"{cloud.interrupt(machine, notice_seconds=notice)} is taken away")
    )


@click.command(cls=Command)
@click.pass_obj
def stop(context: Context) -> None:
    """End the cloud in this computer and all its processes."""
    context.check_local("stop")
    from distributed_something.localcloud import stop_local_cloud

    stopped = stop_local_cloud(context.project)
    context.console.print_progress("the local cloud is stopped" if stopped else "no local cloud was running")
