"""What can be seen of a run from outside: one look at each place where it may be stuck. Nothing here judges.

A fixed number of calls (about twenty-five) however large the run is: of machines, tasks and pauses the first hundred,
hundred and five are looked at. What AWS refuses to tell is noted, and the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from distributed_something.aws import ec2_fleet
from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import find_active_fleet, list_launch_errors, observe_fleet
from distributed_something.aws.ecs import ServiceState, describe_cluster, describe_service
from distributed_something.aws.instance_types import (
    MACHINE_TYPES_PER_CALL,
    find_quota_class,
    list_machine_types,
    read_quota_value,
)
from distributed_something.aws.sqs import QueueCounts, find_dead_letter_name, find_queue, observe_queue_counts
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.core.errors import (
    AWSError,
    CloudError,
    explain_aws_error,
    format_lookup_error,
    is_login_error,
)
from distributed_something.core.monitor_file import MonitorFile, build_run_name
from distributed_something.fleet.launch_specs import list_requested_types
from distributed_something.observe.service import build_service_evidence, list_stopped_tasks
from distributed_something.worker import RunKeys, build_machine_log_group, is_run_closed, list_paused_containers

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


T = TypeVar("T")
MAX_RUN_MACHINES = 1000  # EC2: instances of one DescribeInstances call
MAX_CLUSTER_MACHINES, MAX_STOPPED_TASKS = 100, 100  # ECS: of one Describe call
MAX_LOG_STREAMS = 50
MAX_LOG_LINES = 5


@dataclass(frozen=True)
class DiagnosisSubject:
    """Whose run it is. `fleet` and `start` (seconds since 1970) are None where no run was begun, or where it could not
    be found out whether one was (`unfound`: why)."""

    app: str
    cluster: str
    service: str
    queue: str
    bucket: str
    log_group: str
    fleet: str | None = None
    start: float | None = None
    run: str | None = None
    unfound: str = ""


@dataclass(frozen=True)
class ObservedMachine:
    """An instance of this run; `launched`: seconds since 1970; `why_ended`: EC2's words."""

    id: str
    state: str
    launched: float
    kind: str = ""
    public: bool = True
    why_ended: str = ""


@dataclass(frozen=True)
class ClusterMachine:
    """A machine as the cluster knows it."""

    id: str
    connected: bool
    tasks: int


@dataclass(frozen=True)
class SpotQuota:
    """Virtual CPUs that the account may have, and those of the smallest machine asked for."""

    name: str
    code: str
    value: float
    least: int


@dataclass(frozen=True)
class LogTail:
    """The newest line that the run's machines logged (seconds since 1970), and the last lines of a container."""

    at: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PausedMachine:
    """A machine whose worker takes no jobs, and why."""

    machine: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """One look. A part that could not be looked at is in `unseen` (part: why), and has its default here. `closed`: the
    monitor has told the workers that the run has cost what it may."""

    at: float
    subject: DiagnosisSubject
    counts: QueueCounts | None = None
    dead: int = 0
    fleet: ec2_fleet.FleetState | None = None
    events: tuple[AWSEvent, ...] = ()
    machines: tuple[ObservedMachine, ...] = ()
    registered: int | None = None
    joined: tuple[ClusterMachine, ...] = ()
    service: ServiceState | None = None
    told: tuple[AWSEvent, ...] = ()
    stopped: tuple[AWSEvent, ...] = ()
    quota: SpotQuota | None = None
    logged: LogTail | None = None
    paused: tuple[PausedMachine, ...] = ()
    closed: bool = False
    unseen: Mapping[str, str] = field(default_factory=dict)

    def has_observed(self, part: str) -> bool:
        return part not in self.unseen


def build_subject_from_run(monitor_file: MonitorFile) -> DiagnosisSubject:
    """The run of a monitor file."""
    return DiagnosisSubject(
        app=monitor_file.MONITOR_APP_NAME,
        cluster=monitor_file.MONITOR_ECS_CLUSTER,
        service=monitor_file.names.service,
        queue=monitor_file.MONITOR_QUEUE_NAME,
        bucket=monitor_file.MONITOR_BUCKET_NAME,
        log_group=monitor_file.MONITOR_LOG_GROUP_NAME,
        fleet=monitor_file.MONITOR_FLEET_ID,
        start=monitor_file.MONITOR_START_TIME / 1000,
        run=monitor_file.run,
    )


