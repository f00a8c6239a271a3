"""What is left in AWS of a run, or of all runs of this account and region.

Each service is asked itself. The tagging service would answer for all of them in one call, but it still lists what is
deleted and not yet what is new, which is no proof that nothing is left. Names and tags are compared whole. Log groups
are not looked at: they stay on purpose, for 60 days.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import cluster, dashboard, queue
from control.clients import EC2_PAGES, Clients
from control.errors import AWSError, code_of, explain
from control.fleet import tags_of
from control.policies import RULE_PREFIX, monitor_rule
from control.rights import is_login
from control.tags import KEPT, is_of_a_run

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_sqs import SQSClient

    from control.monitorfile import MonitorFile

CLUSTERS_A_CALL = 100  # ECS: DescribeClusters
SERVICES_A_CALL = 10  # ECS: DescribeServices
FLEET_TAG = "aws:ec2spot:fleet-request-id"  # EC2 puts it on every machine of a fleet
LEFT_SECONDS = 60.0  # how long AWS's answers may lag behind what was removed
ENDING_SECONDS = 300.0  # how long what is ending is given to end
_NOT_GONE = ["pending", "running", "shutting-down", "stopping", "stopped"]  # states of an instance
_RUN = re.compile(r"\d{8}T\d{6}Z")
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_NO_DASHBOARD = {"DashboardNotFoundError", "ResourceNotFound"}
_ALARM = re.compile(r"(?P<app>.+)_(?P<machine>i-[0-9a-f]+)")


class State(Enum):
    """LEFT must go; ENDING goes by itself; KEPT stays on purpose; UNKNOWN says `app`, but may be somebody else's."""

    LEFT = "left"
    ENDING = "still ending"
    KEPT = "kept"
    UNKNOWN = "of unknown origin"


@dataclass(frozen=True)
class Thing:
    """One thing in AWS: what it is, its name and AWS's id of it, whose it is, and why it is listed.

    `made`: of a fleet, when it was requested (seconds since 1970).
    """

    kind: str
    name: str
    app: str
    run: str = ""
    note: str = ""
    state: State = State.LEFT
    id: str = ""
    fleet: str = ""
    made: float = 0.0

    def __str__(self) -> str:
        notes = [f"app {self.app}" if self.app else "", f"run {self.run}" if self.run else "", self.note]
        return f"{self.kind} {self.name} ({', '.join(filter(None, notes))})"


@dataclass(frozen=True)
class Left:
    """What a look found, and where it could not look: then nothing is proven. `denied` of these will stay so."""

    things: list[Thing] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    def of(self, state: State) -> list[Thing]:
        return [thing for thing in self.things if thing.state is state]

    @property
    def clean(self) -> bool:
        """Whether nothing is left that must go, and everything could be looked at."""
        return not (self.unseen or self.of(State.LEFT) or self.of(State.ENDING))

    @property
    def patience(self) -> float:
        """Seconds after which another look could still tell something else."""
        if self.of(State.LEFT) or len(self.unseen) > len(self.denied):
            return LEFT_SECONDS
        return ENDING_SECONDS if self.of(State.ENDING) else 0.0


@dataclass(frozen=True)
class Names:
    """Whose things are looked for: a run's, with the names that its tags do not tell. `tagged`: only what a tag says to
    be this run's, where the names are the next batch's by now."""

    run: MonitorFile
    dead_letter_queue: str
    tagged: bool = False

    def of_run(self, thing: Thing) -> bool:
        return thing.run == self.run.run or self.run.MONITOR_FLEET_ID in (thing.id, thing.fleet)


Look = Callable[[], Iterable[Thing]]


def verify(
    clients: Clients, names: Names | None, sleep: Callable[[float], None], *, pause: float = 10.0,
) -> Left:  # fmt: skip
    """What is left of a run, or of all runs (None), right after a clean-up: what seems to be left, or cannot be seen
    just now, is looked at again for a minute, what is ending for five. `look` looks once. Raises CloudError only where
    AWS does not know who asks."""
    waited = 0.0
    while True:
        left = look(clients, names) if names else look_at_all(clients)
        if waited >= left.patience:
            return left
        sleep(pause)
        waited += pause


