"""The ECS scheduler, played: each service of a region gets its tasks, and each task a worker that really runs.

One callable step, `simulate_step(now)`; the clock stands outside. A rolling update stops the old task before it starts
the new one, so that a full cluster can still be updated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random

from distributed_something.localcloud.emulators.moto_ecs import (
    Task,
    build_query_attributes,
    is_expression_true,
    list_placement_expressions,
)
from distributed_something.localcloud.play.machines import Machine, MachineSimulator
from distributed_something.localcloud.play.placement import (
    FreeCapacity,
    StartThrottle,
    TaskRequirements,
    choose_machine,
    format_placement_failure,
)
from distributed_something.localcloud.play.runners import TaskRunner, TaskStartError, TaskWorker, WorkOrder

log = logging.getLogger(__name__)

DEFAULT_STOP_SECONDS = 30
"""ECS_CONTAINER_STOP_TIMEOUT's default, where a task definition has no stopTimeout."""

SHUTDOWN_SECONDS = 5
"""How long an instance that was terminated lets its containers run; EC2 promises no more."""

KILL_AGAIN_SECONDS = 10
"""A container engine may take its time; asking it at each step would only slow it down."""

STOPPED_TASK_SECONDS = 3600
"""ECS shows a stopped task for an hour at least."""

MAX_EVENTS = 100
"""As many as DescribeServices shows."""

MAX_RUNNING_SHARE = 2
"""A service's `maximumPercent`, unless it is told another: so many times the desired count may run for a while."""

TaskEnvironmentBuilder = Callable[[str, str, str], dict[str, str]]
"""Of a region, a task's id and a machine's: where AWS is, and the addresses that are the task's own."""


@dataclass
class RunningTask:
    """A task and the worker that is its container."""

    task: Task
    service_arn: str
    machine: Machine
    worker: TaskWorker
    needs: TaskRequirements
    stop_seconds: int
    started: float
    kill_at: float | None = None
    protected_until: float = 0.0
    """In seconds since the epoch: until then scale-in and deployments leave it alone."""

    def is_protected(self, now: float) -> bool:
        return now < self.protected_until

    def begin_stop(self, now: float, reason: str, code: str, seconds: float | None = None) -> None:
        """SIGTERM once; a second reason to stop can only shorten the time that is left."""
        deadline = now + (self.stop_seconds if seconds is None else min(seconds, self.stop_seconds))
        if self.task.desired_status == "RUNNING":
            self.task.request_stop(reason, code)
        if self.kill_at is None:
            self.worker.stop(max(1, round(deadline - now)))
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)


