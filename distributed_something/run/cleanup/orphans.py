"""`run.py cleanup --stale`: find orphans, the resources that older runs left behind in this account and region.

An app's task definition contains the names of the app's queue and cluster, which show whether the app is still in use.
Orphans that certainly belong to this package can be deleted. Resources that only seem to belong to it, such as untagged
fleets of the published system, are never changed, but are listed with the command that deletes them. Resources less
than an hour old are ignored, because they may belong to a run that is just starting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.aws.ec2_fleet import get_fleet_tags, request_cancellation
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.names import MACHINE_SUFFIX, MAX_RULE_NAME_LENGTH, RULE_NAME_PREFIX
from distributed_something.core.tags import has_run_tags, parse_tags
from distributed_something.core.text import LABEL_COLUMNS, format_wrapped_row
from distributed_something.observe.collect import UncheckedPart, collect_lookup_results
from distributed_something.observe.dashboards import find_dashboard_fleet, is_dashboard_of_app
from distributed_something.observe.resources import (
    Resource,
    ResourceKind,
    ResourceState,
    iter_all_task_definitions,
    iter_dashboard_bodies,
    iter_idle_alarms,
    iter_monitor_rules,
    iter_tagged_machines,
    iter_tagged_templates,
    iter_tagged_volumes,
)
from distributed_something.results.command_line import format_command_lines
from distributed_something.run.cleanup.account_state import MIN_ORPHAN_AGE_SECONDS, AccountState
from distributed_something.run.cleanup.remove import ALARMS_PER_CALL, MACHINES_PER_CALL, delete_alarms
from distributed_something.run.schedule import delete_rule_by_name
from distributed_something.worker import split_into_batches

MIN_EMPTY_LOG_AGE_SECONDS = 24 * 3600.0  # CloudWatch Logs may update a log group's size hours late


@dataclass(frozen=True)
class Orphan:
    """A resource that an older run left behind.

    `reason`: why nothing uses it anymore. `is_ours`: whether it certainly belongs to this package. `command`: what
    deletes it if it may not be ours; the reason introduces it.
    """

    kind: ResourceKind
    name: str
    reason: str
    is_ours: bool = True
    id: str = ""
    command: str = ""


@dataclass(frozen=True)
class OrphanReport:
    """The orphans, and the parts of the account that could not be checked."""

    orphans: list[Orphan] = field(default_factory=list)
    unchecked_parts: list[UncheckedPart] = field(default_factory=list)


@dataclass
class OrphanRemoval:
    """The orphans that were deleted, and the ones that could not be deleted, with the errors."""

    removed: list[Orphan] = field(default_factory=list)
    failed: list[tuple[list[Orphan], CloudError]] = field(default_factory=list)


def find_orphans(clients: Clients, now: Callable[[], float]) -> OrphanReport:
    """Return all orphans.

    If one kind cannot be listed, the report includes the error, and the other kinds are still listed. Raise CloudError
    only if the user is not logged in to AWS.
    """
    account = AccountState(clients, now())
    finders: dict[str, Callable[[AccountState], Iterable[Orphan]]] = {
        "fleets": _iter_orphaned_fleets,
        "machines": _iter_orphaned_machines,
        "volumes": _iter_orphaned_volumes,
        "alarms": _iter_orphaned_alarms,
        "launch templates": _iter_orphaned_templates,
        "rules": _iter_orphaned_rules,
        "dashboards": _iter_orphaned_dashboards,
        "task definitions": _iter_orphaned_definitions,
        "log groups": _iter_orphaned_log_groups,
    }
    lookups = ((f"{kind} from older runs", partial(finder, account)) for kind, finder in finders.items())
    return OrphanReport(*collect_lookup_results(lookups))


def delete_orphans(clients: Clients, report: OrphanReport) -> OrphanRemoval:
    """Delete the orphans that certainly belong to this package.

    AWS errors are reported in the result and are not raised. Fleets are deleted before machines, because a fleet
    replaces machines that are terminated.
    """
    removal = OrphanRemoval()
    for kind, (size, delete) in _build_delete_calls(clients).items():
        orphans = [orphan for orphan in report.orphans if orphan.is_ours and orphan.kind is kind]
        for batch in split_into_batches(orphans, size):
            try:
                delete([orphan.id or orphan.name for orphan in batch])
            except AWSError as error:
                removal.failed.append((batch, explain_aws_error("deleting it", error)))
            else:
                removal.removed.extend(batch)
    return removal


def format_orphans(report: OrphanReport) -> str:
    """Return the lines that list the orphans."""
    lines = [
        line
        for orphan in report.orphans
        for line in _format_orphan("orphan" if orphan.is_ours else "unknown origin", orphan)
    ]
    lines += [format_wrapped_row("NOT CHECKED", part.error) for part in report.unchecked_parts]
    return "\n".join(lines) or "nothing is left from older runs"


def format_orphan_removal(removal: OrphanRemoval, report: OrphanReport) -> str:
    """Return the lines that report which orphans were deleted, kept, or could not be deleted."""
    lines = [format_wrapped_row("removed", f"{orphan.kind} {orphan.name}") for orphan in removal.removed]
    lines += [line for orphan in report.orphans if not orphan.is_ours for line in _format_orphan("kept", orphan)]
    lines += [format_wrapped_row("NOT REMOVED", part.error) for part in report.unchecked_parts]
    for batch, error in removal.failed:
        names = ", ".join(f"{orphan.kind} {orphan.name}" for orphan in batch)
        lines.append(format_wrapped_row("NOT REMOVED", f"{names}: {error}"))
    return "\n".join(lines)


def _format_orphan(label: str, orphan: Orphan) -> list[str]:
    text, indent = f"{orphan.kind} {orphan.name}: {orphan.reason}", " " * LABEL_COLUMNS
    if not orphan.command:
        return [format_wrapped_row(label, text)]
    return [format_wrapped_row(label, f"{text}:"), *format_command_lines(orphan.command, indent, indent)]


def _build_delete_calls(clients: Clients) -> dict[ResourceKind, tuple[int, Callable[[list[str]], Any]]]:
    """Return the maximum number of resources per call and the function that deletes them, keyed by kind."""
    ec2, cloudwatch = clients.ec2, clients.cloudwatch
    return {
        ResourceKind.FLEET: (1, lambda ids: request_cancellation(clients.ec2, ids[0])),
        ResourceKind.MACHINE: (MACHINES_PER_CALL, lambda ids: ec2.terminate_instances(InstanceIds=ids)),
        ResourceKind.ALARM: (ALARMS_PER_CALL, partial(delete_alarms, clients)),
        ResourceKind.RULE: (1, lambda names: delete_rule_by_name(clients, names[0])),
        ResourceKind.LAUNCH_TEMPLATE: (1, lambda ids: ec2.delete_launch_template(LaunchTemplateId=ids[0])),
        ResourceKind.VOLUME: (1, lambda ids: ec2.delete_volume(VolumeId=ids[0])),
        ResourceKind.DASHBOARD: (ALARMS_PER_CALL, lambda names: cloudwatch.delete_dashboards(DashboardNames=names)),
        ResourceKind.TASK_DEFINITION: (1, lambda arns: clients.ecs.deregister_task_definition(taskDefinition=arns[0])),
        ResourceKind.LOG_GROUP: (1, lambda names: clients.logs.delete_log_group(logGroupName=names[0])),
    }


def _iter_orphaned_fleets(account: AccountState) -> Iterator[Orphan]:
    for fleet in account.fleets:
        name, tags = fleet["SpotFleetRequestId"], get_fleet_tags(fleet)
        if fleet["SpotFleetRequestState"] == "cancelled_terminating" or account.is_recent(fleet.get("CreateTime")):
            continue
        if not has_run_tags(tags):
            yield from _iter_untagged_fleets(name, fleet)
        elif not account.has_queue(tags["app"]):
            yield Orphan(ResourceKind.FLEET, name, f"the queue of its app {tags['app']} does not exist", id=name)


def _iter_untagged_fleets(name: str, fleet: Any) -> Iterator[Orphan]:
    """Yield the fleet if its machines are named as in the published system, which does not tag its fleets."""
    specifications = fleet["SpotFleetRequestConfig"].get("LaunchSpecifications", [])
    tag_groups = [group for specification in specifications for group in specification.get("TagSpecifications", [])]
    names = {parse_tags(group.get("Tags")).get("Name", "") for group in tag_groups}
    machine_names = [text for text in names if text.endswith(MACHINE_SUFFIX)]
    if machine_names:
        command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {name}"
        reason = f"its machines are named {min(machine_names)}, but it has no tag with a run name"
        yield Orphan(ResourceKind.FLEET, name, f"{reason}; to cancel it, run", is_ours=False, command=command)


def _iter_orphaned_machines(account: AccountState) -> Iterator[Orphan]:
    for machine in iter_tagged_machines(account.clients.ec2):
        if machine.fleet and machine.fleet not in account.fleet_ids and machine.state is not ResourceState.ENDING:
            yield _build_orphan(machine, f"{machine.note}, but its fleet {machine.fleet} does not exist")


def _iter_orphaned_volumes(account: AccountState) -> Iterator[Orphan]:
    for volume in iter_tagged_volumes(account.clients.ec2):
        if not account.has_live_app(volume.app):
            yield _build_orphan(volume, f"not attached, and its app {volume.app} has neither a fleet nor a queue")


def _build_orphan(resource: Resource, reason: str) -> Orphan:
    is_ours = resource.state is ResourceState.REMAINING
    return Orphan(resource.kind, resource.name, reason, is_ours=is_ours, id=resource.id)


def _iter_orphaned_alarms(account: AccountState) -> Iterator[Orphan]:
    alarms = list(iter_idle_alarms(account.clients.cloudwatch))
    live_machines = account.list_live_machines(alarm.id for alarm in alarms)
    for alarm in alarms:
        if alarm.id not in live_machines:
            yield Orphan(ResourceKind.ALARM, alarm.name, f"its machine {alarm.id} does not exist")


def _iter_orphaned_templates(account: AccountState) -> Iterator[Orphan]:
    for template in iter_tagged_templates(account.clients.ec2):
        start = parse_run_start(template.name.removeprefix(f"{template.app}-"))
        if start is None or account.has_fleet(template.app):
            continue
        if account.now - start >= MIN_ORPHAN_AGE_SECONDS:
            yield _build_orphan(template, f"its app {template.app} has no fleet")


def _iter_orphaned_rules(account: AccountState) -> Iterator[Orphan]:
    for rule in iter_monitor_rules(account.clients.events):
        if len(rule.name) == MAX_RULE_NAME_LENGTH:
            app = rule.name.removeprefix(RULE_NAME_PREFIX)
            reason = f"its name is truncated, so its app {app}… cannot be looked up"
            yield Orphan(ResourceKind.RULE, rule.name, reason, is_ours=False)
        elif not account.has_live_app(rule.app):
            yield Orphan(ResourceKind.RULE, rule.name, f"its app {rule.app} has neither a fleet nor a queue")


def _iter_orphaned_dashboards(account: AccountState) -> Iterator[Orphan]:
    for name, body in iter_dashboard_bodies(account.clients.cloudwatch):
        fleet_id = find_dashboard_fleet(body)
        if fleet_id is None or fleet_id in account.fleet_ids:
            continue
        is_ours = is_dashboard_of_app(body, name)
        if not (is_ours and account.has_live_app(name)):
            reason = f"it shows the fleet {fleet_id}, which does not exist"
            yield Orphan(ResourceKind.DASHBOARD, name, reason, is_ours=is_ours)


def _iter_orphaned_definitions(account: AccountState) -> Iterator[Orphan]:
    for definition in iter_all_task_definitions(account.clients.ecs):
        app = definition.app
        latest = account.find_task_definition(app)
        if latest is None or account.is_recent(latest.get("registeredAt")) or account.has_service(app):
            continue
        # The definition contains the queue's name, so it is kept while the queue exists.
        if not account.has_live_app(app):
            reason = f"its app {app} has no service, fleet, or queue"
            yield Orphan(ResourceKind.TASK_DEFINITION, definition.name, reason, id=definition.id)


def _iter_orphaned_log_groups(account: AccountState) -> Iterator[Orphan]:
    pages = account.clients.logs.get_paginator("describe_log_groups").paginate()
    groups = {group["logGroupName"]: group for page in pages for group in page["logGroups"]}
    pairs = {name for group in groups if set(pair := build_log_group_names(group)) <= groups.keys() for name in pair}
    for name, group in groups.items():
        created = datetime.fromtimestamp(group.get("creationTime", account.now * 1000) / 1000, UTC)
        if group.get("storedBytes", 1) or account.is_recent(created, MIN_EMPTY_LOG_AGE_SECONDS):
            continue
        if name in pairs:
            arn = group["arn"].removesuffix(":*")  # ListTagsForResource takes the ARN without this suffix
            yield from _examine_log_group(account, name, arn)


def _examine_log_group(account: AccountState, name: str, arn: str) -> Iterator[Orphan]:
    logs = account.clients.logs
    app = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app")
    if app is None:
        command = f"aws logs delete-log-group --log-group-name {name}"
        reason = "empty, but it has no tag with an app name; to delete it, run"
        yield Orphan(ResourceKind.LOG_GROUP, name, reason, is_ours=False, command=command)
    elif not account.has_live_app(app) and not logs.describe_log_streams(logGroupName=name, limit=1)["logStreams"]:
        yield Orphan(ResourceKind.LOG_GROUP, name, f"empty, and its app {app} has neither a fleet nor a queue")