def look(clients: Clients, names: Names) -> Left:
    """One look at every kind of thing that the run has; what AWS refuses is noted, and keeps no other from being
    looked at."""
    left = _look(_looks_at_run(clients, names))
    found = [one for one in left.things if not names.tagged or names.of_run(one)]
    return replace(left, things=_ending_with_their_fleet(found))


def look_at_all(clients: Clients) -> Left:
    """The same for all runs of this account and region. Needs a few rights more, which the auto-monitor lacks."""
    left = _look(_looks_at_all(clients))
    return replace(left, things=_doubted(_ending_with_their_fleet(left.things)))


def text(left: Left) -> str:
    """A line for each thing, for standard output; one that says so where nothing is left."""
    marks = {State.LEFT: "LEFT", State.ENDING: "still ending", State.KEPT: "kept", State.UNKNOWN: "not ours?"}
    lines = [f"{marks[state]:<16}{thing}" for state in State for thing in left.of(state)]
    lines += [f"{'NOT SEEN':<16}{line}" for line in left.unseen]
    return "\n".join([*lines, "nothing is left"] if left.clean else lines)


def fleets(ec2: EC2Client, app: str | None = None) -> Iterator[Thing]:
    """Fleets that carry the tag `app` (of one app, or of any) and that still have, or may start, machines."""
    for page in ec2.get_paginator("describe_spot_fleet_requests").paginate():
        for found in page["SpotFleetRequestConfigs"]:
            tags, state = tags_of(found), found["SpotFleetRequestState"]
            if not _is_of(tags, app) or state in ("cancelled", "failed"):
                continue
            known = _ending_if(state == "cancelled_terminating", _signed(tags, None))
            name, made = found["SpotFleetRequestId"], found["CreateTime"].timestamp()
            yield Thing("fleet", name, tags["app"], tags.get("run", ""), state, known, id=name, made=made)


def machines(ec2: EC2Client, app: str | None = None) -> Iterator[Thing]:
    """Machines that carry the tag `app` and are not gone."""
    filters: Any = [_tag_filter(app), {"Name": "instance-state-name", "Values": _NOT_GONE}]
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig=EC2_PAGES):
        for found in (one for reservation in page["Reservations"] for one in reservation["Instances"]):
            tags, state = _tags(found.get("Tags")), found["State"]["Name"]
            if _is_of(tags, app):
                known = _ending_if(state == "shutting-down", _signed(tags, tags.get("Name"), "Worker"))
                name, run = found["InstanceId"], tags.get("run", "")
                yield Thing("machine", name, tags["app"], run, state, known, id=name, fleet=tags.get(FLEET_TAG, ""))


def volumes(ec2: EC2Client, app: str | None = None) -> Iterator[Thing]:
    """Volumes that carry the tag `app` and hang on no machine: those that do go with it."""
    filters: Any = [_tag_filter(app), {"Name": "status", "Values": ["available"]}]
    for page in ec2.get_paginator("describe_volumes").paginate(Filters=filters, PaginationConfig=EC2_PAGES):
        for found in page["Volumes"]:
            tags, name = _tags(found.get("Tags")), found["VolumeId"]
            if _is_of(tags, app):
                kept = KEPT.items() <= tags.items()
                known = State.KEPT if kept else _signed(tags, tags.get("Name"), "Worker")
                note = "kept, as the Fleet file says" if kept else "on no machine"
                yield Thing("volume", name, tags["app"], tags.get("run", ""), note, known, id=name)


def templates(ec2: EC2Client, app: str | None = None) -> Iterator[Thing]:
    """Launch templates that carry the tag `app` and are named `APP_NAME-RUN`."""
    filters: Any = [_tag_filter(app)]
    for page in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):
        for found in page["LaunchTemplates"]:
            tags, name = _tags(found.get("Tags")), found["LaunchTemplateName"]
            if _is_of(tags, app):
                ours = name.startswith(f"{tags['app']}-") and _RUN.fullmatch(name.removeprefix(f"{tags['app']}-"))
                known = State.LEFT if ours else State.UNKNOWN
                run = tags.get("run", "")
                yield Thing("launch template", name, tags["app"], run, state=known, id=found["LaunchTemplateId"])


def named_queues(sqs: SQSClient, app: str, names: Iterable[str]) -> Iterator[Thing]:
    """The queues of just these names, whatever their tags."""
    for name in names:
        url = queue.find(sqs, name)
        if url is not None:
            yield from _queue(sqs, url, {"app": app}, State.LEFT)