class ServiceSimulator:
    """The services of one region's ECS backend."""

    def __init__(self, ecs: Any, machines: MachineSimulator, environment: TaskEnvironmentBuilder) -> None:
        self.ecs = ecs
        self.machines = machines
        self.environment = environment
        self.running: list[RunningTask] = []
        self.stopped: list[tuple[float, Task]] = []
        self.throttles: dict[tuple[str, str], StartThrottle] = {}

    def simulate_step(self, now: float, runner: TaskRunner) -> None:
        """One step: what ended, what must stop, what can start, and the counts that show it."""
        self._collect_ended_tasks(now)
        self._stop_requested_tasks(now)
        for service in list(self.ecs.services.values()):
            self._schedule_service(service, now, runner)
        self._end_interrupted_machines(now)
        self._kill_overdue_tasks(now)
        self._forget_old_tasks(now)
        self._update_counts()

    def interrupt_machine(self, machine: Machine, now: float, notice_seconds: float) -> None:
        """Drains a machine that spot takes away."""
        self.machines.drain_machine(machine, now + notice_seconds)
        for run in self._list_tasks_on(machine):
            reason = f"Host EC2 (instance {machine.instance_id}) is being interrupted."
            run.begin_stop(now, reason, "SpotInterruption", notice_seconds)

    def find_protection_refusal(self, run: RunningTask, now: float) -> str | None:
        """Why ECS would not protect this task from scale-in; None where it would."""
        service = next((service for service in self.ecs.services.values() if service.arn == run.service_arn), None)
        if run.task.desired_status != "RUNNING" or service is None:
            return "TASK_NOT_VALID"
        others = [other for other in self.running if other.service_arn == run.service_arn and other is not run]
        protected = sum(other.is_protected(now) for other in others)
        return "DEPLOYMENT_BLOCKED" if protected > service.desired_count else None

    def kill_workers(self) -> None:
        """Ends every worker, now."""
        for run in self.running:
            run.worker.kill()

    def _list_tasks_on(self, machine: Machine) -> list[RunningTask]:
        return [run for run in self.running if run.machine is machine]

    # what ended

    def _collect_ended_tasks(self, now: float) -> None:
        quick: dict[tuple[str, str], float] = {}
        for run in list(self.running):
            code = run.worker.exit_code()
            if code is None:
                continue
            self.running.remove(run)
            if run.task.desired_status == "RUNNING":
                run.task.request_stop("Essential container in task exited", "EssentialContainerExited")
                key = run.service_arn, run.task.task_definition_arn
                quick[key] = max(quick.get(key, 0), now - run.started)
            run.task.mark_stopped(code)
            self.stopped.append((now, run.task))
        for key, seconds in quick.items():
            self._get_throttle(key).record_end(seconds, now)

    def _get_throttle(self, key: tuple[str, str]) -> StartThrottle:
        return self.throttles.setdefault(key, StartThrottle())

    # what must stop

    def _stop_requested_tasks(self, now: float) -> None:
        """StopTask, and machines that ended."""
        for run in self.running:
            if run.machine.instance_id not in self.machines.joined:
                host = f"Host EC2 (instance {run.machine.instance_id}) terminated."
                run.begin_stop(now, host, "TerminationNotice", SHUTDOWN_SECONDS)
            elif run.task.desired_status == "STOPPED" and run.kill_at is None:
                run.begin_stop(now, run.task.stopped_reason, run.task.stop_code or "UserInitiated")

    def _end_interrupted_machines(self, now: float) -> None:
        for machine in list(self.machines.joined.values()):
            if machine.ends_at is None:
                continue
            left = self._list_tasks_on(machine)
            if not left or now >= machine.ends_at:
                for run in left:
                    run.kill_at = now
                self.machines.terminate_machine(machine)
                machine.ends_at = None

    def _kill_overdue_tasks(self, now: float) -> None:
        for run in self.running:
            if run.kill_at is not None and now >= run.kill_at:
                run.worker.kill()
                run.kill_at = now + KILL_AGAIN_SECONDS

    def _stop_surplus_tasks(self, service: Any, mine: list[RunningTask], now: float) -> list[RunningTask]:
        """Stops tasks of an older revision, of a draining machine, or beyond the wish; returns those that count as
        wanted. A protected task is left alone while the service is there. Of the others the oldest go first: ECS
        promises no order, and this is the worst for a job that is not protected."""
        wanted = service.desired_count if service.status == "ACTIVE" else 0
        usable = {machine.instance_id for machine in self.machines.list_usable_machines()}
        fit = [
            run
            for run in mine
            if run.task.task_definition_arn == service.task_definition and run.machine.instance_id in usable
        ]
        stay = sorted(fit, key=lambda run: (not run.is_protected(now), -run.started))[:wanted]
        safe = [run for run in mine if service.status == "ACTIVE" and run.is_protected(now)]
        stopping = [run for run in mine if run not in stay and run not in safe]
        reason = f"Scaling activity initiated by (deployment {get_deployment_id(service)})"
        for run in stopping:
            run.begin_stop(now, reason, "ServiceSchedulerInitiated")
        if stopping:
            add_service_event(
                service, f"has stopped {len(stopping)} running tasks: {format_task_ids(run.task for run in stopping)}."
            )
        return stay

    # what can start

    def _schedule_service(self, service: Any, now: float, runner: TaskRunner) -> None:
        mine = [run for run in self.running if run.service_arn == service.arn and run.task.desired_status == "RUNNING"]
        stay = self._stop_surplus_tasks(service, mine, now)
        alive = sum(run.task.desired_status == "RUNNING" for run in mine)
        most = service.desired_count * MAX_RUNNING_SHARE - alive
        missing = min(service.desired_count - len(stay), most) if service.status == "ACTIVE" else 0
        if missing <= 0 or not service.task_definition:
            return
        throttle = self._get_throttle((service.arn, service.task_definition))
        if not throttle.is_open(now):
            add_service_event(service, "is unable to consistently start tasks successfully.")
            return
        started = self._start_tasks(service, missing, now, runner)
        if started:
            add_service_event(service, f"has started {len(started)} tasks: {format_task_ids(started)}.")

    def _start_tasks(self, service: Any, missing: int, now: float, runner: TaskRunner) -> list[Task]:
        definition = self.ecs.describe_task_definition(service.task_definition)
        needs = sum_task_requirements(definition)
        started: list[Task] = []
        while len(started) < missing:
            rooms, outside = self._list_free_capacities(service)
            room = choose_machine(needs, rooms)
            if room is None:
                add_service_event(service, format_placement_failure(needs, rooms, outside))
                break
            machine = next(machine for machine in self.machines.list_usable_machines() if machine.arn == room.arn)
            task = Task(self.ecs.clusters[service.cluster_name], definition, service, machine.arn, self.ecs)
            self.ecs.tasks.setdefault(service.cluster_name, {})[task.task_arn] = task
            if not self._start_worker(service, task, definition, machine, now, runner):
                break
            started.append(task)
        return started

    def _start_worker(
        self, service: Any, task: Task, definition: Any, machine: Machine, now: float, runner: TaskRunner
    ) -> bool:
        """Start the worker that is the task's container; False, and a stopped task that says why, if that fails."""
        container = definition.container_definitions[0]
        cloud = self.environment(self.ecs.region_name, task.id, machine.instance_id)
        order = build_work_order(task, container, cloud, machine)
        try:
            worker = runner.start_task(order)
        except TaskStartError as reason:
            log.error("%s: %s", service.name, reason)
            task.request_stop(str(reason), "TaskFailedToStart")
            task.mark_stopped(None, str(reason))
            self.stopped.append((now, task))
            add_service_event(service, f"was unable to start a task: {reason}")
            self._get_throttle((service.arn, definition.arn)).record_end(0, now)
            return False
        seconds = int(container.get("stopTimeout") or DEFAULT_STOP_SECONDS)
        needs = sum_task_requirements(definition)
        self.running.append(RunningTask(task, service.arn, machine, worker, needs, seconds, now))
        return True

    def _list_free_capacities(self, service: Any) -> tuple[list[FreeCapacity], list[FreeCapacity]]:
        """The cluster's machines that the service's placement constraints allow, and the others."""
        wanted = list_placement_expressions(service)
        allowed: list[FreeCapacity] = []
        outside: list[FreeCapacity] = []
        for machine in self.machines.list_usable_machines():
            if machine.cluster == service.cluster_name:
                fits = all(
                    is_expression_true(expression, build_query_attributes(machine.member)) for expression in wanted
                )
                (allowed if fits else outside).append(self._measure_free_capacity(machine))
        return allowed, outside

    def _measure_free_capacity(self, machine: Machine) -> FreeCapacity:
        there = self._list_tasks_on(machine)
        cpu, memory = sum_reserved_resources(there)
        return FreeCapacity(machine.arn, machine.cpu - cpu, machine.memory - memory, len(there))

    # what is shown

    def _forget_old_tasks(self, now: float) -> None:
        """Drops tasks that stopped long ago."""
        while self.stopped and self.stopped[0][0] < now - STOPPED_TASK_SECONDS:
            task = self.stopped.pop(0)[1]
            self.ecs.tasks.get(task.cluster_name, {}).pop(task.task_arn, None)

    def _update_counts(self) -> None:
        for machine in self.machines.joined.values():
            there = self._list_tasks_on(machine)
            cpu, memory = sum_reserved_resources(there)
            self.machines.update_resource_counts(machine, tasks=len(there), cpu=cpu, memory=memory)
        for service in list(self.ecs.services.values()):
            alive = [run for run in self.running if run.service_arn == service.arn]
            update_service_counts(service, sum(run.task.desired_status == "RUNNING" for run in alive))
        for cluster in list(self.ecs.clusters.values()):
            self._update_cluster_counts(cluster)

    def _update_cluster_counts(self, cluster: Any) -> None:
        cluster.running_tasks_count = sum(run.machine.cluster == cluster.name for run in self.running)
        cluster.pending_tasks_count = 0
        cluster.registered_container_instances_count = len(self.ecs.container_instances[cluster.name])
        services = (service for service in self.ecs.services.values() if service.cluster_name == cluster.name)
        cluster.active_services_count = sum(service.status == "ACTIVE" for service in services)