def build_subject_from_config(settings: Settings) -> DiagnosisSubject:
    """The app of a config, where no run was begun."""
    return DiagnosisSubject(
        app=settings.APP_NAME,
        cluster=settings.ECS_CLUSTER,
        service=settings.names.service,
        queue=settings.SQS_QUEUE_NAME,
        bucket=settings.AWS_BUCKET,
        log_group=settings.LOG_GROUP_NAME,
    )


def observe_active_subject(settings: Settings, clients: Clients) -> DiagnosisSubject:
    """The app's active fleet, found by its tag; its config alone where there is none, or where that is not told."""
    subject = build_subject_from_config(settings)
    try:
        found = find_active_fleet(clients.ec2, settings.APP_NAME)
    except CloudError as error:
        return replace(subject, unfound=format_lookup_error(error.__cause__ or error))
    if found is None:
        return subject
    return replace(subject, fleet=found.id, start=found.start, run=build_run_name(found.start))


def gather_evidence(clients: Clients, subject: DiagnosisSubject, now: float) -> Evidence:
    """Looks everywhere once. Raises CloudError only where AWS does not know who asks."""
    seen: dict[str, Any] = {}
    unseen: dict[str, str] = {"fleet": subject.unfound} if subject.unfound else {}

    def look(part: str, ask: Callable[[], Any]) -> None:
        try:
            seen[part] = ask()
        except AWSError as error:
            if is_login_error(error):
                raise explain_aws_error("looking at the run", error) from error
            unseen[part] = format_lookup_error(error)

    def lacks_machines() -> bool:
        return bool(seen.get("fleet") and seen["fleet"].lacks_machines)

    look("counts", lambda: _observe_queue_counts(clients, subject.queue))
    look("dead", lambda: _count_dead_letter_jobs(clients, subject.queue))
    look("service", lambda: describe_service(clients.ecs, subject.cluster, subject.service))
    look("stopped", lambda: list_stopped_tasks(clients, subject))
    look("registered", lambda: _count_registered_instances(clients, subject.cluster))
    look("joined", lambda: _list_cluster_machines(clients, subject.cluster) if seen.get("registered") else ())
    look("logged", lambda: _find_log_tail(clients, subject))
    if subject.fleet:
        look("fleet", lambda: observe_fleet(clients.ec2, str(subject.fleet)))
        look("events", lambda: _list_fleet_errors(clients, subject, now))
        look("machines", lambda: _list_run_machines(clients, subject))
        look("quota", lambda: _find_spot_quota(clients, str(subject.fleet)) if lacks_machines() else None)
        look("paused", lambda: _list_paused_machines(clients, subject, now))
        keys = RunKeys(subject.app, str(subject.run))
        look("closed", lambda: is_run_closed(clients.s3, subject.bucket, keys))
    described = seen.pop("service", None)
    return Evidence(now, subject, **seen, **build_service_evidence(described), unseen=unseen)


def _observe_queue_counts(clients: Clients, name: str) -> QueueCounts | None:
    url = find_queue(clients.sqs, name)
    return observe_queue_counts(clients.sqs, url) if url else None


def _count_dead_letter_jobs(clients: Clients, name: str) -> int:
    url = find_queue(clients.sqs, name)
    dead_name = find_dead_letter_name(clients.sqs, url) if url else None
    dead_url = find_queue(clients.sqs, dead_name) if dead_name else None
    return observe_queue_counts(clients.sqs, dead_url).jobs if dead_url else 0


def _count_registered_instances(clients: Clients, name: str) -> int | None:
    found = describe_cluster(clients.ecs, name)
    return None if found is None or found["status"] != "ACTIVE" else int(found["registeredContainerInstancesCount"])


def _list_cluster_machines(clients: Clients, name: str) -> tuple[ClusterMachine, ...]:
    arns = clients.ecs.list_container_instances(cluster=name, maxResults=MAX_CLUSTER_MACHINES)["containerInstanceArns"]
    if not arns:
        return ()
    found: Any = clients.ecs.describe_container_instances(cluster=name, containerInstances=arns)["containerInstances"]
    return tuple(
        ClusterMachine(
            str(one.get("ec2InstanceId", "")), bool(one.get("agentConnected")), int(one.get("runningTasksCount", 0))
        )
        for one in found
    )


