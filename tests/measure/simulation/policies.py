"""The two monitors that the simulation compares: this project's monitor, which runs its real code, and the published
system's monitor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil

import simpy

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import (
    CONTAINER_INSTANCES_PER_CALL,
    INSTANCES_PER_FILTER,
    ContainerInstance,
)
from distributed_something.observe.service import TASKS_PER_CALL
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.actions import DRAINED_MACHINES_PER_CALL, TERMINATED_MACHINES_PER_CALL
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.policy import (
    EndReason,
    FleetTargetChange,
    IdleMachineTermination,
    MonitorAction,
    Pace,
    RunClosure,
    TaskCountChange,
    UnusableMachineTermination,
    choose_actions,
    has_surplus_containers,
    is_protection_relevant,
)
from distributed_something.run.monitor.unusable import add_terminations
from tests.measure.simulation.assumptions import PRICE
from tests.measure.simulation.bucket import TokenBucket
from tests.measure.simulation.clock import Process
from tests.measure.simulation.cloud import ACTIVE, TERMINATED, Cloud

# API calls per observation: 2 for the queue, 1 for the submissions, 1 for the list of journals, 1 for the fleet, 1 for
# the service, 1 for pauses, and 2 for the history. The number is rounded up, because prices and machine events are read
# occasionally. Reads of journals are not included.
CALLS_PER_OBSERVATION = 12
INSTANCES_PER_CALL = 1000  # EC2: maximum per DescribeSpotFleetInstances call
CALLS_PER_HUNDRED_TASKS = 2  # ECS: one call lists the service's tasks, and one looks up their protection
CALLS_PER_FILTER = 1  # ECS: machines that have not joined match no filter, so there is nothing to describe
CALLS_PER_HUNDRED_MACHINES = 2  # ECS: one call lists machines without a task, and one describes them

PUBLISHED_INTERVAL = 60.0
PUBLISHED_SCALING_INTERVAL = 600.0
ALARM_SECONDS = 900.0  # the alarm ends a machine whose CPU use stays below 1% for this long
ALARM_INTERVAL = 60.0  # period of the alarm


@dataclass
class Monitor:
    """The base class of both monitors. `calls`: the number of API calls so far."""

    cloud: Cloud
    calls: int = field(default=0, init=False)

    def watch_run(self) -> Process:
        """Observe and scale the run until it ends."""
        raise NotImplementedError

    def _make_calls(self, count: int) -> simpy.Event:
        """Count API calls and wait for as long as they take."""
        self.calls += count
        return self.cloud.env.timeout(count * self.cloud.assumptions.call)


@dataclass
class CurrentMonitor(Monitor):
    """The `monitor` command, which observes the model and uses the real `choose_actions` and `update_history` to
    decide.

    `is_cheapest`: whether cheapest mode is on. `sees_protection`: whether it knows how many containers are protected;
    otherwise, it behaves as it did before it could look that up, as if none were. `max_cost`: MAX_COST in USD, or 0.
    `on_decision`: called with each observation and the actions chosen for it. The run starts at time 0.
    """

    pace: Pace = field(default_factory=Pace)
    is_cheapest: bool = False
    sees_protection: bool = True
    max_cost: float = 0.0
    on_decision: Callable[[RunSnapshot, list[MonitorAction]], None] | None = None
    _terminations: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        assumptions = self.cloud.assumptions
        self._terminations = TokenBucket(assumptions.termination_burst, assumptions.terminations_per_second)

    def watch_run(self) -> Process:
        file, history = self._build_monitor_file(), RunHistory(at=0.0)
        while True:
            snapshot = self._add_details(self._observe_run(), history, file)
            yield self._make_calls(
                CALLS_PER_OBSERVATION
                + ceil(len(self.cloud.machines) / INSTANCES_PER_CALL)
                + CALLS_PER_HUNDRED_MACHINES * max(1, ceil(len(snapshot.idle_instances) / CONTAINER_INSTANCES_PER_CALL))
            )
            history = update_history(history, snapshot, self.pace.settling_seconds)
            actions = choose_actions(snapshot, history, file, cheapest=self.is_cheapest, pace=self.pace)
            if self.on_decision is not None:
                self.on_decision(snapshot, actions)
            if any(isinstance(action, EndReason) for action in actions):
                return
            for action in actions:
                if isinstance(action, UnusableMachineTermination):
                    history = add_terminations(history, snapshot, action.machines)
                history = replace(history, closed=history.closed or action == RunClosure())
                yield from self._apply_action(action)
            yield self.cloud.env.timeout(
                self.pace.short_interval_seconds
                if has_surplus_containers(snapshot, file)
                else self.pace.interval_seconds
            )

    def _build_monitor_file(self) -> MonitorFile:
        cloud = self.cloud
        return MonitorFile(
            "sfr-1", "App", "cluster", "AppQueue", "bucket", "Logs", 0,
            MONITOR_MACHINES=cloud.target, MONITOR_TASKS_PER_MACHINE=cloud.tasks_per_machine,
            MONITOR_JOBS_PER_TASK=cloud.jobs_per_task, MONITOR_MAX_COST=self.max_cost,
        )  # fmt: skip

    def _observe_run(self) -> RunSnapshot:
        cloud = self.cloud
        return RunSnapshot(
            at=cloud.env.now,
            queue=cloud.queue.read_counts(),
            totals=cloud.count_totals(),
            submitted=len(cloud.progress.lengths),
            fleet=cloud.get_fleet_state(),
            service=cloud.get_service_state(),
            idle_instances=cloud.list_empty_instances(),
            hourly=PRICE * len(cloud.machines),
        )

    def _add_details(self, snapshot: RunSnapshot, history: RunHistory, file: MonitorFile) -> RunSnapshot:
        """Return the snapshot with what `run_tick` also observes if it can change a decision; count the calls."""
        cloud = self.cloud
        if not self.sees_protection:
            snapshot = replace(snapshot, protected=0)
        elif is_protection_relevant(snapshot, history, file):
            assert snapshot.service is not None
            self.calls += CALLS_PER_HUNDRED_TASKS * ceil(snapshot.service.running / TASKS_PER_CALL)
            snapshot = replace(snapshot, protected=len(cloud.protection))
        if snapshot.at < self.pace.first_container_seconds:
            return snapshot
        absent = cloud.list_absent_machines()
        self.calls += 1 + CALLS_PER_FILTER * ceil(len(absent) / INSTANCES_PER_FILTER)
        return replace(snapshot, unusable=absent)

    def _apply_action(self, action: MonitorAction) -> Process:
        cloud = self.cloud
        match action:
            case FleetTargetChange(machines):
                yield self._make_calls(2)
                cloud.target = machines
            case TaskCountChange(tasks):
                yield self._make_calls(1)
                cloud.desired_tasks = tasks
            case RunClosure():
                cloud.close_run()
            case UnusableMachineTermination(unusable):
                yield self._make_calls(ceil(len(unusable) / TERMINATED_MACHINES_PER_CALL))
                for each in unusable:
                    if each.instance in cloud.machines:
                        cloud.end_machine(cloud.machines[each.instance])
            case IdleMachineTermination(instances):
                for first in range(0, len(instances), CONTAINER_INSTANCES_PER_CALL):
                    yield from self._end_idle_machines(instances[first : first + CONTAINER_INSTANCES_PER_CALL])

    def _end_idle_machines(self, instances: tuple[ContainerInstance, ...]) -> Process:
        """Drain and terminate machines as `run/monitor/actions.py` does, and retry throttled calls."""
        cloud = self.cloud
        undrained = sum(not instance.is_draining for instance in instances)
        yield self._make_calls(ceil(undrained / DRAINED_MACHINES_PER_CALL) + 1)
        empty_machines = cloud.drain_machines(instance.instance for instance in instances)
        yield cloud.env.timeout(self._terminations.take_tokens(len(empty_machines), cloud.env.now))
        yield self._make_calls(1)
        for machine in empty_machines:
            if machine.state != TERMINATED:
                cloud.end_machine(machine)


@dataclass
class PublishedMonitor(Monitor):
    """The published system's monitor.

    It observes the run once a minute and ends it as soon as a count is zero. Every ten minutes, it lowers the target to
    the number of messages if there are more machines than messages. Independently, an alarm ends each idle machine.
    """

    def watch_run(self) -> Process:
        cloud = self.cloud
        cloud.env.process(self._end_idle_machines())
        self.calls += cloud.target  # one PutMetricAlarm call per machine
        next_scaling = PUBLISHED_SCALING_INTERVAL
        yield cloud.env.timeout(PUBLISHED_INTERVAL)
        while True:
            counts = cloud.queue.read_counts()
            yield self._make_calls(1)
            if counts.jobs == 0:
                return
            if cloud.env.now >= next_scaling:
                next_scaling += PUBLISHED_SCALING_INTERVAL
                yield self._make_calls(2)
                if counts.jobs < len(cloud.machines):
                    cloud.target = min(cloud.target, counts.jobs)
            yield cloud.env.timeout(PUBLISHED_INTERVAL)

    def _end_idle_machines(self) -> Process:
        while True:
            yield self.cloud.env.timeout(ALARM_INTERVAL)
            for machine in list(self.cloud.machines.values()):
                since = None if machine.idle_since is None else max(machine.idle_since, machine.registered_at)
                if machine.state == ACTIVE and since is not None and self.cloud.env.now - since >= ALARM_SECONDS:
                    self.cloud.end_machine(machine)
                    self.calls += 1  # one DeleteAlarms call
