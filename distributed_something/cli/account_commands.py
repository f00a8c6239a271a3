"""The commands that prepare an AWS account: `setupAWS` and `fleetFile`."""

from __future__ import annotations

from pathlib import Path

import click

from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command


@click.command(
    "setupAWS",
    cls=Command,
    needs="config.py with your bucket and region, and AWS credentials that may create IAM roles (an administrator's).",
    examples=("setupAWS --dry-run", "setupAWS --read another-bucket"),
    next_step="fleetFile",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be created or changed.")
@click.option("--destroy", is_flag=True, help="Delete what setupAWS created.")
@click.option("--read", multiple=True, metavar="BUCKET", help="Another bucket jobs may read. Can be repeated.")
@click.option("--write", multiple=True, metavar="BUCKET", help="Another bucket jobs may write to. Can be repeated.")
@click.option("--session-manager", is_flag=True, help="Also let people log in to machines with Session Manager.")
@click.option("--policies", is_flag=True, help="Only print the policies that an administrator gives to users.")
@click.pass_obj
def setup_aws(
    context: Context, dry_run: bool, destroy: bool, read: tuple[str, ...], write: tuple[str, ...],
    session_manager: bool, policies: bool,
) -> None:  # fmt: skip
    """Create the account's roles and auto-monitor. Needed only once."""
    import json

    from distributed_something.account.bucket_key import find_bucket_keys, format_key_problem
    from distributed_something.account.setup_aws import (
        build_handout_policies,
        collect_buckets,
        delete_account_setup,
        set_up_account,
    )
    from distributed_something.account.step import SetupState, format_setup_row
    from distributed_something.aws.sts import identify_account
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.project.template import PACKAGE_PARENT

    settings, clients, console, clock = context.settings, context.clients, context.console, Clock()
    account, buckets = identify_account(clients, settings.AWS_REGION), collect_buckets(settings, read, write)
    if policies:
        with translate_aws_errors("inspecting the buckets"):
            keys = find_bucket_keys(clients, account, buckets.all)
        for key in (key for key in keys if key.problem):
            console.print_progress(f"warning: {format_key_problem(key)}")
        console.print_result(json.dumps(build_handout_policies(account, buckets, keys), indent=2))
        return
    if destroy:
        rows = delete_account_setup(clients, account, buckets, clock, dry_run=dry_run)
    else:
        options = {"dry_run": dry_run, "session_manager": session_manager}
        rows = set_up_account(clients, account, buckets, PACKAGE_PARENT, clock.sleep, **options)
    is_incomplete = False
    for row in rows:
        console.print_result(format_setup_row(row))
        is_incomplete = is_incomplete or row.state is SetupState.NOT_DONE
    if is_incomplete:
        raise SystemExit(ExitCode.CLOUD)


@click.command(
    "fleetFile",
    cls=Command,
    needs="config.py, and the roles that setupAWS creates.",
    examples=("fleetFile", "fleetFile --vpc vpc-0123456789abcdef0 --force", "fleetFile --ssh-from 203.0.113.7"),
    next_step="check FLEETFILE, which shows the cost of a run and anything that is missing",
)
@click.option("--vpc", metavar="ID", help="Use this VPC instead of the region's default VPC.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where to write it [default: files/APP_NAMEFleet.json]."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--ssh-from", metavar="ADDRESS", help="Let this IP address or network log in with SSH.")
@click.pass_obj
def fleet_file(context: Context, vpc: str | None, output: Path | None, force: bool, ssh_from: str | None) -> None:
    """Write a Fleet file for this account."""
    from distributed_something.aws.sts import identify_account
    from distributed_something.core.clock import Clock
    from distributed_something.fleet.write_fleet_file import (
        FleetFileOptions,
        format_fleet_file_summary,
        write_fleet_file,
    )

    settings, clients, print_progress = context.settings, context.clients, context.console.print_progress
    account = identify_account(clients, settings.AWS_REGION)
    path = output or shorten_path(context.project / "files" / f"{settings.APP_NAME}Fleet.json")
    options = FleetFileOptions(path, context.config_file, vpc, force, ssh_from)
    for line in format_fleet_file_summary(write_fleet_file(clients, settings, account, options, Clock().sleep)):
        print_progress(line)
    print_progress(f"next: check {path}")