def sum_reserved_resources(runs: Iterable[RunningTask]) -> tuple[int, int]:
    """CPU units and MiB that tasks have reserved."""
    runs = list(runs)
    return sum(run.needs.cpu for run in runs), sum(run.needs.memory for run in runs)


def sum_task_requirements(definition: Any) -> TaskRequirements:
    """The sum over the containers; `memoryReservation` counts before `memory`, as in ECS."""
    containers = definition.container_definitions
    cpu = sum(int(container.get("cpu") or 0) for container in containers)
    memory = sum(int(container.get("memoryReservation") or container.get("memory") or 0) for container in containers)
    return TaskRequirements(int(definition.cpu or cpu), int(definition.memory or memory))


def build_work_order(task: Task, container: dict[str, Any], cloud: dict[str, str], machine: Machine) -> WorkOrder:
    own = {variable["name"]: variable.get("value", "") for variable in container.get("environment") or []}
    linux = container.get("linuxParameters") or {}
    return WorkOrder(
        task_id=task.id,
        image=container["image"],
        environment={**own, **cloud, "INSTANCE_ID": machine.instance_id},
        cpu=int(container.get("cpu") or 0),
        memory=container.get("memory"),
        command=list(container.get("command") or []),
        capabilities=list((linux.get("capabilities") or {}).get("add") or []),
        devices=[build_device_option(device) for device in linux.get("devices") or []],
    )


