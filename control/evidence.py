"""What can be seen of a run from outside: one look at each place where it may be stuck. Nothing here judges.

A fixed number of calls (about twenty-five) however large the run is: of machines, tasks and pauses the first hundred,
hundred and five are looked at. What AWS refuses to tell is noted, and the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from control import cluster, fleet, machines, queue, quotas
from control.asked import types_of
from control.clients import Clients
from control.cluster import ServiceState
from control.errors import AWSError, CloudError, explain
from control.monitorfile import MonitorFile, run_name
from control.queue import Counts
from control.rights import is_login, why_not
from control.troubles import Event
from worker.machinery import pauses
from worker.machinery.closing import is_closed, key_of

if TYPE_CHECKING:
    from control.settings import Settings

T = TypeVar("T")
MACHINES_SEEN = 1000  # EC2: instances of one DescribeInstances call
JOINED_SEEN, TASKS_SEEN = 100, 100  # ECS: of one Describe call
STREAMS_SEEN = 50
LINES_SEEN = 5


@dataclass(frozen=True)
class Subject:
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
class Machine:
    """An instance of this run; `launched`: seconds since 1970; `why_ended`: EC2's words."""

    id: str
    state: str
    launched: float
    kind: str = ""
    public: bool = True
    why_ended: str = ""


@dataclass(frozen=True)
class Joined:
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
class Logged:
    """The newest line that the run's machines logged (seconds since 1970), and the last lines of a container."""

    at: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paused:
    """A machine whose worker takes no jobs, and why."""

    machine: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """One look. A part that could not be looked at is in `unseen` (part: why), and has its default here. `closed`: the
    monitor has told the workers that the run has cost what it may."""

    at: float
    subject: Subject
    counts: Counts | None = None
    dead: int = 0
    fleet: fleet.FleetState | None = None
    events: tuple[Event, ...] = ()
    machines: tuple[Machine, ...] = ()
    registered: int | None = None
    joined: tuple[Joined, ...] = ()
    service: ServiceState | None = None
    told: tuple[Event, ...] = ()
    stopped: tuple[Event, ...] = ()
    quota: SpotQuota | None = None
    logged: Logged | None = None
    paused: tuple[Paused, ...] = ()
    closed: bool = False
    unseen: Mapping[str, str] = field(default_factory=dict)

    def saw(self, part: str) -> bool:
        return part not in self.unseen


def of_run(monitor_file: MonitorFile) -> Subject:
    """The run of a monitor file."""
    return Subject(
        app=monitor_file.MONITOR_APP_NAME,
        cluster=monitor_file.MONITOR_ECS_CLUSTER,
        service=monitor_file.service_name,
        queue=monitor_file.MONITOR_QUEUE_NAME,
        bucket=monitor_file.MONITOR_BUCKET_NAME,
        log_group=monitor_file.MONITOR_LOG_GROUP_NAME,
        fleet=monitor_file.MONITOR_FLEET_ID,
        start=monitor_file.MONITOR_START_TIME / 1000,
        run=monitor_file.run,
    )


def of_config(settings: Settings) -> Subject:
    """The app of a config, where no run was begun."""
    return Subject(
        app=settings.APP_NAME,
        cluster=settings.ECS_CLUSTER,
        service=settings.service_name,
        queue=settings.SQS_QUEUE_NAME,
        bucket=settings.AWS_BUCKET,
        log_group=settings.LOG_GROUP_NAME,
    )


def without_file(settings: Settings, clients: Clients) -> Subject:
    """The app's active fleet, found by its tag; its config alone where there is none, or where that is not told."""
    subject = of_config(settings)
    try:
        found = fleet.running(clients.ec2, settings.APP_NAME)
    except CloudError as error:
        return replace(subject, unfound=why_not(error.__cause__ or error))
    if found is None:
        return subject
    return replace(subject, fleet=found.id, start=found.start, run=run_name(found.start))


