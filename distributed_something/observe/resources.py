"""What AWS holds of an app, or of all apps, kind by kind: each service is asked itself.

The tagging service would answer for all of them in one call, but it still lists what is deleted and not yet what is
new, which is no proof that nothing is left. Names and tags are compared whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import EC2_PAGINATION
from distributed_something.aws.ec2_fleet import get_fleet_tags, has_fleet_ended, iter_fleets
from distributed_something.aws.ecs import describe_cluster, describe_service, is_app_cluster, list_service_names
from distributed_something.aws.sqs import SUBMITTED_JOBS_TAG, find_queue, is_missing_queue_error
from distributed_something.core.errors import get_error_code
from distributed_something.core.names import RULE_NAME_PREFIX, TASK_FAMILY_SUFFIX, AppNames, build_monitor_rule_name
from distributed_something.core.tags import KEPT_VOLUME_TAG, has_run_tags, parse_tags
from distributed_something.observe.dashboards import is_dashboard_of_app
from distributed_something.observe.machines import iter_instances
from distributed_something.observe.queue import observe_queue_at
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_sqs import SQSClient


CLUSTERS_PER_CALL = 100  # ECS: DescribeClusters
SERVICES_PER_CALL = 10  # ECS: DescribeServices
FLEET_ID_TAG = "aws:ec2spot:fleet-request-id"  # EC2 puts it on every machine of a fleet
_LIVE_INSTANCE_STATES = ["pending", "running", "shutting-down", "stopping", "stopped"]  # states of an instance
_RUN_NAME_PATTERN = re.compile(r"\d{8}T\d{6}Z")
_MISSING_DASHBOARD_CODES = {"DashboardNotFoundError", "ResourceNotFound"}
_ALARM_NAME_PATTERN = re.compile(r"(?P<app>.+)_(?P<machine>i-[0-9a-f]+)")


class ResourceState(Enum):
    """LEFT must go; ENDING goes by itself; KEPT stays on purpose; UNKNOWN says `app`, but may be somebody else's."""

    LEFT = "left"
    ENDING = "still ending"
    KEPT = "kept"
    UNKNOWN = "of unknown origin"


class ResourceKind(StrEnum):
    """What a thing in AWS is, in the words that a user reads."""

    FLEET = "fleet"
    MACHINE = "machine"
    VOLUME = "volume"
    LAUNCH_TEMPLATE = "launch template"
    QUEUE = "queue"
    DEAD_LETTER_QUEUE = "dead-letter queue"
    SERVICE = "service"
    CLUSTER = "cluster"
    TASK_DEFINITION = "task definition"
    ALARM = "alarm"
    DASHBOARD = "dashboard"
    LOG_GROUP = "log group"
    RULE = "rule"


@dataclass(frozen=True)
class Resource:
    """One thing in AWS: what it is, its name and AWS's id of it, whose it is, and why it is listed.

    `made`: of a fleet, when it was requested (seconds since 1970).
    """

    kind: ResourceKind
    name: str
    app: str
    run: str = ""
    note: str = ""
    state: ResourceState = ResourceState.LEFT
    id: str = ""
    fleet: str = ""
    made: float = 0.0


def format_resource(resource: Resource) -> str:
    """Return the kind and name, and in parentheses whose it is and why it is listed."""
    app, run = resource.app, resource.run
    notes = [f"app {app}" if app else "", f"run {run}" if run else "", resource.note]
    return f"{resource.kind} {resource.name} ({', '.join(filter(None, notes))})"


