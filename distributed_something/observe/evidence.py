"""Evidence for `why`: one observation of every part of a run that may be stuck. Nothing here evaluates the evidence.

The number of calls is fixed (about 25), however large the run is: at most 1,000 of the run's machines, 100 of the
cluster's machines, 100 stopped tasks, and 5 pauses are read. A failed lookup is recorded and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import (
    FleetState,
    describe_fleet,
    find_active_fleet,
    list_launch_errors,
    observe_fleet,
)
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
    explain_lookup_error,
    is_foreign_response,
    is_login_error,
    is_settings_error,
)
from distributed_something.core.monitor_file import MonitorFile, build_run_name
from distributed_something.fleet.launch_specs import list_requested_types
from distributed_something.observe.containers import (
    LogTail,
    PausedMachine,
    find_log_tail,
    list_paused_machines,
    read_failed_task_lines,
    select_failed_tasks,
)
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


MAX_RUN_MACHINES = 1000  # EC2 limit for one DescribeInstances call
MAX_CLUSTER_MACHINES = 100  # ECS limit for one DescribeContainerInstances call


@dataclass(frozen=True)
class DiagnosisSubject:
    """The app and the run to diagnose.

    `fleet` and `start` (seconds since 1970) are None if no run is active, or if the fleets could not be looked up,
    in which case `fleet_error` contains the reason. `assigns_addresses`: whether the config gives machines a public
    address (ASSIGN_IP).
    """

    app: str
    cluster: str
    service: str
    queue: str
    bucket: str
    log_group: str
    fleet: str | None = None
    start: float | None = None
    run: str | None = None
    fleet_error: str = ""
    assigns_addresses: bool = False


@dataclass(frozen=True)
class ClusterMachine:
    """A machine that has joined the cluster. `is_connected`: whether its ECS agent is connected."""

    id: str
    is_connected: bool
    tasks: int


@dataclass(frozen=True)
class SpotQuota:
    """The account's quota, in virtual CPUs, and the virtual CPUs of the smallest requested machine type."""

    name: str
    code: str
    value: float
    smallest_vcpus: int


@dataclass(frozen=True)
class Evidence:
    """One observation of a run.

    An attribute that could not be looked up has its default value, and `lookup_errors` contains the reason, keyed by
    the attribute's name. `dead_letters`: messages in the dead-letter queue, which may come from other apps and earlier
    runs; no cause depends on them. `is_closed`: whether the run has reached its cost limit, which stops the workers
    from starting more jobs. `crash_lines`: the last lines of the newest container that failed and printed any.
    """

    at: float
    subject: DiagnosisSubject
    counts: QueueCounts | None = None
    dead_letters: int = 0
    fleet: FleetState | None = None
    fleet_events: tuple[AWSEvent, ...] = ()
    machines: tuple[ObservedMachine, ...] = ()
    registered_count: int | None = None
    cluster_machines: tuple[ClusterMachine, ...] = ()
    service: ServiceState | None = None
    service_events: tuple[AWSEvent, ...] = ()
    stopped_tasks: tuple[StoppedTask, ...] = ()
    quota: SpotQuota | None = None
    log_tail: LogTail | None = None
    paused_machines: tuple[PausedMachine, ...] = ()
    is_closed: bool = False
    crash_lines: tuple[str, ...] = ()
    lookup_errors: Mapping[str, str] = field(default_factory=dict)

    def has_observed(self, part: str) -> bool:
        """Return whether the attribute `part` was looked up without an error."""
        return part not in self.lookup_errors

    @property
    def has_pauses(self) -> bool:
        """Whether machines pause because jobs failed in a row."""
        return any(paused.since is not None for paused in self.paused_machines)


def build_subject_from_run(monitor_file: MonitorFile, *, assigns_addresses: bool = False) -> DiagnosisSubject:
    """Return the run that a monitor file describes. `assigns_addresses`: as in `DiagnosisSubject`."""
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
        assigns_addresses=assigns_addresses,
    )


def build_subject_from_config(settings: Settings) -> DiagnosisSubject:
    """Return the app that a config describes, without a run."""
    return DiagnosisSubject(
        app=settings.APP_NAME,
        cluster=settings.ECS_CLUSTER,
        service=settings.names.service,
        queue=settings.SQS_QUEUE_NAME,
        bucket=settings.AWS_BUCKET,
        log_group=settings.LOG_GROUP_NAME,
        assigns_addresses=settings.ASSIGN_IP,
    )


def observe_active_subject(clients: Clients, settings: Settings) -> DiagnosisSubject:
    """Return the app's active run, found by its fleet's tag.

    If there is no active fleet, or if the fleets cannot be looked up, returns the app without a run.
    """
    subject = build_subject_from_config(settings)
    try:
        fleet = find_active_fleet(clients.ec2, settings.APP_NAME)
    except CloudError as error:
        return replace(subject, fleet_error=explain_lookup_error(error.__cause__ or error))
    if fleet is None:
        return subject
    return replace(subject, fleet=fleet.id, start=fleet.start, run=build_run_name(fleet.start))