def queues(sqs: SQSClient) -> Iterator[Thing]:
    """All queues that carry the tag `app`. Two calls a queue."""
    for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000}):
        for url in page.get("QueueUrls", []):
            tags = _or_missing(partial(sqs.list_queue_tags, QueueUrl=url)).get("Tags", {})
            if "app" in tags:
                yield from _queue(sqs, url, tags, _signed(tags, url.rsplit("/", 1)[-1], "Queue", "DeadMessages"))


def services(ecs: ECSClient, cluster_name: str, app: str) -> Iterator[Thing]:
    """The app's service in this cluster."""
    found = cluster.describe_service(ecs, cluster_name, f"{app}Service")
    if found is not None:
        yield from _service(found, app, cluster_name)


def clusters(ecs: ECSClient, name: str, app: str) -> Iterator[Thing]:
    """The cluster of this name, where it is the app's own."""
    found = cluster.describe(ecs, name)
    if found is not None and cluster.is_of(found, app):
        others = [one for one in _service_names(ecs, name) if one != f"{app}Service"]
        yield from _cluster(found, {"app": app}, State.KEPT if others else State.LEFT)


def all_of_ecs(ecs: ECSClient) -> Iterator[Thing]:
    """Every cluster and service that carries the tag `app`."""
    pages = ecs.get_paginator("list_clusters").paginate()
    arns = [arn for page in pages for arn in page["clusterArns"]]
    for first in range(0, len(arns), CLUSTERS_A_CALL):
        described = ecs.describe_clusters(clusters=arns[first : first + CLUSTERS_A_CALL], include=["TAGS"])
        for found in described["clusters"]:
            names = _service_names(ecs, found["clusterName"]) if found["status"] == "ACTIVE" else []
            yield from _tagged_services(ecs, found["clusterName"], names)
            tags = _tags(found.get("tags"))
            if "app" in tags:
                others = [one for one in names if one != f"{tags['app']}Service"]
                yield from _cluster(found, tags, State.KEPT if others else _signed(tags, found["clusterName"]))


def definitions(ecs: ECSClient, app: str) -> Iterator[Thing]:
    """The app's task definitions that are still active."""
    family = f"{app}Task"
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
    for arn in (arn for page in pages for arn in page["taskDefinitionArns"]):
        if _family(arn) == family:
            yield Thing("task definition", arn.rsplit("/", 1)[-1], app, id=arn)


def all_definitions(ecs: ECSClient) -> Iterator[Thing]:
    """Every active task definition that is named, tagged and told its queue as ours are; one call a family."""
    pages = ecs.get_paginator("list_task_definitions").paginate(status="ACTIVE")
    arns = [arn for page in pages for arn in page["taskDefinitionArns"]]
    for family in dict.fromkeys(_family(arn) for arn in arns if _family(arn).endswith("Task")):
        latest = ecs.describe_task_definition(taskDefinition=family, include=["TAGS"])
        app = _tags(latest.get("tags")).get("app")
        if app == family.removesuffix("Task") and told(latest["taskDefinition"], "SQS_QUEUE_URL"):
            for arn in (arn for arn in arns if _family(arn) == family):
                yield Thing("task definition", arn.rsplit("/", 1)[-1], app, id=arn)


def told(definition: Mapping[str, Any], name: str) -> str:
    """What the containers of a task definition are told in the environment variable `name`."""
    containers = definition.get("containerDefinitions", [])
    pairs = [pair for one in containers for pair in one.get("environment", [])]
    return next((str(pair.get("value", "")) for pair in pairs if pair.get("name") == name), "")


def alarms(cloudwatch: CloudWatchClient, app: str | None = None) -> Iterator[Thing]:
    """Idle alarms: named APP_NAME_INSTANCE and, of all apps, shaped as ours; `id` is the machine's."""
    wanted: Any = {"AlarmNamePrefix": f"{app}_i-"} if app else {"AlarmTypes": ["MetricAlarm"]}
    for page in cloudwatch.get_paginator("describe_alarms").paginate(**wanted):
        for found in page.get("MetricAlarms", []):
            match = _ALARM.fullmatch(found["AlarmName"])
            if match and (match["app"] == app or (app is None and _ends(found, match["machine"]))):
                yield Thing("alarm", found["AlarmName"], match["app"], id=match["machine"])


