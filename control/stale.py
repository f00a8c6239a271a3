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

from control import cluster, dashboard, leftovers, queue, schedule
from control.cleanup import ALARMS_A_CALL, MACHINES_A_CALL, Report, delete_alarms
from control.clients import Clients
from control.errors import AWSError, code_of, explain
from control.fleet import tags_of
from control.leftovers import State, Thing
from control.logs import group_names
from control.monitorfile import start_of
from control.policies import LONGEST_RULE_NAME, RULE_PREFIX
from control.rights import is_login
from control.tags import is_of_a_run

YOUNG_SECONDS = 3600.0
EMPTY_SECONDS = 24 * 3600.0  # CloudWatch Logs counts a group's bytes hours late
FILTER_VALUES = 200  # EC2: values of one filter
_GONE = {"cancelled", "failed"}


@dataclass(frozen=True)
class Dead:
    """One thing of an older run, why it is thought to be dead, and whether it is surely ours."""

    kind: str
    name: str
    reason: str
    ours: bool = True
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True)
class Found:
    """What was found, and where it was not allowed to look."""

    dead: list[Dead] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def find(clients: Clients, now: Callable[[], float] = time.time) -> Found:
    """Looks at every kind of thing; what AWS refuses is noted, and keeps no other from being looked at. Raises
    CloudError only where AWS does not know who asks."""
    found, account = Found(), _Account(clients, now())
    kinds: dict[str, Callable[[_Account], Iterable[Dead]]] = {
        "fleets": _fleets,
        "machines": _machines,
        "volumes": _volumes,
        "alarms": _alarms,
        "launch templates": _templates,
        "rules": _rules,
        "dashboards": _dashboards,
        "task definitions": _definitions,
        "log groups": _log_groups,
    }
    for what, look in kinds.items():
        try:
            found.dead.extend(look(account))
        except AWSError as error:
            if is_login(error):
                raise explain(f"looking for {what} of older runs", error) from error
            found.unseen.append(str(explain(f"looking for {what} of older runs", error)))
    return found


def text(found: Found) -> str:
    """A line for each thing, for standard output."""
    lines = [f"{'dead' if one.ours else 'not ours?':<16}{one}" for one in found.dead]
    lines += [f"{'NOT SEEN':<16}{line}" for line in found.unseen]
    return "\n".join(lines) or "nothing of older runs is left"


def remove(clients: Clients, found: Found) -> Report:
    """Removes what is surely ours; never raises for what AWS says. Fleets first: they would replace their machines."""
    report = Report(kept=[str(one) for one in found.dead if not one.ours], left=list(found.unseen))
    ours = [one for one in found.dead if one.ours]
    for kind, (size, act) in _removals(clients).items():
        of_kind = [one for one in ours if one.kind == kind]
        for first in range(0, len(of_kind), size):
            _remove(of_kind[first : first + size], act, report)
    return report


def _remove(some: list[Dead], act: Callable[[list[str]], Any], report: Report) -> None:
    names = ", ".join(f"{one.kind} {one.name}" for one in some)
    try:
        act([one.id or one.name for one in some])
    except AWSError as error:
        report.left.append(f"{names}: {explain('removing it', error)}")
    else:
        report.removed += [f"{one.kind} {one.name}" for one in some]


def _removals(clients: Clients) -> dict[str, tuple[int, Callable[[list[str]], Any]]]:
    """For each kind, how many a call takes, and the call."""
    ec2, cloudwatch = clients.ec2, clients.cloudwatch
    return {
        "fleet": (1, lambda ids: _cancel(clients, ids[0])),
        "machine": (MACHINES_A_CALL, lambda ids: ec2.terminate_instances(InstanceIds=ids)),
        "alarm": (ALARMS_A_CALL, partial(delete_alarms, clients)),
        "rule": (1, lambda names: schedule.stop(clients, names[0])),
        "launch template": (1, lambda ids: ec2.delete_launch_template(LaunchTemplateId=ids[0])),
        "volume": (1, lambda ids: ec2.delete_volume(VolumeId=ids[0])),
        "dashboard": (ALARMS_A_CALL, lambda names: cloudwatch.delete_dashboards(DashboardNames=names)),
        "task definition": (1, lambda arns: clients.ecs.deregister_task_definition(taskDefinition=arns[0])),
        "log group": (1, lambda names: clients.logs.delete_log_group(logGroupName=names[0])),
    }


