"""Simulates the ECS scheduler: it starts and stops each service's tasks, and runs a worker for each task.

The caller advances the simulation with `simulate_step` and provides the time. A rolling update stops an old task before
it starts the new one, so that a full cluster can still be updated.
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
    get_maximum_percent,
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
from distributed_something.localcloud.play.runners import TaskRunner, TaskStartError, TaskWorker, WorkOrder, explain_end
from distributed_something.localcloud.play.task_logs import NoTaskLogs, TaskLogs

log = logging.getLogger(__name__)

DEFAULT_STOP_SECONDS = 30
"""Stop timeout for task definitions without a stopTimeout, equal to ECS_CONTAINER_STOP_TIMEOUT's default."""

SHUTDOWN_SECONDS = 5
"""How long containers keep running on a terminated instance; EC2 does not guarantee more time than this."""

KILL_AGAIN_SECONDS = 10
"""Seconds between two kill commands for a container; sending one in each step would only slow down the engine."""

STOPPED_TASK_SECONDS = 3600
"""How long a stopped task is listed; ECS lists it for at least an hour."""

MAX_EVENTS = 100
"""Maximum number of events that DescribeServices returns."""

TaskEnvironmentBuilder = Callable[[str, str, str], dict[str, str]]
"""Function that returns a task's environment variables, given its region, task ID, and instance ID."""


@dataclass
class RunningTask:
    """A task and the worker that runs as its container."""

    task: Task
    service_arn: str
    machine: Machine
    worker: TaskWorker
    requirements: TaskRequirements
    stop_seconds: int
    started: float
    kill_at: float | None = None

    def is_protected(self, now: float) -> bool:
        return now < self.task.protected_until

    def begin_stop(self, reason: str, code: str, now: float, seconds: float | None = None) -> None:
        """Send SIGTERM, and set the time of the kill. A second call can only move the kill to an earlier time."""
        deadline = now + (self.stop_seconds if seconds is None else min(seconds, self.stop_seconds))
        if self.task.desired_status == "RUNNING":
            self.task.request_stop(reason, code)
        if self.kill_at is None:
            self.worker.stop(max(1, round(deadline - now)))
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)


