"""`run.py cleanup --stale`: what older runs left in this account and region, and why each thing is thought to be dead.

Whether an app is alive, its own task definition tells: that names the queue and the cluster. What surely is ours and
dead can be removed; what only looks like it, such as the untagged fleets of the published version, is listed with the
command for it, and never touched. What is younger than an hour is left alone: it may be a start that is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.aws.ec2_fleet import get_fleet_tags
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.names import MACHINE_SUFFIX, MAX_RULE_NAME_LENGTH, RULE_NAME_PREFIX
from distributed_something.core.tags import has_run_tags, parse_tags
from distributed_something.core.text import format_row
from distributed_something.observe.collect import UnseenPart, collect_findings
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
from distributed_something.run.cleanup.account_state import MIN_ORPHAN_AGE_SECONDS, AccountState
from distributed_something.run.cleanup.remove import ALARMS_PER_CALL, MACHINES_PER_CALL, delete_alarms
from distributed_something.run.schedule import delete_rule_by_name
from distributed_something.worker import split_into_batches

MIN_EMPTY_LOG_AGE_SECONDS = 24 * 3600.0  # CloudWatch Logs counts a group's bytes hours late


@dataclass(frozen=True)
class Orphan:
    """One thing of an older run, why it is thought to be dead, and whether it is surely ours."""

    kind: ResourceKind
    name: str
    reason: str
    ours: bool = True
    id: str = ""


@dataclass(frozen=True)
class OrphanReport:
    """What was found, and what AWS did not let it see."""

    dead: list[Orphan] = field(default_factory=list)
    unseen: list[UnseenPart] = field(default_factory=list)


@dataclass
class OrphanRemoval:
    """What became of the orphans that are surely ours."""

    removed: list[Orphan] = field(default_factory=list)
    failed: list[tuple[list[Orphan], CloudError]] = field(default_factory=list)


def find_orphans(clients: Clients, now: Callable[[], float]) -> OrphanReport:
    """Look at every kind of thing; what AWS refuses is noted, and keeps no other from being looked at. Raises
    CloudError only where AWS does not know who asks."""
    account = AccountState(clients, now())
    kinds: dict[str, Callable[[AccountState], Iterable[Orphan]]] = {
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
    return OrphanReport(
        *collect_findings((f"{kind} of older runs", partial(look, account)) for kind, look in kinds.items())
    )


def delete_orphans(clients: Clients, found: OrphanReport) -> OrphanRemoval:
    """Remove what is surely ours; never raises for what AWS says. Fleets first: they would replace their machines."""
    removal = OrphanRemoval()
    for kind, (size, delete) in _build_delete_calls(clients).items():
        own = [orphan for orphan in found.dead if orphan.ours and orphan.kind is kind]
        for batch in split_into_batches(own, size):
            try:
                delete([orphan.id or orphan.name for orphan in batch])
            except AWSError as error:
                removal.failed.append((batch, explain_aws_error("removing it", error)))
            else:
                removal.removed.extend(batch)
    return removal


def format_orphans(found: OrphanReport) -> str:
    """Return a line for each thing, for standard output."""
    lines = [format_row("dead" if orphan.ours else "not ours?", _format_orphan(orphan)) for orphan in found.dead]
    lines += [format_row("NOT SEEN", part.error) for part in found.unseen]
    return "\n".join(lines) or "nothing of older runs is left"


def format_orphan_removal(removal: OrphanRemoval, found: OrphanReport) -> str:
    """Return a line for each thing that was removed, kept, or could not be removed."""
    lines = [format_row("removed", f"{orphan.kind} {orphan.name}") for orphan in removal.removed]
    lines += [format_row("kept", _format_orphan(orphan)) for orphan in found.dead if not orphan.ours]
    lines += [format_row("NOT REMOVED", part.error) for part in found.unseen]
    for batch, error in removal.failed:
        names = ", ".join(f"{orphan.kind} {orphan.name}" for orphan in batch)
        lines.append(format_row("NOT REMOVED", f"{names}: {error}"))
    return "\n".join(lines)


def _format_orphan(orphan: Orphan) -> str:
    return f"{orphan.kind} {orphan.name}: {orphan.reason}"


def _build_delete_calls(clients: Clients) -> dict[ResourceKind, tuple[int, Callable[[list[str]], Any]]]:
    """For each kind, how many a call takes, and the call."""
    ec2, cloudwatch = clients.ec2, clients.cloudwatch
    return {
        ResourceKind.FLEET: (1, lambda ids: _cancel_fleet(clients, ids[0])),
        ResourceKind.MACHINE: (MACHINES_PER_CALL, lambda ids: ec2.terminate_instances(InstanceIds=ids)),
        ResourceKind.ALARM: (ALARMS_PER_CALL, partial(delete_alarms, clients)),
        ResourceKind.RULE: (1, lambda names: delete_rule_by_name(clients, names[0])),
        ResourceKind.LAUNCH_TEMPLATE: (1, lambda ids: ec2.delete_launch_template(LaunchTemplateId=ids[0])),
        ResourceKind.VOLUME: (1, lambda ids: ec2.delete_volume(VolumeId=ids[0])),
        ResourceKind.DASHBOARD: (ALARMS_PER_CALL, lambda names: cloudwatch.delete_dashboards(DashboardNames=names)),
        ResourceKind.TASK_DEFINITION: (1, lambda arns: clients.ecs.deregister_task_definition(taskDefinition=arns[0])),
        ResourceKind.LOG_GROUP: (1, lambda names: clients.logs.delete_log_group(logGroupName=names[0])),
    }


def _cancel_fleet(clients: Clients, fleet_id: str) -> None:
    answer = clients.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    for refused in answer.get("UnsuccessfulFleetRequests") or []:
        error: Any = {"Error": refused.get("Error", {})}
        raise ClientError(error, "CancelSpotFleetRequests")


def _iter_orphaned_fleets(account: AccountState) -> Iterator[Orphan]:
    for one in account.fleets:
        name, tags = one["SpotFleetRequestId"], get_fleet_tags(one)
        if one["SpotFleetRequestState"] == "cancelled_terminating" or account.is_recent(one.get("CreateTime")):
            continue
        if not has_run_tags(tags):
            yield from _iter_untagged_fleets(name, one)
        elif not account.has_queue(tags["app"]):
            yield Orphan(ResourceKind.FLEET, name, f"the queue of its app {tags['app']} is gone", id=name)


def _iter_untagged_fleets(name: str, found: Any) -> Iterator[Orphan]:
    """The published version tags no fleets, but names their machines."""
    specifications = found["SpotFleetRequestConfig"].get("LaunchSpecifications", [])
    groups = [group for one in specifications for group in one.get("TagSpecifications", [])]
    names = {parse_tags(group.get("Tags")).get("Name", "") for group in groups}
    own = [text for text in names if text.endswith(MACHINE_SUFFIX)]
    if own:
        command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {name}"
        yield Orphan(
            ResourceKind.FLEET,
            name,
            f"its machines are named {min(own)}, no tag says of which run: {command}",
            ours=False,
        )


def _iter_orphaned_machines(account: AccountState) -> Iterator[Orphan]:
    for one in iter_tagged_machines(account.clients.ec2):
        if one.fleet and one.fleet not in account.fleet_ids and one.state is not ResourceState.ENDING:
            yield _build_orphan(one, f"{one.note}, but its fleet {one.fleet} is gone")


def _iter_orphaned_volumes(account: AccountState) -> Iterator[Orphan]:
    for one in iter_tagged_volumes(account.clients.ec2):
        if not account.has_live_app(one.app):
            yield _build_orphan(one, f"on no machine, and its app {one.app} has neither a fleet nor a queue")


def _build_orphan(thing: Resource, reason: str) -> Orphan:
    return Orphan(thing.kind, thing.name, reason, ours=thing.state is ResourceState.LEFT, id=thing.id)


def _iter_orphaned_alarms(account: AccountState) -> Iterator[Orphan]:
    found = list(iter_idle_alarms(account.clients.cloudwatch))
    living = account.list_live_machines(one.id for one in found)
    for one in found:
        if one.id not in living:
            yield Orphan(ResourceKind.ALARM, one.name, f"its machine {one.id} is gone")


def _iter_orphaned_templates(account: AccountState) -> Iterator[Orphan]:
    for one in iter_tagged_templates(account.clients.ec2):
        start = parse_run_start(one.name.removeprefix(f"{one.app}-"))
        if start is not None and not account.has_fleet(one.app) and account.now - start >= MIN_ORPHAN_AGE_SECONDS:
            yield _build_orphan(one, f"its app {one.app} has no fleet")


def _iter_orphaned_rules(account: AccountState) -> Iterator[Orphan]:
    for one in iter_monitor_rules(account.clients.events):
        if len(one.name) == MAX_RULE_NAME_LENGTH:
            told = f"its name is cut, so that its app {one.name.removeprefix(RULE_NAME_PREFIX)}… cannot be looked up"
            yield Orphan(ResourceKind.RULE, one.name, told, ours=False)
        elif not account.has_live_app(one.app):
            yield Orphan(ResourceKind.RULE, one.name, f"its app {one.app} has neither a fleet nor a queue")


def _iter_orphaned_dashboards(account: AccountState) -> Iterator[Orphan]:
    for name, body in iter_dashboard_bodies(account.clients.cloudwatch):
        fleet_id = find_dashboard_fleet(body)
        if fleet_id is None or fleet_id in account.fleet_ids:
            continue
        ours = is_dashboard_of_app(body, name)
        if not (ours and account.has_live_app(name)):
            yield Orphan(ResourceKind.DASHBOARD, name, f"it shows the fleet {fleet_id}, which is gone", ours=ours)


def _iter_orphaned_definitions(account: AccountState) -> Iterator[Orphan]:
    for one in iter_all_task_definitions(account.clients.ecs):
        found = account.find_task_definition(one.app)
        if found is None or account.is_recent(found.get("registeredAt")) or account.has_service(one.app):
            continue
        if not account.has_live_app(one.app):  # what tells its queue stays as long as that does
            yield Orphan(
                ResourceKind.TASK_DEFINITION, one.name, f"its app {one.app} has no service, fleet or queue", id=one.id
            )


def _iter_orphaned_log_groups(account: AccountState) -> Iterator[Orphan]:
    pages = account.clients.logs.get_paginator("describe_log_groups").paginate()
    groups = {one["logGroupName"]: one for page in pages for one in page["logGroups"]}
    pairs = {name for group in groups if set(pair := build_log_group_names(group)) <= groups.keys() for name in pair}
    for name, one in groups.items():
        created = datetime.fromtimestamp(one.get("creationTime", account.now * 1000) / 1000, UTC)
        if one.get("storedBytes", 1) or account.is_recent(created, MIN_EMPTY_LOG_AGE_SECONDS):
            continue
        if name in pairs:
            yield from _examine_log_group(account, name, one["arn"].removesuffix(":*"))  # tags are asked for without it


def _examine_log_group(account: AccountState, name: str, arn: str) -> Iterator[Orphan]:
    logs = account.clients.logs
    app = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app")
    if app is None:
        told = f"empty, but no tag says whose it is: aws logs delete-log-group --log-group-name {name}"
        yield Orphan(ResourceKind.LOG_GROUP, name, told, ours=False)
    elif not account.has_live_app(app) and not logs.describe_log_streams(logGroupName=name, limit=1)["logStreams"]:
        yield Orphan(ResourceKind.LOG_GROUP, name, f"empty, and its app {app} has neither a fleet nor a queue")
