"""`run.py cleanup --stale`: what older runs left in this account and region, and why each thing is thought to be dead.

Whether an app is alive, its own task definition tells: that names the queue and the cluster. What surely is ours and
dead can be removed; what only looks like it, such as the untagged fleets of the published version, is listed with the
command for it, and never touched. What is younger than an hour is left alone: it may be a start that is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.aws.ec2_fleet import get_fleet_tags
from distributed_something.aws.ecs import observe_service
from distributed_something.aws.sqs import find_queue
from distributed_something.core.errors import AWSError, explain_aws_error, get_error_code, is_login_error
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.names import MACHINE_SUFFIX, MAX_RULE_NAME_LENGTH, RULE_NAME_PREFIX, AppNames
from distributed_something.core.tags import has_run_tags
from distributed_something.observe.dashboards import find_dashboard_fleet, is_dashboard_of_app
from distributed_something.observe.resources import (
    Resource,
    ResourceState,
    get_container_variable,
    iter_all_task_definitions,
    iter_dashboard_bodies,
    iter_idle_alarms,
    iter_monitor_rules,
    iter_tagged_machines,
    iter_tagged_templates,
    iter_tagged_volumes,
)
from distributed_something.run.cleanup.remove import ALARMS_PER_CALL, MACHINES_PER_CALL, delete_alarms
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.schedule import delete_rule_by_name
from distributed_something.worker import split_into_batches

MIN_ORPHAN_AGE_SECONDS = 3600.0
MIN_EMPTY_LOG_AGE_SECONDS = 24 * 3600.0  # CloudWatch Logs counts a group's bytes hours late
VALUES_PER_FILTER = 200  # EC2: values of one filter
_ENDED_FLEET_STATES = {"cancelled", "failed"}


@dataclass(frozen=True)
class Orphan:
    """One thing of an older run, why it is thought to be dead, and whether it is surely ours."""

    kind: str
    name: str
    reason: str
    ours: bool = True
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True)
class OrphanReport:
    """What was found, and where it was not allowed to look."""

    dead: list[Orphan] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def find_orphans(clients: Clients, now: Callable[[], float] = time.time) -> OrphanReport:
    """Looks at every kind of thing; what AWS refuses is noted, and keeps no other from being looked at. Raises
    CloudError only where AWS does not know who asks."""
    found, account = OrphanReport(), _AccountCache(clients, now())
    kinds: dict[str, Callable[[_AccountCache], Iterable[Orphan]]] = {
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
    for what, look in kinds.items():
        try:
            found.dead.extend(look(account))
        except AWSError as error:
            if is_login_error(error):
                raise explain_aws_error(f"looking for {what} of older runs", error) from error
            found.unseen.append(str(explain_aws_error(f"looking for {what} of older runs", error)))
    return found


def format_orphans(found: OrphanReport) -> str:
    """A line for each thing, for standard output."""
    lines = [f"{'dead' if one.ours else 'not ours?':<16}{one}" for one in found.dead]
    lines += [f"{'NOT SEEN':<16}{line}" for line in found.unseen]
    return "\n".join(lines) or "nothing of older runs is left"


def delete_orphans(clients: Clients, found: OrphanReport) -> CleanupReport:
    """Removes what is surely ours; never raises for what AWS says. Fleets first: they would replace their machines."""
    report = CleanupReport(kept=[str(one) for one in found.dead if not one.ours], left=list(found.unseen))
    ours = [one for one in found.dead if one.ours]
    for kind, (size, act) in _build_delete_calls(clients).items():
        of_kind = [one for one in ours if one.kind == kind]
        for batch in split_into_batches(of_kind, size):
            _delete_orphan_batch(batch, act, report)
    return report


def _delete_orphan_batch(some: list[Orphan], act: Callable[[list[str]], Any], report: CleanupReport) -> None:
    names = ", ".join(f"{one.kind} {one.name}" for one in some)
    try:
        act([one.id or one.name for one in some])
    except AWSError as error:
        report.left.append(f"{names}: {explain_aws_error('removing it', error)}")
    else:
        report.removed += [f"{one.kind} {one.name}" for one in some]


def _build_delete_calls(clients: Clients) -> dict[str, tuple[int, Callable[[list[str]], Any]]]:
    """For each kind, how many a call takes, and the call."""
    ec2, cloudwatch = clients.ec2, clients.cloudwatch
    return {
        "fleet": (1, lambda ids: _cancel_fleet(clients, ids[0])),
        "machine": (MACHINES_PER_CALL, lambda ids: ec2.terminate_instances(InstanceIds=ids)),
        "alarm": (ALARMS_PER_CALL, partial(delete_alarms, clients)),
        "rule": (1, lambda names: delete_rule_by_name(clients, names[0])),
        "launch template": (1, lambda ids: ec2.delete_launch_template(LaunchTemplateId=ids[0])),
        "volume": (1, lambda ids: ec2.delete_volume(VolumeId=ids[0])),
        "dashboard": (ALARMS_PER_CALL, lambda names: cloudwatch.delete_dashboards(DashboardNames=names)),
        "task definition": (1, lambda arns: clients.ecs.deregister_task_definition(taskDefinition=arns[0])),
        "log group": (1, lambda names: clients.logs.delete_log_group(logGroupName=names[0])),
    }


def _cancel_fleet(clients: Clients, fleet_id: str) -> None:
    answer = clients.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    for refused in answer.get("UnsuccessfulFleetRequests") or []:
        error: Any = {"Error": refused.get("Error", {})}
        raise ClientError(error, "CancelSpotFleetRequests")


class _AccountCache:
    """What several looks need to know, each asked for once."""

    def __init__(self, clients: Clients, now: float) -> None:
        self.clients, self.now = clients, now
        self._fleets: list[Any] | None = None
        self._definitions: dict[str, Any] = {}

    def fleets(self) -> list[Any]:
        """EC2's descriptions of all fleets that have, or may start, machines."""
        if self._fleets is None:
            pages = self.clients.ec2.get_paginator("describe_spot_fleet_requests").paginate()
            every = [one for page in pages for one in page["SpotFleetRequestConfigs"]]
            self._fleets = [one for one in every if one["SpotFleetRequestState"] not in _ENDED_FLEET_STATES]
        return self._fleets

    def has_fleet(self, app: str) -> bool:
        return any(get_fleet_tags(one).get("app") == app for one in self.fleets())

    def fleet_ids(self) -> set[str]:
        return {one["SpotFleetRequestId"] for one in self.fleets()}

    def definition(self, app: str) -> Any | None:
        """The app's latest task definition; None where none is active."""
        if app not in self._definitions:
            try:
                answer = self.clients.ecs.describe_task_definition(taskDefinition=AppNames(app).task_family)[
                    "taskDefinition"
                ]
            except ClientError as error:
                if get_error_code(error) not in (
                    "ClientException",
                    "InvalidParameterException",
                ):  # «Unable to describe»
                    raise
                answer = None
            self._definitions[app] = answer if answer and answer.get("status", "ACTIVE") == "ACTIVE" else None
        return self._definitions[app]

    def told(self, app: str, name: str) -> str:
        """What the app's containers are told in the environment variable `name`."""
        return get_container_variable(self.definition(app) or {}, name)

    def has_queue(self, app: str) -> bool:
        """Whether the queue that its containers take jobs from exists; untold, the one of the usual name."""
        name = self.told(app, "SQS_QUEUE_URL").rsplit("/", 1)[-1] or AppNames(app).default_queue
        return find_queue(self.clients.sqs, name) is not None

    def has_service(self, app: str) -> bool:
        where = self.told(app, "ECS_CLUSTER")
        return bool(where) and observe_service(self.clients.ecs, where, AppNames(app).service) is not None

    def is_alive(self, app: str) -> bool:
        return self.has_fleet(app) or self.has_queue(app)

    def is_young(self, when: datetime | None, seconds: float = MIN_ORPHAN_AGE_SECONDS) -> bool:
        """Of what says no date nothing is believed."""
        return when is None or self.now - when.timestamp() < seconds