class ServiceSimulator:
    """Simulates the services in one region's ECS backend."""

    def __init__(
        self,
        ecs: Any,
        machines: MachineSimulator,
        environment: TaskEnvironmentBuilder,
        task_logs: TaskLogs | None = None,
    ) -> None:
        self.ecs, self.task_logs = ecs, task_logs or NoTaskLogs()
        self.machines = machines
        self.environment = environment
        self.running_tasks: list[RunningTask] = []
        self.stopped_tasks: list[tuple[float, Task]] = []
        self.throttles: dict[tuple[str, str], StartThrottle] = {}

    def simulate_step(self, runner: TaskRunner, now: float) -> None:
        """Advance one step: collect ended tasks, stop and start tasks, and update the counts."""
        self._collect_ended_tasks(now)
        self._stop_requested_tasks(now)
        for service in list(self.ecs.services.values()):
            self._schedule_service(service, runner, now)
        self._end_interrupted_machines(now)
        self._kill_overdue_tasks(now)
        self._forget_old_tasks(now)
        self._update_counts()

    def interrupt_machine(self, machine: Machine, notice_seconds: float, now: float) -> None:
        """Drain a machine that gets a spot interruption, and stop its tasks."""
        self.machines.drain_machine(machine, now + notice_seconds)
        for running_task in self._list_tasks_on(machine):
            reason = f"Host EC2 (instance {machine.instance_id}) is being interrupted."
            running_task.begin_stop(reason, "SpotInterruption", now, notice_seconds)

    def find_protection_refusal(self, running_task: RunningTask, now: float) -> str | None:
        """Return ECS's reason for not protecting a task from scale-in, or None if ECS would protect it.

        It is blocked if more tasks would then be protected than the desired count, even for an extension.
        """
        service_arn = running_task.service_arn
        service = next((service for service in self.ecs.services.values() if service.arn == service_arn), None)
        if running_task.task.desired_status != "RUNNING" or service is None:
            return "TASK_NOT_VALID"
        protected_count = sum(
            other.is_protected(now)
            for other in self.running_tasks
            if other.service_arn == service_arn and other is not running_task
        )
        return "DEPLOYMENT_BLOCKED" if protected_count + 1 > service.desired_count else None

    def kill_workers(self) -> None:
        """Kill all workers."""
        for running_task in self.running_tasks:
            running_task.worker.kill()

    def _list_tasks_on(self, machine: Machine) -> list[RunningTask]:
        return [running_task for running_task in self.running_tasks if running_task.machine is machine]

    # ended tasks

    def _collect_ended_tasks(self, now: float) -> None:
        durations: dict[tuple[str, str], float] = {}
        for running_task in list(self.running_tasks):
            code = running_task.worker.poll_exit_code()
            if code is None:
                continue
            self.running_tasks.remove(running_task)
            if running_task.task.desired_status == "RUNNING":
                running_task.task.request_stop(*explain_end(running_task.worker, code))
                key = running_task.service_arn, running_task.task.task_definition_arn
                durations[key] = max(durations.get(key, 0), now - running_task.started)
                definition = self.ecs.describe_task_definition(running_task.task.task_definition_arn)
                container = definition.container_definitions[0]
                self.task_logs.copy_log(self.ecs.region_name, container, running_task.task.id)
            running_task.task.mark_stopped(code)
            self.stopped_tasks.append((now, running_task.task))
        for key, seconds in durations.items():
            self._get_throttle(key).record_end(seconds, now)

    def _get_throttle(self, key: tuple[str, str]) -> StartThrottle:
        return self.throttles.setdefault(key, StartThrottle())

    # stopping tasks

    def _stop_requested_tasks(self, now: float) -> None:
        """Stop tasks on terminated machines and tasks for which StopTask was called."""
        for running_task in self.running_tasks:
            task, instance_id = running_task.task, running_task.machine.instance_id
            if instance_id not in self.machines.joined:
                reason = f"Host EC2 (instance {instance_id}) terminated."
                running_task.begin_stop(reason, "TerminationNotice", now, SHUTDOWN_SECONDS)
            elif task.desired_status == "STOPPED" and running_task.kill_at is None:
                running_task.begin_stop(task.stopped_reason, task.stop_code or "UserInitiated", now)

    def _end_interrupted_machines(self, now: float) -> None:
        for machine in list(self.machines.joined.values()):
            if machine.ends_at is None:
                continue
            remaining = self._list_tasks_on(machine)
            if not remaining or now >= machine.ends_at:
                for running_task in remaining:
                    running_task.kill_at = now
                self.machines.terminate_machine(machine)
                machine.ends_at = None

    def _kill_overdue_tasks(self, now: float) -> None:
        for running_task in self.running_tasks:
            if running_task.kill_at is not None and now >= running_task.kill_at:
                running_task.worker.kill()
                running_task.kill_at = now + KILL_AGAIN_SECONDS

    def _stop_surplus_tasks(self, service: Any, tasks: list[RunningTask], now: float) -> list[RunningTask]:
        """Stop a service's surplus tasks and return those that count toward its desired count.

        Tasks are surplus if they belong to an earlier deployment, run on a draining machine, or exceed the desired
        count. Protected tasks are not stopped while the service is active. Excess tasks are stopped oldest first.
        ECS does not guarantee any order, and this one is the hardest on unprotected jobs.
        """
        desired_count = service.desired_count if service.status == "ACTIVE" else 0
        usable_ids = {machine.instance_id for machine in self.machines.list_usable_machines()}
        eligible = [
            task
            for task in tasks
            if task.task.started_by == get_deployment_id(service) and task.machine.instance_id in usable_ids
        ]
        counted = sorted(eligible, key=lambda task: (not task.is_protected(now), -task.started))[:desired_count]
        protected = [task for task in tasks if service.status == "ACTIVE" and task.is_protected(now)]
        surplus = [task for task in tasks if task not in counted and task not in protected]
        reason = f"Scaling activity initiated by (deployment {get_deployment_id(service)})"
        for running_task in surplus:
            running_task.begin_stop(reason, "ServiceSchedulerInitiated", now)
        if surplus:
            task_ids = format_task_ids(running_task.task for running_task in surplus)
            add_service_event(service, f"has stopped {len(surplus)} running tasks: {task_ids}.")
        return counted

    # starting tasks

    def _list_running_tasks(self, service: Any) -> list[RunningTask]:
        return [
            running_task
            for running_task in self.running_tasks
            if running_task.service_arn == service.arn and running_task.task.desired_status == "RUNNING"
        ]

    def _schedule_service(self, service: Any, runner: TaskRunner, now: float) -> None:
        counted = self._stop_surplus_tasks(service, self._list_running_tasks(service), now)
        max_running = service.desired_count * get_maximum_percent(service) // 100
        max_starts = max_running - len(self._list_running_tasks(service))
        missing = min(service.desired_count - len(counted), max_starts) if service.status == "ACTIVE" else 0
        if missing <= 0 or not service.task_definition:
            return
        throttle = self._get_throttle((service.arn, service.task_definition))
        if not throttle.is_open(now):
            add_service_event(service, "is unable to consistently start tasks successfully.")
            return
        started = self._start_tasks(service, missing, runner, now)
        if started:
            add_service_event(service, f"has started {len(started)} tasks: {format_task_ids(started)}.")

    def _start_tasks(self, service: Any, missing: int, runner: TaskRunner, now: float) -> list[Task]:
        definition = self.ecs.describe_task_definition(service.task_definition)
        requirements = sum_task_requirements(definition)
        started: list[Task] = []
        while len(started) < missing:
            capacities, excluded_capacities = self._list_free_capacities(service)
            chosen = choose_machine(requirements, capacities)
            if chosen is None:
                add_service_event(service, format_placement_failure(requirements, capacities, excluded_capacities))
                break
            machine = next(machine for machine in self.machines.list_usable_machines() if machine.arn == chosen.arn)
            task = Task(self.ecs.clusters[service.cluster_name], definition, service, machine.arn, self.ecs)
            self.ecs.tasks.setdefault(service.cluster_name, {})[task.task_arn] = task
            if not self._start_worker(service, task, definition, machine, runner, now):
                break
            started.append(task)
        return started

    def _start_worker(
        self, service: Any, task: Task, definition: Any, machine: Machine, runner: TaskRunner, now: float
    ) -> bool:
        """Start a task's worker. If that fails, mark the task as stopped with the reason, and return False."""
        container = definition.container_definitions[0]
        endpoint_variables = self.environment(self.ecs.region_name, task.id, machine.instance_id)
        order = build_work_order(task, container, endpoint_variables, machine)
        try:
            self.task_logs.open_stream(self.ecs.region_name, container, task.id)
            worker = runner.start_task(order)
        except TaskStartError as error:
            log.error("%s: %s", service.name, error)
            task.request_stop(str(error), "TaskFailedToStart")
            task.mark_stopped(None, str(error))
            self.stopped_tasks.append((now, task))
            add_service_event(service, f"was unable to start a task: {error}")
            self._get_throttle((service.arn, definition.arn)).record_end(0, now)
            return False
        seconds = int(container.get("stopTimeout") or DEFAULT_STOP_SECONDS)
        requirements = sum_task_requirements(definition)
        self.running_tasks.append(RunningTask(task, service.arn, machine, worker, requirements, seconds, now))
        return True

    def _list_free_capacities(self, service: Any) -> tuple[list[FreeCapacity], list[FreeCapacity]]:
        """Return the machines' free capacities: first those that the placement constraints allow, then the others."""
        expressions = list_placement_expressions(service)
        allowed: list[FreeCapacity] = []
        excluded: list[FreeCapacity] = []
        for machine in self.machines.list_usable_machines():
            if machine.cluster == service.cluster_name:
                attributes = build_query_attributes(machine.member)
                is_allowed = all(is_expression_true(expression, attributes) for expression in expressions)
                (allowed if is_allowed else excluded).append(self._measure_free_capacity(machine))
        return allowed, excluded

    def _measure_free_capacity(self, machine: Machine) -> FreeCapacity:
        tasks = self._list_tasks_on(machine)
        cpu, memory = sum_reserved_resources(tasks)
        return FreeCapacity(machine.arn, machine.cpu - cpu, machine.memory - memory, len(tasks))

    # updating what moto's API shows

    def _forget_old_tasks(self, now: float) -> None:
        while self.stopped_tasks and self.stopped_tasks[0][0] < now - STOPPED_TASK_SECONDS:
            task = self.stopped_tasks.pop(0)[1]
            self.ecs.tasks.get(task.cluster_name, {}).pop(task.task_arn, None)

    def _update_counts(self) -> None:
        for machine in self.machines.joined.values():
            tasks = self._list_tasks_on(machine)
            cpu, memory = sum_reserved_resources(tasks)
            self.machines.update_resource_counts(machine, tasks=len(tasks), cpu=cpu, memory=memory)
        for service in list(self.ecs.services.values()):
            update_service_counts(service, len(self._list_running_tasks(service)))
        for cluster in list(self.ecs.clusters.values()):
            self._update_cluster_counts(cluster)

    def _update_cluster_counts(self, cluster: Any) -> None:
        cluster.running_tasks_count = sum(task.machine.cluster == cluster.name for task in self.running_tasks)
        cluster.pending_tasks_count = 0
        cluster.registered_container_instances_count = len(self.ecs.container_instances[cluster.name])
        services = (service for service in self.ecs.services.values() if service.cluster_name == cluster.name)
        cluster.active_services_count = sum(service.status == "ACTIVE" for service in services)