def _cancel(clients: Clients, fleet_id: str) -> None:
    answer = clients.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    for refused in answer.get("UnsuccessfulFleetRequests") or []:
        error: Any = {"Error": refused.get("Error", {})}
        raise ClientError(error, "CancelSpotFleetRequests")


class _Account:
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
            self._fleets = [one for one in every if one["SpotFleetRequestState"] not in _GONE]
        return self._fleets

    def has_fleet(self, app: str) -> bool:
        return any(tags_of(one).get("app") == app for one in self.fleets())

    def fleet_ids(self) -> set[str]:
        return {one["SpotFleetRequestId"] for one in self.fleets()}

    def definition(self, app: str) -> Any | None:
        """The app's latest task definition; None where none is active."""
        if app not in self._definitions:
            try:
                answer = self.clients.ecs.describe_task_definition(taskDefinition=f"{app}Task")["taskDefinition"]
            except ClientError as error:
                if code_of(error) not in ("ClientException", "InvalidParameterException"):  # «Unable to describe»
                    raise
                answer = None
            self._definitions[app] = answer if answer and answer.get("status", "ACTIVE") == "ACTIVE" else None
        return self._definitions[app]

    def told(self, app: str, name: str) -> str:
        """What the app's containers are told in the environment variable `name`."""
        return leftovers.told(self.definition(app) or {}, name)

    def has_queue(self, app: str) -> bool:
        """Whether the queue that its containers take jobs from exists; untold, the one of the usual name."""
        name = self.told(app, "SQS_QUEUE_URL").rsplit("/", 1)[-1] or f"{app}Queue"
        return queue.find(self.clients.sqs, name) is not None

    def has_service(self, app: str) -> bool:
        where = self.told(app, "ECS_CLUSTER")
        return bool(where) and cluster.service_state(self.clients.ecs, where, f"{app}Service") is not None

    def is_alive(self, app: str) -> bool:
        return self.has_fleet(app) or self.has_queue(app)

    def is_young(self, when: datetime | None, seconds: float = YOUNG_SECONDS) -> bool:
        """Of what says no date nothing is believed."""
        return when is None or self.now - when.timestamp() < seconds


def _fleets(account: _Account) -> Iterator[Dead]:
    for one in account.fleets():
        name, tags = one["SpotFleetRequestId"], tags_of(one)
        if one["SpotFleetRequestState"] == "cancelled_terminating" or account.is_young(one.get("CreateTime")):
            continue
        if not is_of_a_run(tags):
            yield from _published(name, one)
        elif not account.has_queue(tags["app"]):
            yield Dead("fleet", name, f"the queue of its app {tags['app']} is gone", id=name)


def _published(name: str, found: Any) -> Iterator[Dead]:
    """The published version tags no fleets, but names their machines."""
    specifications = found["SpotFleetRequestConfig"].get("LaunchSpecifications", [])
    groups = [group for one in specifications for group in one.get("TagSpecifications", [])]
    names = {tag.get("Value", "") for group in groups for tag in group.get("Tags", []) if tag.get("Key") == "Name"}
    if any(one.endswith("Worker") for one in names):
        command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {name}"
        yield Dead(
            "fleet", name, f"its machines are named {min(names)}, no tag says of which run: {command}", ours=False
        )


def _machines(account: _Account) -> Iterator[Dead]:
    for one in leftovers.machines(account.clients.ec2):
        if one.fleet and one.fleet not in account.fleet_ids() and one.state is not State.ENDING:
            yield _judged(one, f"{one.note}, but its fleet {one.fleet} is gone")


def _volumes(account: _Account) -> Iterator[Dead]:
    for one in leftovers.volumes(account.clients.ec2):
        if not account.is_alive(one.app):
            yield _judged(one, f"on no machine, and its app {one.app} has neither a fleet nor a queue")