def gather(clients: Clients, subject: Subject, now: float) -> Evidence:
    """Looks everywhere once. Raises CloudError only where AWS does not know who asks."""
    seen: dict[str, Any] = {}
    unseen: dict[str, str] = {"fleet": subject.unfound} if subject.unfound else {}

    def look(part: str, ask: Callable[[], Any]) -> None:
        try:
            seen[part] = ask()
        except AWSError as error:
            if is_login(error):
                raise explain("looking at the run", error) from error
            unseen[part] = why_not(error)

    def lacks_machines() -> bool:
        return bool(seen.get("fleet") and seen["fleet"].lacks_machines)

    look("counts", lambda: _counts(clients, subject.queue))
    look("dead", lambda: _dead(clients, subject.queue))
    look("service", lambda: cluster.describe_service(clients.ecs, subject.cluster, subject.service))
    look("stopped", lambda: _stopped(clients, subject))
    look("registered", lambda: _registered(clients, subject.cluster))
    look("joined", lambda: _joined(clients, subject.cluster) if seen.get("registered") else ())
    look("logged", lambda: _logged(clients, subject))
    if subject.fleet:
        look("fleet", lambda: fleet.state(clients.ec2, str(subject.fleet)))
        look("events", lambda: _events(clients, subject, now))
        look("machines", lambda: _machines(clients, subject))
        look("quota", lambda: _quota(clients, str(subject.fleet)) if lacks_machines() else None)
        look("paused", lambda: _paused(clients, subject, now))
        key = key_of(subject.app, str(subject.run))
        look("closed", lambda: is_closed(clients.s3, subject.bucket, key))
    described = seen.pop("service", None)
    return Evidence(now, subject, **seen, **_service(described), unseen=unseen)


def _counts(clients: Clients, name: str) -> Counts | None:
    url = queue.find(clients.sqs, name)
    return queue.counts(clients.sqs, url) if url else None


def _dead(clients: Clients, name: str) -> int:
    url = queue.find(clients.sqs, name)
    dead_name = queue.dead_letter_name(clients.sqs, url) if url else None
    dead_url = queue.find(clients.sqs, dead_name) if dead_name else None
    return queue.counts(clients.sqs, dead_url).jobs if dead_url else 0


def _service(described: Any) -> dict[str, Any]:
    if described is None or described.get("status") != "ACTIVE":
        return {}
    counts = ServiceState(described["desiredCount"], described["runningCount"], described["pendingCount"])
    told = [Event(_seconds(one["createdAt"]), "service", one["message"]) for one in described.get("events", ())]
    return {"service": counts, "told": tuple(told)}


def _stopped(clients: Clients, subject: Subject) -> tuple[Event, ...]:
    wanted: Any = {"cluster": subject.cluster, "serviceName": subject.service, "desiredStatus": "STOPPED"}
    try:
        arns = clients.ecs.list_tasks(**wanted, maxResults=TASKS_SEEN)["taskArns"]
    except (clients.ecs.exceptions.ClusterNotFoundException, clients.ecs.exceptions.ServiceNotFoundException):
        return ()
    tasks: Any = clients.ecs.describe_tasks(cluster=subject.cluster, tasks=arns)["tasks"] if arns else ()
    return tuple(Event(_seconds(task.get("stoppedAt")), str(task.get("stopCode", "")), _reason(task)) for task in tasks)


def _reason(task: Mapping[str, Any]) -> str:
    """Why a task stopped, in ECS's words, with its containers' reasons and exit codes."""
    parts = [str(task.get("stoppedReason", ""))]
    for container in task.get("containers", ()):
        parts.append(str(container.get("reason", "")))
        if container.get("exitCode"):
            parts.append(f"exit code {container['exitCode']}")
    return "; ".join(part for part in parts if part)


def _registered(clients: Clients, name: str) -> int | None:
    found = cluster.describe(clients.ecs, name)
    return None if found is None or found["status"] != "ACTIVE" else int(found["registeredContainerInstancesCount"])