def dashboards(cloudwatch: CloudWatchClient, app: str, *, keep: bool = False) -> Iterator[Thing]:
    """The app's dashboard."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=app)
    if any(entry["DashboardName"] == app for page in pages for entry in page.get("DashboardEntries", [])):
        state, note = (State.KEPT, "CLEAN_DASHBOARD is 'False'") if keep else (State.LEFT, "")
        yield Thing("dashboard", app, app, note=note, state=state)


def all_dashboards(cloudwatch: CloudWatchClient) -> Iterator[Thing]:
    """Every dashboard that shows what ours show."""
    for name, body in bodies(cloudwatch):
        if dashboard.is_of(body, name):
            yield Thing("dashboard", name, name)


def bodies(cloudwatch: CloudWatchClient) -> Iterator[tuple[str, str]]:
    """Name and body of every dashboard; a call each."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    for name in [entry["DashboardName"] for page in pages for entry in page.get("DashboardEntries", [])]:
        try:
            yield name, cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
        except ClientError as error:
            if code_of(error) not in _NO_DASHBOARD:  # deleted between two calls
                raise


def rules(events: Any, app: str | None = None) -> Iterator[Thing]:
    """The rules that wake the auto-monitor. The app is read from the rule's name, which is cut for long ones."""
    wanted = monitor_rule(app) if app else RULE_PREFIX
    for page in events.get_paginator("list_rules").paginate(NamePrefix=wanted):
        for name in (rule["Name"] for rule in page["Rules"]):
            if app is None or name == wanted:
                yield Thing("rule", name, app or name.removeprefix(RULE_PREFIX))


def _look(looks: Iterable[tuple[str, Look]]) -> Left:
    left = Left()
    for what, find in looks:
        try:
            left.things.extend(find())
        except AWSError as error:
            if is_login(error):
                raise explain(f"looking for {what}", error) from error
            told = str(explain(f"looking for {what}", error))
            left.unseen.append(told)
            left.denied.extend([told] if code_of(error) in _DENIED else [])
    return left


def _looks_at_run(clients: Clients, names: Names) -> Iterator[tuple[str, Look]]:
    run, app = names.run, names.run.MONITOR_APP_NAME
    both = (run.MONITOR_QUEUE_NAME, names.dead_letter_queue)
    yield from _looks_at_either(clients, app)
    yield "queues", partial(named_queues, clients.sqs, app, both)
    yield "the service", partial(services, clients.ecs, run.MONITOR_ECS_CLUSTER, app)
    yield "the cluster", partial(clusters, clients.ecs, run.MONITOR_ECS_CLUSTER, app)
    yield "task definitions", partial(definitions, clients.ecs, app)
    yield "dashboards", partial(dashboards, clients.cloudwatch, app, keep=not run.CLEAN_DASHBOARD)


def _looks_at_all(clients: Clients) -> Iterator[tuple[str, Look]]:
    yield from _looks_at_either(clients, None)
    yield "queues", partial(queues, clients.sqs)
    yield "clusters and services", partial(all_of_ecs, clients.ecs)
    yield "task definitions", partial(all_definitions, clients.ecs)
    yield "dashboards", partial(all_dashboards, clients.cloudwatch)


def _looks_at_either(clients: Clients, app: str | None) -> Iterator[tuple[str, Look]]:
    ec2 = clients.ec2
    yield "fleets", partial(fleets, ec2, app)
    yield "machines", partial(machines, ec2, app)
    yield "volumes", partial(volumes, ec2, app)
    yield "launch templates", partial(templates, ec2, app)
    yield "alarms", partial(alarms, clients.cloudwatch, app)
    yield "rules", partial(rules, clients.events, app)


def _ending_with_their_fleet(things: list[Thing]) -> list[Thing]:
    """A fleet that is cancelled ends its machines itself, in its own time."""
    fleets_ending = {thing.id for thing in things if thing.kind == "fleet" and thing.state is State.ENDING}
    return [
        replace(thing, state=State.ENDING) if thing.kind == "machine" and thing.fleet in fleets_ending else thing
        for thing in things
    ]


def _ending_if(ends: bool, known: State) -> State:
    """What ends is waited for only where it is ours."""
    return State.ENDING if ends and known is State.LEFT else known