def _judged(thing: Thing, reason: str) -> Dead:
    return Dead(thing.kind, thing.name, reason, ours=thing.state is State.LEFT, id=thing.id)


def _alarms(account: _Account) -> Iterator[Dead]:
    found = list(leftovers.alarms(account.clients.cloudwatch))
    living = _living(account, {one.id for one in found})
    for one in found:
        if one.id not in living:
            yield Dead("alarm", one.name, f"its machine {one.id} is gone")


def _living(account: _Account, machines: set[str]) -> set[str]:
    """Asked by a filter: named outright, a machine that EC2 has forgotten would refuse the whole call."""
    ids, living = sorted(machines), set()
    for first in range(0, len(ids), FILTER_VALUES):
        filters: Any = [{"Name": "instance-id", "Values": ids[first : first + FILTER_VALUES]}]
        for page in account.clients.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for one in (one for reservation in page["Reservations"] for one in reservation["Instances"]):
                if one["State"]["Name"] not in ("terminated", "shutting-down"):
                    living.add(one["InstanceId"])
    return living


def _templates(account: _Account) -> Iterator[Dead]:
    for one in leftovers.templates(account.clients.ec2):
        start = start_of(one.name.removeprefix(f"{one.app}-"))
        if start is not None and not account.has_fleet(one.app) and account.now - start >= YOUNG_SECONDS:
            yield _judged(one, f"its app {one.app} has no fleet")


def _rules(account: _Account) -> Iterator[Dead]:
    for one in leftovers.rules(account.clients.events):
        if len(one.name) == LONGEST_RULE_NAME:
            told = f"its name is cut, so that its app {one.name.removeprefix(RULE_PREFIX)}… cannot be looked up"
            yield Dead("rule", one.name, told, ours=False)
        elif not account.is_alive(one.app):
            yield Dead("rule", one.name, f"its app {one.app} has neither a fleet nor a queue")


def _dashboards(account: _Account) -> Iterator[Dead]:
    for name, body in leftovers.bodies(account.clients.cloudwatch):
        fleet_id = dashboard.fleet_of(body)
        if fleet_id is None or fleet_id in account.fleet_ids():
            continue
        ours = dashboard.is_of(body, name)
        if not (ours and account.is_alive(name)):
            yield Dead("dashboard", name, f"it shows the fleet {fleet_id}, which is gone", ours=ours)


def _definitions(account: _Account) -> Iterator[Dead]:
    for one in leftovers.all_definitions(account.clients.ecs):
        found = account.definition(one.app)
        if found is None or account.is_young(found.get("registeredAt")) or account.has_service(one.app):
            continue
        if not account.is_alive(one.app):  # what tells its queue stays as long as that does
            yield Dead("task definition", one.name, f"its app {one.app} has no service, fleet or queue", id=one.id)


def _log_groups(account: _Account) -> Iterator[Dead]:
    pages = account.clients.logs.get_paginator("describe_log_groups").paginate()
    groups = {one["logGroupName"]: one for page in pages for one in page["logGroups"]}
    for name, one in groups.items():
        created = datetime.fromtimestamp(one.get("creationTime", account.now * 1000) / 1000, UTC)
        if one.get("storedBytes", 1) or account.is_young(created, EMPTY_SECONDS):
            continue
        if name.removesuffix("_perInstance") in groups and group_names(name.removesuffix("_perInstance"))[1] in groups:
            yield from _log_group(account, name, one["arn"].removesuffix(":*"))  # tags are asked for without it


def _log_group(account: _Account, name: str, arn: str) -> Iterator[Dead]:
    logs = account.clients.logs
    app = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app")
    if app is None:
        told = f"empty, but no tag says whose it is: aws logs delete-log-group --log-group-name {name}"
        yield Dead("log group", name, told, ours=False)
    elif not account.is_alive(app) and not logs.describe_log_streams(logGroupName=name, limit=1)["logStreams"]:
        yield Dead("log group", name, f"empty, and its app {app} has neither a fleet nor a queue")
