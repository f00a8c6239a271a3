"""Lists the AWS resources of one app or of all apps, with one function per kind of resource (for queues, see
`queue_resources.py`).

Each function queries the AWS service that owns the resources. AWS's tagging service could list all kinds in one call,
but its list lags behind: it contains deleted resources and lacks new ones, so it cannot show that nothing remains.
A resource counts as an app's only if its name and tags are exactly those that this package gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import EC2_PAGINATION
from distributed_something.aws.ec2_fleet import get_fleet_tags, has_fleet_ended, iter_fleets
from distributed_something.aws.ecs import describe_cluster, describe_service, is_app_cluster, list_service_names
from distributed_something.core.errors import get_error_code
from distributed_something.core.names import RULE_NAME_PREFIX, TASK_FAMILY_SUFFIX, AppNames, build_monitor_rule_name
from distributed_something.core.tags import KEPT_VOLUME_TAG, has_run_tags, parse_tags
from distributed_something.core.text import format_count
from distributed_something.observe.dashboards import is_dashboard_of_app
from distributed_something.observe.machines import iter_instances
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecs import ECSClient


OLDER_QUEUE_TAG = "jobs_submitted"  # older versions counted a queue's jobs in this tag
CLUSTERS_PER_CALL = 100  # ECS limit for DescribeClusters
SERVICES_PER_CALL = 10  # ECS limit for DescribeServices
FLEET_ID_TAG = "aws:ec2spot:fleet-request-id"  # EC2 adds it to every machine in a fleet
_LIVE_INSTANCE_STATES = ["pending", "running", "shutting-down", "stopping", "stopped"]
_RUN_NAME_PATTERN = re.compile(r"\d{8}T\d{6}Z")
_MISSING_DASHBOARD_CODES = {"DashboardNotFoundError", "ResourceNotFound"}
_ALARM_NAME_PATTERN = re.compile(r"(?P<app>.+)_(?P<machine>i-[0-9a-f]+)")


class ResourceState(Enum):
    """How cleanup treats a resource.

    REMAINING: must be deleted. ENDING: AWS is already deleting it. KEPT: kept on purpose. UNKNOWN: has an `app` tag
    but may belong to another program.
    """

    REMAINING = "left"
    ENDING = "still ending"
    KEPT = "kept"
    UNKNOWN = "of unknown origin"


class ResourceKind(StrEnum):
    """Kind of an AWS resource, as shown to users."""

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
    """One AWS resource. `note`: why it is listed. `requested_at`: when the fleet was requested (seconds since 1970)."""

    kind: ResourceKind
    name: str
    app: str
    run: str = ""
    note: str = ""
    state: ResourceState = ResourceState.REMAINING
    id: str = ""
    fleet: str = ""
    requested_at: float = 0.0


def format_resource(resource: Resource) -> str:
    """Return the kind and name, and in parentheses the app, the run, and the note."""
    app, run = resource.app, resource.run
    notes = [f"app {app}" if app else "", f"run {run}" if run else "", resource.note]
    return f"{resource.kind} {resource.name} ({', '.join(filter(None, notes))})"


def iter_tagged_fleets(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Yield the fleets with an `app` tag (of one app or of any app) that have machines or may still start some."""
    for fleet in iter_fleets(ec2):
        tags, fleet_state = get_fleet_tags(fleet), fleet["SpotFleetRequestState"]
        if not _has_app_tag(tags, app) or has_fleet_ended(fleet_state):
            continue
        yield Resource(
            ResourceKind.FLEET,
            fleet["SpotFleetRequestId"],
            tags["app"],
            tags.get("run", ""),
            note=fleet_state,
            state=_choose_ending_state(fleet_state == "cancelled_terminating", choose_ownership_state(tags, None)),
            id=fleet["SpotFleetRequestId"],
            requested_at=fleet["CreateTime"].timestamp(),
        )