def _doubted(things: list[Thing]) -> list[Thing]:
    """Of a word as common as `app` as a tag: an app is one of ours where anything of it is surely ours."""
    sure = {thing.app for thing in things if thing.state is not State.UNKNOWN}
    return [
        replace(thing, state=State.LEFT) if thing.state is State.UNKNOWN and thing.app in sure else thing
        for thing in things
    ]


def _queue(sqs: SQSClient, url: str, tags: dict[str, str], known: State) -> Iterator[Thing]:
    """Nothing where the queue is gone: SQS still gives the URL of one that was deleted a minute ago."""
    wanted = ["RedrivePolicy", *(f"ApproximateNumberOfMessages{name}" for name in ("", "NotVisible", "Delayed"))]
    answer = _or_missing(partial(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=wanted))  # type: ignore[arg-type]
    if not answer:
        return
    found = answer.get("Attributes", {})
    jobs = sum(int(value) for name, value in found.items() if name.startswith("Approximate"))
    feeds = json.loads(found.get("RedrivePolicy", "{}")).get("deadLetterTargetArn")
    if jobs and not feeds:
        known = State.KEPT if known is State.LEFT else known
    note = f"holds {jobs} {'jobs' if feeds else 'failed jobs'}" if jobs else "empty"
    yield Thing("queue", url.rsplit("/", 1)[-1], tags["app"], tags.get("run", ""), note, known, id=url)


def _or_missing(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClientError as error:
        if queue.is_missing(error):
            return {}
        raise


def _service(found: Any, app: str, cluster_name: str) -> Iterator[Thing]:
    state = {"ACTIVE": State.LEFT, "DRAINING": State.ENDING}.get(found["status"])
    if state is not None:
        note = f"in cluster {cluster_name}, {found['runningCount']} tasks run"
        yield Thing("service", found["serviceName"], app, note=note, state=state, id=cluster_name)


def _tagged_services(ecs: ECSClient, cluster_name: str, names: list[str]) -> Iterator[Thing]:
    for first in range(0, len(names), SERVICES_A_CALL):
        some = names[first : first + SERVICES_A_CALL]
        for found in ecs.describe_services(cluster=cluster_name, services=some, include=["TAGS"])["services"]:
            app = _tags(found.get("tags")).get("app")
            if app and (found["serviceName"], _family(found["taskDefinition"])) == (f"{app}Service", f"{app}Task"):
                yield from _service(found, app, cluster_name)


def _cluster(found: Any, tags: dict[str, str], known: State) -> Iterator[Thing]:
    states = {"ACTIVE": known, "PROVISIONING": known, "DEPROVISIONING": State.ENDING}
    state = states.get(found["status"])
    if state is not None:
        note = "other services use it" if state is State.KEPT else ""
        yield Thing("cluster", found["clusterName"], tags["app"], tags.get("run", ""), note, state)


def _service_names(ecs: ECSClient, cluster_name: str) -> list[str]:
    pages = ecs.get_paginator("list_services").paginate(cluster=cluster_name)
    return [arn.rsplit("/", 1)[-1] for page in pages for arn in page["serviceArns"]]


def _ends(found: Any, machine: str) -> bool:
    """Whether the alarm looks at this machine and ends it, as ours and the published ones do."""
    looks_at = {(one["Name"], one["Value"]) for one in found.get("Dimensions", [])}
    return looks_at == {("InstanceId", machine)} and any(
        action.endswith(":ec2:terminate") for action in found.get("AlarmActions", [])
    )


def _family(arn: str) -> str:
    return arn.rsplit("/", 1)[-1].rsplit(":", 1)[0]


def _tags(tags: Iterable[Any] | None) -> dict[str, str]:
    """EC2 writes Key and Value, ECS key and value."""
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value", "")) for tag in tags or ()}


def _tag_filter(app: str | None) -> dict[str, Any]:
    return {"Name": "tag:app", "Values": [app]} if app else {"Name": "tag-key", "Values": ["app"]}


def _is_of(tags: dict[str, str], app: str | None) -> bool:
    return "app" in tags and app in (None, tags["app"])


def _signed(tags: dict[str, str], name: str | None, *endings: str) -> State:
    """LEFT where a second sign says that it is ours: a tag that only we write, or the app's name with our ending."""
    ours = "jobs_submitted" in tags or is_of_a_run(tags) or name in {f"{tags['app']}{ending}" for ending in endings}
    return State.LEFT if ours else State.UNKNOWN