def gather_evidence(clients: Clients, subject: DiagnosisSubject, now: float) -> Evidence:
    """Return one observation of the run. Raise CloudError only if no lookup can succeed."""
    collector = _EvidenceCollector({"fleet": subject.fleet_error} if subject.fleet_error else {})
    queue: QueueState | None = collector.look_up("counts", lambda: observe_queue(clients.sqs, subject.queue))
    if collector.has_observed("counts"):
        collector.look_up("dead_letters", lambda: count_jobs(clients.sqs, queue.dead_letter_queue) if queue else 0)
    service = collector.look_up("service", lambda: describe_service(clients.ecs, subject.cluster, subject.service))
    stopped = collector.look_up(
        "stopped_tasks", lambda: list_stopped_tasks(clients.ecs, subject.cluster, subject.service)
    )
    if failed := select_failed_tasks(stopped or (), subject.start or 0.0):
        read = partial(read_failed_task_lines, clients.logs, subject.log_group, subject.app, failed)
        collector.look_up("crash_lines", read)
    registered_count = collector.look_up(
        "registered_count", lambda: _count_registered_instances(clients, subject.cluster)
    )
    collector.look_up(
        "cluster_machines", lambda: _list_cluster_machines(clients, subject.cluster) if registered_count else ()
    )
    collector.look_up("log_tail", lambda: find_log_tail(clients.logs, subject.log_group, subject.app))
    if subject.fleet:
        _look_up_fleet(clients, subject, subject.fleet, collector, now)
    parts = collector.parts | {
        "counts": queue.counts if queue else None,
        "service": parse_service_state(service),
        "service_events": parse_service_events(service),
    }
    return Evidence(now, subject, **parts, lookup_errors=collector.lookup_errors)


class _EvidenceCollector:
    """Collects the attributes of `Evidence` and the errors of lookups that failed."""

    def __init__(self, lookup_errors: dict[str, str]) -> None:
        self.parts: dict[str, Any] = {}
        self.lookup_errors = lookup_errors

    def look_up(self, part: str, call: Callable[[], Any]) -> Any:
        """Return the result of `call`; None after an AWS error. Raise CloudError if no other lookup can succeed."""
        try:
            self.parts[part] = call()
        except AWSError as error:
            has_no_response = is_foreign_response(error) or (
                is_settings_error(error) and not isinstance(error, ClientError)
            )
            if is_login_error(error) or has_no_response:  # every other lookup would fail too
                raise explain_aws_error("looking at the run", error) from error
            self.lookup_errors[part] = explain_lookup_error(error)
        return self.parts.get(part)

    def has_observed(self, part: str) -> bool:
        return part in self.parts


def _look_up_fleet(
    clients: Clients, subject: DiagnosisSubject, fleet_id: str, collector: _EvidenceCollector, now: float
) -> None:
    ec2, start, keys = clients.ec2, subject.start or 0.0, RunKeys(subject.app, str(subject.run))
    fleet = collector.look_up("fleet", lambda: observe_fleet(ec2, fleet_id))
    has_missing_machines = fleet is not None and fleet.has_missing_machines
    collector.look_up("fleet_events", lambda: tuple(list_launch_errors(ec2, fleet_id, start, now)))
    collector.look_up("machines", lambda: _list_run_machines(clients, subject.app, start))
    collector.look_up("quota", lambda: _find_spot_quota(clients, fleet_id) if has_missing_machines else None)
    collector.look_up("paused_machines", lambda: list_paused_machines(clients.s3, subject.bucket, keys, now))
    collector.look_up("is_closed", lambda: is_run_closed(clients.s3, subject.bucket, keys))


def _count_registered_instances(clients: Clients, name: str) -> int | None:
    described = describe_cluster(clients.ecs, name)
    if described is None or described["status"] != "ACTIVE":
        return None
    return int(described["registeredContainerInstancesCount"])


def _list_cluster_machines(clients: Clients, name: str) -> tuple[ClusterMachine, ...]:
    instances = list_container_instances(clients.ecs, name, MAX_CLUSTER_MACHINES)
    return tuple(ClusterMachine(instance.instance, instance.is_connected, instance.tasks) for instance in instances)


def _list_run_machines(clients: Clients, app: str, start: float) -> tuple[ObservedMachine, ...]:
    """Return the app's instances launched since `start`, including terminated ones, which EC2 lists for an hour."""
    instances = iter_instances(clients.ec2, [{"Name": "tag:app", "Values": [app]}], MAX_RUN_MACHINES)
    machines = map(parse_machine, instances)
    return tuple(machine for machine in machines if machine.launch_time >= int(start))  # EC2's times have no fractions


def _find_spot_quota(clients: Clients, fleet_id: str) -> SpotQuota | None:
    """Return the quota for the fleet's first machine type; None if the type's quota class is unknown."""
    fleet = describe_fleet(clients.ec2, fleet_id)
    type_names = sorted(list_requested_types(fleet["SpotFleetRequestConfig"])) if fleet else []
    quota = find_quota_class(type_names[0]) if type_names else None
    if quota is None:
        return None
    class_types = [name for name in type_names if find_quota_class(name) == quota][:MACHINE_TYPES_PER_CALL]
    sizes = [machine_type.vcpus for machine_type in list_machine_types(clients.ec2, class_types).values()]
    value = read_quota_value(clients.service_quotas, quota)
    return SpotQuota(quota.name, quota.code, value, min(sizes, default=1))