def _iter_orphaned_fleets(account: _AccountCache) -> Iterator[Orphan]:
    for one in account.fleets():
        name, tags = one["SpotFleetRequestId"], get_fleet_tags(one)
        if one["SpotFleetRequestState"] == "cancelled_terminating" or account.is_young(one.get("CreateTime")):
            continue
        if not has_run_tags(tags):
            yield from _iter_untagged_fleets(name, one)
        elif not account.has_queue(tags["app"]):
            yield Orphan("fleet", name, f"the queue of its app {tags['app']} is gone", id=name)


def _iter_untagged_fleets(name: str, found: Any) -> Iterator[Orphan]:
    """The published version tags no fleets, but names their machines."""
    specifications = found["SpotFleetRequestConfig"].get("LaunchSpecifications", [])
    groups = [group for one in specifications for group in one.get("TagSpecifications", [])]
    names = {tag.get("Value", "") for group in groups for tag in group.get("Tags", []) if tag.get("Key") == "Name"}
    if any(one.endswith(MACHINE_SUFFIX) for one in names):
        command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {name}"
        yield Orphan(
            "fleet", name, f"its machines are named {min(names)}, no tag says of which run: {command}", ours=False
        )


def _iter_orphaned_machines(account: _AccountCache) -> Iterator[Orphan]:
    for one in iter_tagged_machines(account.clients.ec2):
        if one.fleet and one.fleet not in account.fleet_ids() and one.state is not ResourceState.ENDING:
            yield _build_orphan(one, f"{one.note}, but its fleet {one.fleet} is gone")