def iter_tagged_fleets(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Fleets that carry the tag `app` (of one app, or of any) and that still have, or may start, machines."""
    for found in iter_fleets(ec2):
        tags, state = get_fleet_tags(found), found["SpotFleetRequestState"]
        if not _has_app_tag(tags, app) or has_fleet_ended(state):
            continue
        known = _choose_ending_state(state == "cancelled_terminating", _choose_ownership_state(tags, None))
        name, made = found["SpotFleetRequestId"], found["CreateTime"].timestamp()
        yield Resource(ResourceKind.FLEET, name, tags["app"], tags.get("run", ""), state, known, id=name, made=made)


def iter_tagged_machines(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Machines that carry the tag `app` and are not gone."""
    filters: Any = [_build_tag_filter(app), {"Name": "instance-state-name", "Values": _LIVE_INSTANCE_STATES}]
    for found in iter_instances(ec2, filters):
        tags, state = parse_tags(found.get("Tags")), found["State"]["Name"]
        if _has_app_tag(tags, app):
            known = _choose_ending_state(
                state == "shutting-down",
                _choose_ownership_state(tags, tags.get("Name"), AppNames(tags["app"]).machine),
            )
            name, run = found["InstanceId"], tags.get("run", "")
            yield Resource(
                ResourceKind.MACHINE, name, tags["app"], run, state, known, id=name, fleet=tags.get(FLEET_ID_TAG, "")
            )


def iter_tagged_volumes(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Volumes that carry the tag `app` and hang on no machine: those that do go with it."""
    filters: Any = [_build_tag_filter(app), {"Name": "status", "Values": ["available"]}]
    for page in ec2.get_paginator("describe_volumes").paginate(Filters=filters, PaginationConfig=EC2_PAGINATION):
        for found in page["Volumes"]:
            tags, name = parse_tags(found.get("Tags")), found["VolumeId"]
            if _has_app_tag(tags, app):
                kept = KEPT_VOLUME_TAG.items() <= tags.items()
                known = (
                    ResourceState.KEPT
                    if kept
                    else _choose_ownership_state(tags, tags.get("Name"), AppNames(tags["app"]).machine)
                )
                note = "kept, as the Fleet file says" if kept else "on no machine"
                yield Resource(ResourceKind.VOLUME, name, tags["app"], tags.get("run", ""), note, known, id=name)


def iter_tagged_templates(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Launch templates that carry the tag `app` and are named `APP_NAME-RUN`."""
    filters: Any = [_build_tag_filter(app)]
    for page in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):
        for found in page["LaunchTemplates"]:
            tags, name = parse_tags(found.get("Tags")), found["LaunchTemplateName"]
            if _has_app_tag(tags, app):
                ours = name.startswith(f"{tags['app']}-") and _RUN_NAME_PATTERN.fullmatch(
                    name.removeprefix(f"{tags['app']}-")
                )
                known = ResourceState.LEFT if ours else ResourceState.UNKNOWN
                run = tags.get("run", "")
                yield Resource(
                    ResourceKind.LAUNCH_TEMPLATE, name, tags["app"], run, state=known, id=found["LaunchTemplateId"]
                )


def iter_named_queues(sqs: SQSClient, app: str, names: Iterable[str]) -> Iterator[Resource]:
    """The queues of just these names, whatever their tags."""
    for name in names:
        url = find_queue(sqs, name)
        if url is not None:
            yield from _iter_queue(sqs, url, {"app": app}, ResourceState.LEFT)


def iter_tagged_queues(sqs: SQSClient) -> Iterator[Resource]:
    """All queues that carry the tag `app`. Two calls a queue."""
    for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000}):
        for url in page.get("QueueUrls", []):
            tags = _empty_if_missing(partial(sqs.list_queue_tags, QueueUrl=url)).get("Tags", {})
            if "app" in tags:
                yield from _iter_queue(sqs, url, tags, _choose_queue_state(tags, url))


def iter_app_services(ecs: ECSClient, cluster_name: str, app: str) -> Iterator[Resource]:
    """The app's service in this cluster."""
    found = describe_service(ecs, cluster_name, AppNames(app).service)
    if found is not None:
        yield from _build_service_resource(found, app, cluster_name)


def iter_app_clusters(ecs: ECSClient, name: str, app: str) -> Iterator[Resource]:
    """The cluster of this name, where it is the app's own."""
    found = describe_cluster(ecs, name)
    if found is not None and is_app_cluster(found, app):
        others = [one for one in list_service_names(ecs, name) if one != AppNames(app).service]
        yield from _build_cluster_resource(found, {"app": app}, ResourceState.KEPT if others else ResourceState.LEFT)


def iter_ecs_resources(ecs: ECSClient) -> Iterator[Resource]:
    """Every cluster and service that carries the tag `app`."""
    pages = ecs.get_paginator("list_clusters").paginate()
    arns = [arn for page in pages for arn in page["clusterArns"]]
    for batch in split_into_batches(arns, CLUSTERS_PER_CALL):
        described = ecs.describe_clusters(clusters=batch, include=["TAGS"])
        for found in described["clusters"]:
            names = list_service_names(ecs, found["clusterName"]) if found["status"] == "ACTIVE" else []
            yield from _iter_tagged_services(ecs, found["clusterName"], names)
            tags = parse_tags(found.get("tags"))
            if "app" in tags:
                others = [one for one in names if one != AppNames(tags["app"]).service]
                yield from _build_cluster_resource(
                    found, tags, ResourceState.KEPT if others else _choose_ownership_state(tags, found["clusterName"])
                )


