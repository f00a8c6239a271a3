"""The commands that prepare an AWS account: `setupAWS` and `fleetFile`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distributed_something.cli.context import Context, ExitCode, shorten_path
from distributed_something.cli.group import Command

if TYPE_CHECKING:
    from distributed_something.account.setup_aws import Buckets
    from distributed_something.account.step import SetupRow
    from distributed_something.account.topic.plan_topic import Subscriber
    from distributed_something.core.names import AwsAccount


@dataclass(frozen=True)
class SetupChoice:
    """The options of `setupAWS`."""

    dry_run: bool
    destroy: bool
    read: tuple[str, ...]
    write: tuple[str, ...]
    session_manager: bool
    notify: str | None
    policies: bool


@click.command(
    "setupAWS",
    cls=Command,
    needs="config.py with your bucket and region, and AWS credentials that may create IAM roles (an administrator's).",
    examples=("setupAWS --dry-run", "setupAWS --read another-bucket", "setupAWS --notify you@example.org"),
    next_step="fleetFile",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be created or changed.")
@click.option("--destroy", is_flag=True, help="Delete what setupAWS created.")
@click.option("--read", multiple=True, metavar="BUCKET", help="Another bucket jobs may read. Can be repeated.")
@click.option("--write", multiple=True, metavar="BUCKET", help="Another bucket jobs may write to. Can be repeated.")
@click.option("--session-manager", is_flag=True, help="Also let people log in to machines with Session Manager.")
@click.option("--notify", metavar="ADDRESS", help="Send runs' notifications to this e-mail or https address.")
@click.option("--policies", is_flag=True, help="Only print the policies that an administrator gives to users.")
@click.pass_obj
def setup_aws(context: Context, /, **options: Any) -> None:
    """Create the account's roles and auto-monitor. Needed only once."""
    from distributed_something.account.setup_aws import collect_buckets
    from distributed_something.account.step import SetupState, format_setup_row
    from distributed_something.account.topic.plan_topic import parse_subscriber
    from distributed_something.aws.sts import identify_account

    choice = SetupChoice(**options)
    subscriber = parse_subscriber(choice.notify) if choice.notify is not None else None
    settings = context.settings
    account = identify_account(context.clients, settings.AWS_REGION)
    buckets, topic = collect_buckets(settings, choice.read, choice.write), _find_topic(context, account, choice)
    if choice.policies:
        _print_policies(context, account, buckets, topic)
        return
    is_incomplete = False
    for row in _set_up(context, account, buckets, choice, topic, subscriber):
        context.console.print_result(format_setup_row(row))
        is_incomplete = is_incomplete or row.state is SetupState.NOT_DONE
    if is_incomplete:
        raise SystemExit(ExitCode.CLOUD)


def _find_topic(context: Context, account: AwsAccount, choice: SetupChoice) -> str:
    """Return the ARN of the topic in the config; without one, that of the default topic if --notify was given, or "".

    Raise InputError if the topic in the config belongs to another account. In the local cloud, which has only one, the
    topic of the same name counts.
    """
    from distributed_something.account.topic.plan_topic import check_topic_account

    topic = context.settings.NOTIFY
    if not topic:
        return account.topic() if choice.notify else ""
    if context.local:
        return account.arn("sns", topic.rpartition(":")[2], account.region)
    check_topic_account(topic, account, context.config_file)
    return topic


def _print_policies(context: Context, account: AwsAccount, buckets: Buckets, topic: str) -> None:
    import json

    from distributed_something.account.bucket_key import find_bucket_keys, format_key_problem
    from distributed_something.account.setup_aws import build_handout_policies
    from distributed_something.core.errors import translate_aws_errors

    with translate_aws_errors("inspecting the buckets"):
        keys = find_bucket_keys(context.clients, account, buckets.all)
    for key in (key for key in keys if key.problem):
        context.console.print_progress(f"warning: {format_key_problem(key)}")
    context.console.print_result(json.dumps(build_handout_policies(account, buckets, keys, topic), indent=2))


def _set_up(
    context: Context, account: AwsAccount, buckets: Buckets, choice: SetupChoice, topic: str,
    subscriber: Subscriber | None,
) -> Iterator[SetupRow]:  # fmt: skip
    """Yield one row per resource after changing it; `topic`: the ARN for notifications, if any."""
    from distributed_something.account.setup_aws import delete_account_setup, set_up_account, set_up_topic
    from distributed_something.core.clock import Clock
    from distributed_something.project.template import PACKAGE_PARENT

    clients, clock, is_dry = context.clients, Clock(), choice.dry_run
    if choice.destroy:
        yield from delete_account_setup(clients, account, buckets, clock, topic=topic, dry_run=is_dry)
        return
    options = {"dry_run": is_dry, "session_manager": choice.session_manager}
    yield from set_up_account(clients, account, buckets, PACKAGE_PARENT, clock.sleep, **options)
    if topic:
        yield from set_up_topic(clients, topic, subscriber, clock.sleep, dry_run=is_dry, is_local=context.local)


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