def iter_tagged_machines(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Yield the machines with an `app` tag that have not been terminated."""
    filters: Any = [_build_tag_filter(app), {"Name": "instance-state-name", "Values": _LIVE_INSTANCE_STATES}]
    for instance in iter_instances(ec2, filters):
        tags, instance_state = parse_tags(instance.get("Tags")), instance["State"]["Name"]
        if _has_app_tag(tags, app):
            ownership = choose_ownership_state(tags, tags.get("Name"), AppNames(tags["app"]).machine)
            yield Resource(
                ResourceKind.MACHINE,
                instance["InstanceId"],
                tags["app"],
                tags.get("run", ""),
                note=instance_state,
                state=_choose_ending_state(instance_state == "shutting-down", ownership),
                id=instance["InstanceId"],
                fleet=tags.get(FLEET_ID_TAG, ""),
            )


def iter_tagged_volumes(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Yield the volumes with an `app` tag that are not attached to a machine.

    Attached volumes are not listed, because EC2 deletes them together with their machine.
    """
    filters: Any = [_build_tag_filter(app), {"Name": "status", "Values": ["available"]}]
    for page in ec2.get_paginator("describe_volumes").paginate(Filters=filters, PaginationConfig=EC2_PAGINATION):
        for volume in page["Volumes"]:
            tags, name = parse_tags(volume.get("Tags")), volume["VolumeId"]
            if _has_app_tag(tags, app):
                is_kept = KEPT_VOLUME_TAG.items() <= tags.items()
                ownership = choose_ownership_state(tags, tags.get("Name"), AppNames(tags["app"]).machine)
                state = ResourceState.KEPT if is_kept else ownership
                note = "kept, as the Fleet file requests" if is_kept else "not attached to a machine"
                yield Resource(ResourceKind.VOLUME, name, tags["app"], tags.get("run", ""), note, state, id=name)


def iter_tagged_templates(ec2: EC2Client, app: str | None = None) -> Iterator[Resource]:
    """Yield the launch templates with an `app` tag; REMAINING if they are named `APP_NAME-RUN`, else UNKNOWN."""
    filters: Any = [_build_tag_filter(app)]
    for page in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):
        for template in page["LaunchTemplates"]:
            tags, name = parse_tags(template.get("Tags")), template["LaunchTemplateName"]
            if _has_app_tag(tags, app):
                prefix = f"{tags['app']}-"
                is_own = name.startswith(prefix) and _RUN_NAME_PATTERN.fullmatch(name.removeprefix(prefix))
                state = ResourceState.REMAINING if is_own else ResourceState.UNKNOWN
                run, template_id = tags.get("run", ""), template["LaunchTemplateId"]
                yield Resource(ResourceKind.LAUNCH_TEMPLATE, name, tags["app"], run, state=state, id=template_id)


def iter_app_services(ecs: ECSClient, cluster_name: str, app: str) -> Iterator[Resource]:
    """Yield the app's service in this cluster, if it exists."""
    service = describe_service(ecs, cluster_name, AppNames(app).service)
    if service is not None:
        yield from _build_service_resource(service, app, cluster_name)


def iter_app_clusters(ecs: ECSClient, name: str, app: str) -> Iterator[Resource]:
    """Yield the cluster with this name, if the app created it; KEPT if it runs other apps' services."""
    cluster = describe_cluster(ecs, name)
    if cluster is not None and is_app_cluster(cluster, app):
        other_services = [service for service in list_service_names(ecs, name) if service != AppNames(app).service]
        state = ResourceState.KEPT if other_services else ResourceState.REMAINING
        yield from _build_cluster_resource(cluster, {"app": app}, state)