def build_device_option(described: dict[str, Any]) -> str:
    """As `docker run --device` writes it; ECS's defaults for what is left out."""
    host = described["hostPath"]
    rights = "".join(right[0] for right in described.get("permissions") or ("read", "write", "mknod"))
    return f"{host}:{described.get('containerPath') or host}:{rights}"


def update_service_counts(service: Any, running: int) -> None:
    """Tasks start at once here, so none is ever pending; a task without room is not pending in ECS either."""
    service.running_count, service.pending_count = running, 0
    for deployment in service.deployments[:1]:
        done = running >= service.desired_count
        deployment |= {
            "runningCount": running,
            "pendingCount": 0,
            "desiredCount": service.desired_count,
            "taskDefinition": service.task_definition,
            "rolloutState": "COMPLETED" if done else "IN_PROGRESS",
            "rolloutStateReason": f"ECS deployment {deployment['id']} {'completed' if done else 'in progress'}.",
        }


def get_deployment_id(service: Any) -> str:
    return str(service.deployments[0]["id"]) if service.deployments else "ecs-svc"


def format_task_ids(tasks: Iterable[Task]) -> str:
    return ", ".join(f"(task {task.id})" for task in tasks)


def add_service_event(service: Any, what: str) -> None:
    """A service event, newest first; the newest one is not said again."""
    message = f"(service {service.name}) {what}"
    if service.events and service.events[0]["message"] == message:
        return
    service.events.insert(0, {"id": mock_random.uuid4().hex, "createdAt": utcnow(), "message": message})
    del service.events[MAX_EVENTS:]