def sum_reserved_resources(tasks: list[RunningTask]) -> tuple[int, int]:
    """Return the CPU units and the memory (in MiB) that tasks have reserved."""
    return sum(task.requirements.cpu for task in tasks), sum(task.requirements.memory for task in tasks)


def sum_task_requirements(definition: Any) -> TaskRequirements:
    """Return the sum of all containers' requirements. As in ECS, `memoryReservation` takes precedence over `memory`."""
    containers = definition.container_definitions
    cpu = sum(int(container.get("cpu") or 0) for container in containers)
    memory = sum(int(container.get("memoryReservation") or container.get("memory") or 0) for container in containers)
    return TaskRequirements(int(definition.cpu or cpu), int(definition.memory or memory))


def build_work_order(
    task: Task, container: dict[str, Any], endpoint_variables: dict[str, str], machine: Machine
) -> WorkOrder:
    """Return the work order for a task's container definition. `endpoint_variables` override its variables."""
    variables = {variable["name"]: variable.get("value", "") for variable in container.get("environment") or []}
    linux = container.get("linuxParameters") or {}
    return WorkOrder(
        task_id=task.id,
        image=container["image"],
        environment={**variables, **endpoint_variables, "INSTANCE_ID": machine.instance_id},
        cpu=int(container.get("cpu") or 0),
        memory=container.get("memory"),
        command=list(container.get("command") or []),
        capabilities=list((linux.get("capabilities") or {}).get("add") or []),
        devices=[build_device_option(device) for device in linux.get("devices") or []],
    )


