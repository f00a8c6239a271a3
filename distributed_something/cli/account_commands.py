"""The commands for an account: `setupAWS` and `fleetFile`."""

from __future__ import annotations

from pathlib import Path

import click

from distributed_something.cli.context import ROOT, Context, ExitCode, shorten_path
from distributed_something.cli.group import Command


@click.command("setupAWS", cls=Command)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--destroy", is_flag=True, help="Remove what setupAWS made.")
@click.option("--read", multiple=True, metavar="BUCKET", help="Another bucket that job files read; repeatable.")
@click.option("--write", multiple=True, metavar="BUCKET", help="Another bucket that job files write; repeatable.")
@click.option("--policies", is_flag=True, help="Print what an administrator hands out to people, and do nothing.")
@click.pass_obj
def setup_aws(
    context: Context, dry_run: bool, destroy: bool, read: tuple[str, ...], write: tuple[str, ...], policies: bool
) -> None:
    """Make the account's roles and its auto-monitor."""
    import json

    from distributed_something.account.setup_aws import (
        build_handout_policies,
        collect_buckets,
        delete_account_setup,
        set_up_account,
    )
    from distributed_something.account.step import SetupState, format_setup_row
    from distributed_something.aws.sts import identify_account
    from distributed_something.core.clock import Clock

    settings, clients, console, clock = context.settings, context.clients, context.console, Clock()
    place, buckets = identify_account(clients, settings.AWS_REGION), collect_buckets(settings, read, write)
    if policies:
        console.print_result(json.dumps(build_handout_policies(place, buckets), indent=2))
        return
    rows = (
        delete_account_setup(clients, place, buckets, clock.now, dry_run=dry_run)
        if destroy
        else set_up_account(clients, place, buckets, ROOT, clock.sleep, dry_run=dry_run)
    )
    left = False
    for row in rows:
        console.print_result(format_setup_row(row))
        left = left or row.state is SetupState.LEFT
    if left:
        raise SystemExit(ExitCode.CLOUD)


@click.command("fleetFile", cls=Command)
@click.option("--vpc", metavar="ID", help="Another network than the region's default one.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it; files/APP_NAMEFleet.json without.")
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@click.pass_obj
def fleet_file(context: Context, vpc: str | None, output: Path | None, force: bool) -> None:
    """Write a Fleet file that is ready for this account."""
    from distributed_something.aws.sts import identify_account
    from distributed_something.core.clock import Clock
    from distributed_something.fleet.write_fleet_file import (
        FleetFileOptions,
        format_fleet_file_summary,
        write_fleet_file,
    )

    settings, clients, say = context.settings, context.clients, context.console.print_progress
    place = identify_account(clients, settings.AWS_REGION)
    path = output or shorten_path(context.project / "files" / f"{settings.APP_NAME}Fleet.json")
    options = FleetFileOptions(path, context.config_file, vpc, force)
    for line in format_fleet_file_summary(write_fleet_file(clients, place, settings, options, Clock().sleep)):
        say(line)
    say(f"next: startCluster {path}")
