"""What can be seen of a run from outside: one look at each place where it may be stuck. Nothing here judges.

A fixed number of calls (about twenty-five) however large the run is: of machines, tasks and pauses the first hundred,
hundred and five are looked at. What AWS refuses to tell is noted, and the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import FleetState, find_active_fleet, list_launch_errors, observe_fleet
from distributed_something.aws.ecs import describe_cluster, describe_service
from distributed_something.aws.instance_types import (
    MACHINE_TYPES_PER_CALL,
    find_quota_class,
    list_machine_types,
    read_quota_value,
)
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
from distributed_something.observe.containers import LogTail, PausedMachine, find_log_tail, list_paused_machines
from distributed_something.observe.machines import (
    ObservedMachine,
    iter_instances,
    list_container_instances,
    parse_machine,
)
from distributed_something.observe.queue import QueueCounts, QueueState, count_jobs, observe_queue
from distributed_something.observe.service import (
    ServiceState,
    StoppedTask,
    list_stopped_tasks,
    parse_service_events,
    parse_service_state,
)
from distributed_something.worker import RunKeys, is_run_closed

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


MAX_RUN_MACHINES = 1000  # EC2: instances of one DescribeInstances call
MAX_CLUSTER_MACHINES = 100  # ECS: of one Describe call


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
class Evidence:
    """One look. A part that could not be looked at is in `unseen` (part: why), and has its default here. `closed`: the
    monitor has told the workers that the run has cost what it may."""

    at: float
    subject: DiagnosisSubject
    counts: QueueCounts | None = None
    dead: int = 0
    fleet: FleetState | None = None
    events: tuple[AWSEvent, ...] = ()
    machines: tuple[ObservedMachine, ...] = ()
    registered: int | None = None
    joined: tuple[ClusterMachine, ...] = ()
    service: ServiceState | None = None
    told: tuple[AWSEvent, ...] = ()
    stopped: tuple[StoppedTask, ...] = ()
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
    """Look everywhere once. Raises CloudError only where AWS does not know who asks."""
    looks = _Looks({"fleet": subject.unfound} if subject.unfound else {})
    queue: QueueState | None = looks.take("counts", lambda: observe_queue(clients.sqs, subject.queue))
    if looks.has_seen("counts"):
        looks.take("dead", lambda: count_jobs(clients.sqs, queue.dead_letter_queue) if queue else 0)
    service = looks.take("service", lambda: describe_service(clients.ecs, subject.cluster, subject.service))
    looks.take("stopped", lambda: list_stopped_tasks(clients.ecs, subject.cluster, subject.service))
    registered = looks.take("registered", lambda: _count_registered_instances(clients, subject.cluster))
    looks.take("joined", lambda: _list_cluster_machines(clients, subject.cluster) if registered else ())
    looks.take("logged", lambda: find_log_tail(clients.logs, subject.log_group, subject.app))
    if subject.fleet:
        _look_at_fleet(clients, subject, subject.fleet, now, looks)
    seen = looks.seen | {"counts": queue.counts if queue else None}
    seen |= {"service": parse_service_state(service), "told": parse_service_events(service)}
    return Evidence(now, subject, **seen, unseen=looks.unseen)


class _Looks:
    """What each look saw, by its part of the evidence, and why the others saw nothing."""

    def __init__(self, unseen: dict[str, str]) -> None:
        self.seen: dict[str, Any] = {}
        self.unseen = unseen

    def take(self, part: str, look: Callable[[], Any]) -> Any:
        """Return what `look` returns; None where AWS refuses. Raises CloudError where AWS does not know who asks."""
        try:
            self.seen[part] = look()
        except AWSError as error:
            if is_login_error(error):
                raise explain_aws_error("looking at the run", error) from error
            self.unseen[part] = format_lookup_error(error)
        return self.seen.get(part)

    def has_seen(self, part: str) -> bool:
        return part in self.seen


def _look_at_fleet(clients: Clients, subject: DiagnosisSubject, fleet_id: str, now: float, looks: _Looks) -> None:
    ec2, start, keys = clients.ec2, subject.start or 0.0, RunKeys(subject.app, str(subject.run))
    fleet = looks.take("fleet", lambda: observe_fleet(ec2, fleet_id))
    lacks_machines = fleet is not None and fleet.lacks_machines
    looks.take("events", lambda: tuple(list_launch_errors(ec2, fleet_id, start, now)))
    looks.take("machines", lambda: _list_run_machines(clients, subject.app, start))
    looks.take("quota", lambda: _find_spot_quota(clients, fleet_id) if lacks_machines else None)
    looks.take("paused", lambda: list_paused_machines(clients.s3, subject.bucket, keys, now))
    looks.take("closed", lambda: is_run_closed(clients.s3, subject.bucket, keys))


def _count_registered_instances(clients: Clients, name: str) -> int | None:
    described = describe_cluster(clients.ecs, name)
    if described is None or described["status"] != "ACTIVE":
        return None
    return int(described["registeredContainerInstancesCount"])


def _list_cluster_machines(clients: Clients, name: str) -> tuple[ClusterMachine, ...]:
    instances = list_container_instances(clients.ecs, name, MAX_CLUSTER_MACHINES)
    return tuple(ClusterMachine(instance.instance, instance.connected, instance.tasks) for instance in instances)


def _list_run_machines(clients: Clients, app: str, start: float) -> tuple[ObservedMachine, ...]:
    """The app's instances since the run's start; ended ones too, which EC2 shows for an hour."""
    instances = iter_instances(clients.ec2, [{"Name": "tag:app", "Values": [app]}], MAX_RUN_MACHINES)
    machines = map(parse_machine, instances)
    return tuple(machine for machine in machines if machine.launched >= start)


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