def iter_app_task_definitions(ecs: ECSClient, app: str) -> Iterator[Resource]:
    """The app's task definitions that are still active."""
    family = AppNames(app).task_family
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
    for arn in (arn for page in pages for arn in page["taskDefinitionArns"]):
        if _parse_family(arn) == family:
            yield Resource(ResourceKind.TASK_DEFINITION, arn.rsplit("/", 1)[-1], app, id=arn)


def iter_all_task_definitions(ecs: ECSClient) -> Iterator[Resource]:
    """Every active task definition that is named, tagged and told its queue as ours are; one call a family."""
    pages = ecs.get_paginator("list_task_definitions").paginate(status="ACTIVE")
    arns = [arn for page in pages for arn in page["taskDefinitionArns"]]
    for family in dict.fromkeys(_parse_family(arn) for arn in arns if _parse_family(arn).endswith(TASK_FAMILY_SUFFIX)):
        latest = ecs.describe_task_definition(taskDefinition=family, include=["TAGS"])
        app = parse_tags(latest.get("tags")).get("app")
        if app == family.removesuffix(TASK_FAMILY_SUFFIX) and get_container_variable(
            latest["taskDefinition"], "SQS_QUEUE_URL"
        ):
            for arn in (arn for arn in arns if _parse_family(arn) == family):
                yield Resource(ResourceKind.TASK_DEFINITION, arn.rsplit("/", 1)[-1], app, id=arn)


def get_container_variable(definition: Mapping[str, Any], name: str) -> str:
    """What the containers of a task definition are told in the environment variable `name`."""
    containers = definition.get("containerDefinitions", [])
    pairs = [pair for one in containers for pair in one.get("environment", [])]
    return next((str(pair.get("value", "")) for pair in pairs if pair.get("name") == name), "")


def iter_idle_alarms(cloudwatch: CloudWatchClient, app: str | None = None) -> Iterator[Resource]:
    """Idle alarms: named APP_NAME_INSTANCE and, of all apps, shaped as ours; `id` is the machine's."""
    wanted: Any = {"AlarmNamePrefix": f"{app}_i-"} if app else {"AlarmTypes": ["MetricAlarm"]}
    for page in cloudwatch.get_paginator("describe_alarms").paginate(**wanted):
        for found in page.get("MetricAlarms", []):
            match = _ALARM_NAME_PATTERN.fullmatch(found["AlarmName"])
            if match and (match["app"] == app or (app is None and _is_idle_alarm(found, match["machine"]))):
                yield Resource(ResourceKind.ALARM, found["AlarmName"], match["app"], id=match["machine"])


def iter_app_dashboards(cloudwatch: CloudWatchClient, app: str, *, keep: bool = False) -> Iterator[Resource]:
    """The app's dashboard."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=app)
    if any(entry["DashboardName"] == app for page in pages for entry in page.get("DashboardEntries", [])):
        state, note = (ResourceState.KEPT, "CLEAN_DASHBOARD is 'False'") if keep else (ResourceState.LEFT, "")
        yield Resource(ResourceKind.DASHBOARD, app, app, note=note, state=state)


def iter_all_dashboards(cloudwatch: CloudWatchClient) -> Iterator[Resource]:
    """Every dashboard that shows what ours show."""
    for name, body in iter_dashboard_bodies(cloudwatch):
        if is_dashboard_of_app(body, name):
            yield Resource(ResourceKind.DASHBOARD, name, name)


def iter_dashboard_bodies(cloudwatch: CloudWatchClient) -> Iterator[tuple[str, str]]:
    """Name and body of every dashboard; a call each."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    for name in [entry["DashboardName"] for page in pages for entry in page.get("DashboardEntries", [])]:
        try:
            yield name, cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
        except ClientError as error:
            if get_error_code(error) not in _MISSING_DASHBOARD_CODES:  # deleted between two calls
                raise


