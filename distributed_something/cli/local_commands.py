"""The commands for the local cloud: `interrupt` and `stop`."""

from __future__ import annotations

import click

from distributed_something.cli.context import Context
from distributed_something.cli.group import Command, Number
from distributed_something.core.text import format_row


@click.command(
    cls=Command,
    needs="A run in the local cloud (startCluster).",
    examples=("--local interrupt", "--local interrupt --notice 5"),
    next_step="monitor, which shows how the run recovers",
)
@click.argument("machine", required=False, metavar="[INSTANCE_ID]")
@click.option("--notice", default=120.0, show_default=True, metavar="SECONDS", type=Number(0, 120),
              help="How long the machine keeps running after the notice.")  # fmt: skip
@click.pass_obj
def interrupt(context: Context, machine: str | None, notice: float) -> None:
    """Interrupt a machine, as EC2 interrupts spot machines."""
    context.check_local("interrupt")
    assert context.cloud is not None
    cloud = context.cloud
    context.console.print_progress(
        format_row("machine", f"{cloud.interrupt_machine(machine, notice_seconds=notice)} is interrupted")
    )


@click.command(
    cls=Command,
    needs="Nothing. Results stay in the folder local/.",
    examples=("--local stop", "--local --project examples/cellcount stop"),
    next_step="setup, which starts the local cloud again",
)
@click.pass_obj
def stop(context: Context) -> None:
    """Stop the local cloud and all its processes."""
    context.check_local("stop")
    from distributed_something.localcloud import stop_local_cloud

    stopped = stop_local_cloud(context.project)
    context.console.print_progress(
        "the local cloud is stopped" if stopped else "this project's local cloud was not running"
    )