def build_device_option(device: dict[str, Any]) -> str:
    """Return the value for `docker run --device`, with ECS's defaults for missing keys."""
    host = device["hostPath"]
    letters = "".join(permission[0] for permission in device.get("permissions") or ("read", "write", "mknod"))
    return f"{host}:{device.get('containerPath') or host}:{letters}"


def update_service_counts(service: Any, running: int) -> None:
    """Set the counts of a service and of its first deployment.

    No task is ever pending, because tasks start immediately here. In ECS too, a task that does not fit on any machine
    is not pending.
    """
    service.running_count, service.pending_count = running, 0
    for deployment in service.deployments[:1]:
        is_completed = running >= service.desired_count
        state = "completed" if is_completed else "in progress"
        deployment |= {
            "runningCount": running,
            "pendingCount": 0,
            "desiredCount": service.desired_count,
            "taskDefinition": service.task_definition,
            "rolloutState": "COMPLETED" if is_completed else "IN_PROGRESS",
            "rolloutStateReason": f"ECS deployment {deployment['id']} {state}.",
        }


def get_deployment_id(service: Any) -> str:
    return str(service.deployments[0]["id"]) if service.deployments else "ecs-svc"


def format_task_ids(tasks: Iterable[Task]) -> str:
    return ", ".join(f"(task {task.id})" for task in tasks)


def add_service_event(service: Any, text: str) -> None:
    """Insert an event at the beginning of a service's events, unless it repeats the newest one."""
    message = f"(service {service.name}) {text}"
    if service.events and service.events[0]["message"] == message:
        return
    service.events.insert(0, {"id": mock_random.uuid4().hex, "createdAt": utcnow(), "message": message})
    del service.events[MAX_EVENTS:]