def iter_ecs_resources(ecs: ECSClient) -> Iterator[Resource]:
    """Yield all clusters and services with an `app` tag."""
    pages = ecs.get_paginator("list_clusters").paginate()
    arns = [arn for page in pages for arn in page["clusterArns"]]
    for batch in split_into_batches(arns, CLUSTERS_PER_CALL):
        described = ecs.describe_clusters(clusters=batch, include=["TAGS"])
        for cluster in described["clusters"]:
            cluster_name, tags = cluster["clusterName"], parse_tags(cluster.get("tags"))
            service_names = list_service_names(ecs, cluster_name) if cluster["status"] == "ACTIVE" else []
            yield from _iter_tagged_services(ecs, cluster_name, service_names)
            if "app" in tags:
                other_services = [name for name in service_names if name != AppNames(tags["app"]).service]
                state = ResourceState.KEPT if other_services else choose_ownership_state(tags, cluster_name)
                yield from _build_cluster_resource(cluster, tags, state)


def iter_app_task_definitions(ecs: ECSClient, app: str) -> Iterator[Resource]:
    """Yield the app's active task definitions."""
    family = AppNames(app).task_family
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
    for arn in (arn for page in pages for arn in page["taskDefinitionArns"]):
        if _parse_family(arn) == family:
            yield Resource(ResourceKind.TASK_DEFINITION, arn.rsplit("/", 1)[-1], app, id=arn)


def iter_all_task_definitions(ecs: ECSClient) -> Iterator[Resource]:
    """Yield the active task definitions of all apps, recognized by name, tag, and environment variable.

    Makes one call per family.
    """
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
    """Return the value of an environment variable in a task definition's containers; '' if it is not set."""
    containers = definition.get("containerDefinitions", [])
    pairs = [pair for container in containers for pair in container.get("environment", [])]
    return next((str(pair.get("value", "")) for pair in pairs if pair.get("name") == name), "")


def iter_idle_alarms(cloudwatch: CloudWatchClient, app: str | None = None) -> Iterator[Resource]:
    """Yield the idle alarms; the `id` of each is its machine's ID.

    One app's alarms are recognized by their name, APP_NAME_INSTANCE. Without `app`, their content must match too.
    """
    query: Any = {"AlarmNamePrefix": f"{app}_i-"} if app else {"AlarmTypes": ["MetricAlarm"]}
    for page in cloudwatch.get_paginator("describe_alarms").paginate(**query):
        for alarm in page.get("MetricAlarms", []):
            match = _ALARM_NAME_PATTERN.fullmatch(alarm["AlarmName"])
            if match and (match["app"] == app or (app is None and _is_idle_alarm(alarm, match["machine"]))):
                yield Resource(ResourceKind.ALARM, alarm["AlarmName"], match["app"], id=match["machine"])


def iter_app_dashboards(cloudwatch: CloudWatchClient, app: str, *, keep: bool = False) -> Iterator[Resource]:
    """Yield the app's dashboard if it exists; its state is KEPT if `keep` is set."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=app)
    if any(entry["DashboardName"] == app for page in pages for entry in page.get("DashboardEntries", [])):
        state, note = (ResourceState.KEPT, "CLEAN_DASHBOARD is 'False'") if keep else (ResourceState.REMAINING, "")
        yield Resource(ResourceKind.DASHBOARD, app, app, note=note, state=state)


def iter_all_dashboards(cloudwatch: CloudWatchClient) -> Iterator[Resource]:
    """Yield the dashboards of all apps, recognized by their content."""
    for name, body in iter_dashboard_bodies(cloudwatch):
        if is_dashboard_of_app(body, name):
            yield Resource(ResourceKind.DASHBOARD, name, name)


def iter_dashboard_bodies(cloudwatch: CloudWatchClient) -> Iterator[tuple[str, str]]:
    """Yield the name and body of every dashboard. Makes one call per dashboard."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    for name in [entry["DashboardName"] for page in pages for entry in page.get("DashboardEntries", [])]:
        try:
            yield name, cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
        except ClientError as error:
            if get_error_code(error) not in _MISSING_DASHBOARD_CODES:  # deleted between the two calls
                raise