def iter_monitor_rules(events: Any, app: str | None = None) -> Iterator[Resource]:
    """The rules that wake the auto-monitor. The app is read from the rule's name, which is cut for long ones."""
    wanted = build_monitor_rule_name(app) if app else RULE_NAME_PREFIX
    for page in events.get_paginator("list_rules").paginate(NamePrefix=wanted):
        for name in (rule["Name"] for rule in page["Rules"]):
            if app is None or name == wanted:
                yield Resource(ResourceKind.RULE, name, app or name.removeprefix(RULE_NAME_PREFIX))


def _choose_ending_state(ends: bool, known: ResourceState) -> ResourceState:
    """What ends is waited for only where it is ours."""
    return ResourceState.ENDING if ends and known is ResourceState.LEFT else known


def _iter_queue(sqs: SQSClient, url: str, tags: dict[str, str], known: ResourceState) -> Iterator[Resource]:
    """Nothing where the queue is gone."""
    queue = observe_queue_at(sqs, url)
    if queue is None:
        return
    jobs, feeds = queue.counts.jobs, queue.dead_letter_queue
    if jobs and not feeds:
        known = ResourceState.KEPT if known is ResourceState.LEFT else known
    note = f"holds {jobs} {'jobs' if feeds else 'failed jobs'}" if jobs else "empty"
    yield Resource(ResourceKind.QUEUE, queue.name, tags["app"], tags.get("run", ""), note, known, id=url)


def _empty_if_missing(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClientError as error:
        if is_missing_queue_error(error):
            return {}
        raise


def _build_service_resource(found: Any, app: str, cluster_name: str) -> Iterator[Resource]:
    state = {"ACTIVE": ResourceState.LEFT, "DRAINING": ResourceState.ENDING}.get(found["status"])
    if state is not None:
        note = f"in cluster {cluster_name}, {found['runningCount']} tasks run"
        yield Resource(ResourceKind.SERVICE, found["serviceName"], app, note=note, state=state, id=cluster_name)


def _iter_tagged_services(ecs: ECSClient, cluster_name: str, names: list[str]) -> Iterator[Resource]:
    for batch in split_into_batches(names, SERVICES_PER_CALL):
        for found in ecs.describe_services(cluster=cluster_name, services=batch, include=["TAGS"])["services"]:
            app = parse_tags(found.get("tags")).get("app")
            if app and (found["serviceName"], _parse_family(found["taskDefinition"])) == (
                AppNames(app).service,
                AppNames(app).task_family,
            ):
                yield from _build_service_resource(found, app, cluster_name)


def _build_cluster_resource(found: Any, tags: dict[str, str], known: ResourceState) -> Iterator[Resource]:
    states = {"ACTIVE": known, "PROVISIONING": known, "DEPROVISIONING": ResourceState.ENDING}
    state = states.get(found["status"])
    if state is not None:
        note = "other services use it" if state is ResourceState.KEPT else ""
        yield Resource(ResourceKind.CLUSTER, found["clusterName"], tags["app"], tags.get("run", ""), note, state)


def _is_idle_alarm(found: Any, machine: str) -> bool:
    """Whether the alarm looks at this machine and ends it, as ours and the published ones do."""
    looks_at = {(one["Name"], one["Value"]) for one in found.get("Dimensions", [])}
    return looks_at == {("InstanceId", machine)} and any(
        action.endswith(":ec2:terminate") for action in found.get("AlarmActions", [])
    )


def _parse_family(arn: str) -> str:
    return arn.rsplit("/", 1)[-1].rsplit(":", 1)[0]


def _build_tag_filter(app: str | None) -> dict[str, Any]:
    return {"Name": "tag:app", "Values": [app]} if app else {"Name": "tag-key", "Values": ["app"]}


def _has_app_tag(tags: dict[str, str], app: str | None) -> bool:
    return "app" in tags and app in (None, tags["app"])


def _choose_queue_state(tags: dict[str, str], url: str) -> ResourceState:
    names = AppNames(tags["app"])
    return _choose_ownership_state(tags, url.rsplit("/", 1)[-1], names.default_queue, names.default_dead_letter_queue)


def _choose_ownership_state(tags: dict[str, str], name: str | None, *own: str) -> ResourceState:
    """LEFT where a second sign says that it is ours: a tag that only we write, or a name of our `own`."""
    ours = SUBMITTED_JOBS_TAG in tags or has_run_tags(tags) or name in own
    return ResourceState.LEFT if ours else ResourceState.UNKNOWN