def _iter_orphaned_volumes(account: _AccountCache) -> Iterator[Orphan]:
    for one in iter_tagged_volumes(account.clients.ec2):
        if not account.is_alive(one.app):
            yield _build_orphan(one, f"on no machine, and its app {one.app} has neither a fleet nor a queue")


def _build_orphan(thing: Resource, reason: str) -> Orphan:
    return Orphan(thing.kind, thing.name, reason, ours=thing.state is ResourceState.LEFT, id=thing.id)


def _iter_orphaned_alarms(account: _AccountCache) -> Iterator[Orphan]:
    found = list(iter_idle_alarms(account.clients.cloudwatch))
    living = _list_living_machines(account, {one.id for one in found})
    for one in found:
        if one.id not in living:
            yield Orphan("alarm", one.name, f"its machine {one.id} is gone")


def _list_living_machines(account: _AccountCache, machines: set[str]) -> set[str]:
    """Asked by a filter: named outright, a machine that EC2 has forgotten would refuse the whole call."""
    ids, living = sorted(machines), set()
    for batch in split_into_batches(ids, VALUES_PER_FILTER):
        filters: Any = [{"Name": "instance-id", "Values": batch}]
        for page in account.clients.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for one in (one for reservation in page["Reservations"] for one in reservation["Instances"]):
                if one["State"]["Name"] not in ("terminated", "shutting-down"):
                    living.add(one["InstanceId"])
    return living


def _iter_orphaned_templates(account: _AccountCache) -> Iterator[Orphan]:
    for one in iter_tagged_templates(account.clients.ec2):
        start = parse_run_start(one.name.removeprefix(f"{one.app}-"))
        if start is not None and not account.has_fleet(one.app) and account.now - start >= MIN_ORPHAN_AGE_SECONDS:
            yield _build_orphan(one, f"its app {one.app} has no fleet")


def _iter_orphaned_rules(account: _AccountCache) -> Iterator[Orphan]:
    for one in iter_monitor_rules(account.clients.events):
        if len(one.name) == MAX_RULE_NAME_LENGTH:
            told = f"its name is cut, so that its app {one.name.removeprefix(RULE_NAME_PREFIX)}… cannot be looked up"
            yield Orphan("rule", one.name, told, ours=False)
        elif not account.is_alive(one.app):
            yield Orphan("rule", one.name, f"its app {one.app} has neither a fleet nor a queue")


def _iter_orphaned_dashboards(account: _AccountCache) -> Iterator[Orphan]:
    for name, body in iter_dashboard_bodies(account.clients.cloudwatch):
        fleet_id = find_dashboard_fleet(body)
        if fleet_id is None or fleet_id in account.fleet_ids():
            continue
        ours = is_dashboard_of_app(body, name)
        if not (ours and account.is_alive(name)):
            yield Orphan("dashboard", name, f"it shows the fleet {fleet_id}, which is gone", ours=ours)


def _iter_orphaned_definitions(account: _AccountCache) -> Iterator[Orphan]:
    for one in iter_all_task_definitions(account.clients.ecs):
        found = account.definition(one.app)
        if found is None or account.is_young(found.get("registeredAt")) or account.has_service(one.app):
            continue
        if not account.is_alive(one.app):  # what tells its queue stays as long as that does
            yield Orphan("task definition", one.name, f"its app {one.app} has no service, fleet or queue", id=one.id)


def _iter_orphaned_log_groups(account: _AccountCache) -> Iterator[Orphan]:
    pages = account.clients.logs.get_paginator("describe_log_groups").paginate()
    groups = {one["logGroupName"]: one for page in pages for one in page["logGroups"]}
    for name, one in groups.items():
        created = datetime.fromtimestamp(one.get("creationTime", account.now * 1000) / 1000, UTC)
        if one.get("storedBytes", 1) or account.is_young(created, MIN_EMPTY_LOG_AGE_SECONDS):
            continue
        if (
            name.removesuffix("_perInstance") in groups
            and build_log_group_names(name.removesuffix("_perInstance"))[1] in groups
        ):
            yield from _examine_log_group(account, name, one["arn"].removesuffix(":*"))  # tags are asked for without it


def _examine_log_group(account: _AccountCache, name: str, arn: str) -> Iterator[Orphan]:
    logs = account.clients.logs
    app = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app")
    if app is None:
        told = f"empty, but no tag says whose it is: aws logs delete-log-group --log-group-name {name}"
        yield Orphan("log group", name, told, ours=False)
    elif not account.is_alive(app) and not logs.describe_log_streams(logGroupName=name, limit=1)["logStreams"]:
        yield Orphan("log group", name, f"empty, and its app {app} has neither a fleet nor a queue")