def iter_monitor_rules(events: Any, app: str | None = None) -> Iterator[Resource]:
    """Yield the rules that start the auto-monitor.

    Without `app`, the app is taken from the rule's name, in which a long APP_NAME is truncated.
    """
    prefix = build_monitor_rule_name(app) if app else RULE_NAME_PREFIX
    for page in events.get_paginator("list_rules").paginate(NamePrefix=prefix):
        for name in (rule["Name"] for rule in page["Rules"]):
            if app is None or name == prefix:
                yield Resource(ResourceKind.RULE, name, app or name.removeprefix(RULE_NAME_PREFIX))


def choose_ownership_state(tags: Mapping[str, str], name: str | None, *own_names: str) -> ResourceState:
    """Return REMAINING if there is proof that an app owns the resource, else UNKNOWN.

    The `app` tag is not proof, because other programs use it too. Proof is a tag that only this package writes, or a
    name in `own_names`.
    """
    is_own = OLDER_QUEUE_TAG in tags or has_run_tags(tags) or name in own_names
    return ResourceState.REMAINING if is_own else ResourceState.UNKNOWN


def _choose_ending_state(is_ending: bool, ownership: ResourceState) -> ResourceState:
    """Return ENDING if the resource is ending and an app owns it, so that cleanup waits; else its ownership state."""
    return ResourceState.ENDING if is_ending and ownership is ResourceState.REMAINING else ownership


def _build_service_resource(service: Any, app: str, cluster_name: str) -> Iterator[Resource]:
    state = {"ACTIVE": ResourceState.REMAINING, "DRAINING": ResourceState.ENDING}.get(service["status"])
    if state is not None:
        note = f"in cluster {cluster_name}, {format_count(service['runningCount'], 'running task')}"
        yield Resource(ResourceKind.SERVICE, service["serviceName"], app, note=note, state=state, id=cluster_name)


def _iter_tagged_services(ecs: ECSClient, cluster_name: str, names: list[str]) -> Iterator[Resource]:
    for batch in split_into_batches(names, SERVICES_PER_CALL):
        for service in ecs.describe_services(cluster=cluster_name, services=batch, include=["TAGS"])["services"]:
            app = parse_tags(service.get("tags")).get("app")
            if app and (service["serviceName"], _parse_family(service["taskDefinition"])) == (
                AppNames(app).service,
                AppNames(app).task_family,
            ):
                yield from _build_service_resource(service, app, cluster_name)


def _build_cluster_resource(cluster: Any, tags: dict[str, str], ownership: ResourceState) -> Iterator[Resource]:
    states = {"ACTIVE": ownership, "PROVISIONING": ownership, "DEPROVISIONING": ResourceState.ENDING}
    state = states.get(cluster["status"])
    if state is not None:
        note = "other services use it" if state is ResourceState.KEPT else ""
        yield Resource(ResourceKind.CLUSTER, cluster["clusterName"], tags["app"], tags.get("run", ""), note, state)


def _is_idle_alarm(alarm: Any, machine: str) -> bool:
    """Return whether the alarm watches and terminates this machine, as idle alarms from every version do."""
    dimensions = {(dimension["Name"], dimension["Value"]) for dimension in alarm.get("Dimensions", [])}
    return dimensions == {("InstanceId", machine)} and any(
        action.endswith(":ec2:terminate") for action in alarm.get("AlarmActions", [])
    )


def _parse_family(arn: str) -> str:
    return arn.rsplit("/", 1)[-1].rsplit(":", 1)[0]


def _build_tag_filter(app: str | None) -> dict[str, Any]:
    return {"Name": "tag:app", "Values": [app]} if app else {"Name": "tag-key", "Values": ["app"]}


def _has_app_tag(tags: dict[str, str], app: str | None) -> bool:
    return "app" in tags and app in (None, tags["app"])