def _joined(clients: Clients, name: str) -> tuple[Joined, ...]:
    arns = clients.ecs.list_container_instances(cluster=name, maxResults=JOINED_SEEN)["containerInstanceArns"]
    if not arns:
        return ()
    found: Any = clients.ecs.describe_container_instances(cluster=name, containerInstances=arns)["containerInstances"]
    return tuple(
        Joined(str(one.get("ec2InstanceId", "")), bool(one.get("agentConnected")), int(one.get("runningTasksCount", 0)))
        for one in found
    )


def _events(clients: Clients, subject: Subject, now: float) -> tuple[Event, ...]:
    return tuple(fleet.bad_news(clients.ec2, str(subject.fleet), subject.start or 0.0, now))


def _machines(clients: Clients, subject: Subject) -> tuple[Machine, ...]:
    """The app's instances since the run's start; ended ones too, which EC2 shows for an hour."""
    filters: Any = [{"Name": "tag:app", "Values": [subject.app]}]
    pages = clients.ec2.get_paginator("describe_instances").paginate(
        Filters=filters,
        PaginationConfig={"PageSize": MACHINES_SEEN, "MaxItems": MACHINES_SEEN},  # a page may be empty
    )
    found: Any = (reservation for page in pages for reservation in page["Reservations"])
    every = (_machine(one) for reservation in found for one in reservation["Instances"])
    return tuple(one for one in every if one.launched >= (subject.start or 0.0))


def _machine(one: Mapping[str, Any]) -> Machine:
    reason = one.get("StateReason", {})
    return Machine(
        id=one["InstanceId"],
        state=one["State"]["Name"],
        launched=_seconds(one.get("LaunchTime")),
        kind=one.get("InstanceType", ""),
        public=bool(one.get("PublicIpAddress")),
        why_ended=f"{reason.get('Code', '')}: {reason.get('Message', '')}" if reason else "",
    )


def _quota(clients: Clients, fleet_id: str) -> SpotQuota | None:
    """The quota of the first type that the fleet asks for; None where it is not known which one it is."""
    found: Any = clients.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
    kinds = sorted(types_of(found[0]["SpotFleetRequestConfig"])) if found else []
    quota = quotas.class_of(kinds[0]) if kinds else None
    if quota is None:
        return None
    same = [kind for kind in kinds if quotas.class_of(kind) == quota][: machines.TYPES_A_CALL]
    sizes = [one.vcpus for one in machines.look_up(clients.ec2, same).values()]
    value = quotas.value(clients.service_quotas, quota)
    return SpotQuota(quota.name, quota.code, value, min(sizes, default=1))


def _logged(clients: Clients, subject: Subject) -> Logged | None:
    """The newest sign of life of the run's machines, and the last lines of the container that wrote last."""
    group = f"{subject.log_group}_perInstance"
    wanted: Any = {"logGroupName": group, "orderBy": "LastEventTime", "descending": True, "limit": STREAMS_SEEN}
    try:
        streams: Any = clients.logs.describe_log_streams(**wanted)["logStreams"]
    except clients.logs.exceptions.ResourceNotFoundException:
        return None
    written = [one for one in streams if "lastEventTimestamp" in one]
    if not written:
        return None
    newest = max(one["lastEventTimestamp"] for one in written) / 1000
    own = [one["logStreamName"] for one in written if one["logStreamName"].startswith(f"{subject.app}/")]
    return Logged(newest, _last_lines(clients, group, own[0]) if own else ())


def _last_lines(clients: Clients, group: str, stream: str) -> tuple[str, ...]:
    events: Any = clients.logs.get_log_events(
        logGroupName=group, logStreamName=stream, limit=LINES_SEEN, startFromHead=False
    )["events"]
    return tuple(str(event["message"]).rstrip() for event in events)


def _paused(clients: Clients, subject: Subject, now: float) -> tuple[Paused, ...]:
    found = pauses.paused(clients.s3, subject.bucket, pauses.prefix_of(subject.app, str(subject.run)), now)
    return tuple(Paused(one["machine"], one["reason"]) for one in found)


def _seconds(at: Any) -> float:
    """A time of AWS's as seconds since 1970; 0 where it is missing."""
    return at.timestamp() if isinstance(at, datetime) else 0.0