def _list_fleet_errors(clients: Clients, subject: DiagnosisSubject, now: float) -> tuple[AWSEvent, ...]:
    return tuple(list_launch_errors(clients.ec2, str(subject.fleet), subject.start or 0.0, now))


def _list_run_machines(clients: Clients, subject: DiagnosisSubject) -> tuple[ObservedMachine, ...]:
    """The app's instances since the run's start; ended ones too, which EC2 shows for an hour."""
    filters: Any = [{"Name": "tag:app", "Values": [subject.app]}]
    pages = clients.ec2.get_paginator("describe_instances").paginate(
        Filters=filters,
        PaginationConfig={"PageSize": MAX_RUN_MACHINES, "MaxItems": MAX_RUN_MACHINES},  # a page may be empty
    )
    found: Any = (reservation for page in pages for reservation in page["Reservations"])
    every = (_build_machine(one) for reservation in found for one in reservation["Instances"])
    return tuple(one for one in every if one.launched >= (subject.start or 0.0))


def _build_machine(one: Mapping[str, Any]) -> ObservedMachine:
    reason = one.get("StateReason", {})
    return ObservedMachine(
        id=one["InstanceId"],
        state=one["State"]["Name"],
        launched=convert_to_seconds(one.get("LaunchTime")),
        kind=one.get("InstanceType", ""),
        public=bool(one.get("PublicIpAddress")),
        why_ended=f"{reason.get('Code', '')}: {reason.get('Message', '')}" if reason else "",
    )


def _find_spot_quota(clients: Clients, fleet_id: str) -> SpotQuota | None:
    """The quota of the first type that the fleet asks for; None where it is not known which one it is."""
    found: Any = clients.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
    kinds = sorted(list_requested_types(found[0]["SpotFleetRequestConfig"])) if found else []
    quota = find_quota_class(kinds[0]) if kinds else None
    if quota is None:
        return None
    same = [kind for kind in kinds if find_quota_class(kind) == quota][:MACHINE_TYPES_PER_CALL]
    sizes = [one.vcpus for one in list_machine_types(clients.ec2, same).values()]
    value = read_quota_value(clients.service_quotas, quota)
    return SpotQuota(quota.name, quota.code, value, min(sizes, default=1))


def _find_log_tail(clients: Clients, subject: DiagnosisSubject) -> LogTail | None:
    """The newest sign of life of the run's machines, and the last lines of the container that wrote last."""
    group = build_machine_log_group(subject.log_group)
    wanted: Any = {"logGroupName": group, "orderBy": "LastEventTime", "descending": True, "limit": MAX_LOG_STREAMS}
    try:
        streams: Any = clients.logs.describe_log_streams(**wanted)["logStreams"]
    except clients.logs.exceptions.ResourceNotFoundException:
        return None
    written = [one for one in streams if "lastEventTimestamp" in one]
    if not written:
        return None
    newest = max(one["lastEventTimestamp"] for one in written) / 1000
    own = [one["logStreamName"] for one in written if one["logStreamName"].startswith(f"{subject.app}/")]
    return LogTail(newest, _list_last_lines(clients, group, own[0]) if own else ())


def _list_last_lines(clients: Clients, group: str, stream: str) -> tuple[str, ...]:
    events: Any = clients.logs.get_log_events(
        logGroupName=group, logStreamName=stream, limit=MAX_LOG_LINES, startFromHead=False
    )["events"]
    return tuple(str(event["message"]).rstrip() for event in events)


def _list_paused_machines(clients: Clients, subject: DiagnosisSubject, now: float) -> tuple[PausedMachine, ...]:
    found = list_paused_containers(clients.s3, subject.bucket, RunKeys(subject.app, str(subject.run)), now)
    return tuple(PausedMachine(one["machine"], one["reason"]) for one in found)


def convert_to_seconds(at: Any) -> float:
    """A time of AWS's as seconds since 1970; 0 where it is missing."""
    return at.timestamp() if isinstance(at, datetime) else 0.0
