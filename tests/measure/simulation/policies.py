"""The two monitors that are compared: this project's, with its real code, and the published one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

import simpy

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.machines import CONTAINER_INSTANCES_PER_CALL, ContainerInstance
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.actions import DRAINED_MACHINES_PER_CALL
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.policy import (
    EndReason,
    FleetTargetChange,
    IdleMachineTermination,
    MonitorAction,
    Pace,
    TaskCountChange,
    choose_actions,
    has_surplus_containers,
)
from tests.measure.simulation.bucket import Bucket
from tests.measure.simulation.clock import Process
from tests.measure.simulation.cloud import ENDED, UP, Cloud

CALLS_A_LOOK = 12  # queue 5, fleet 1, service 1, pauses 1, history 2, prices and news now and then, rounded up
INSTANCES_A_CALL = 1000  # EC2: in one DescribeSpotFleetInstances
CALLS_A_HUNDRED = 2  # ECS: a page of the list of machines without a task, and its description

PUBLISHED_LOOK = 60.0
PUBLISHED_SCALING = 600.0
ALARM_SECONDS = 900.0  # CPU under 1 % for so long
ALARM_LOOK = 60.0  # an alarm's period


@dataclass
class Monitor:
    """What both have. `calls`: API calls so far; `over`: the monitor has ended the run."""

    cloud: Cloud
    calls: int = field(default=0, init=False)
    looks: int = field(default=0, init=False)

    def run(self) -> Process:
        raise NotImplementedError

    def _calls(self, count: int) -> simpy.Event:
        """So many calls, and the time that they take."""
        self.calls += count
        return self.cloud.env.timeout(count * self.cloud.assumed.call)


@dataclass
class Ours(Monitor):
    """`run.py monitor`: what it observes is the model's, `choose_actions` and `update_history` are the real ones.
    `cheapest`: its cheapest mode; `watch`: shown every look and what was decided on it. The run begins at time 0."""

    pace: Pace = field(default_factory=Pace)
    cheapest: bool = False
    watch: Callable[[RunSnapshot, list[MonitorAction]], None] | None = None
    _ended: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._ended = Bucket(self.cloud.assumed.ended_at_once, self.cloud.assumed.ended_a_second)

    def run(self) -> Process:
        file, history = self._file(), RunHistory()
        while True:
            look = self._look()
            yield self._calls(
                CALLS_A_LOOK
                + ceil(len(self.cloud.machines) / INSTANCES_A_CALL)
                + CALLS_A_HUNDRED * max(1, ceil(len(look.hosts) / CONTAINER_INSTANCES_PER_CALL))
            )
            history = update_history(history, look, self.pace.settle)
            actions = choose_actions(look, history, file, cheapest=self.cheapest, pace=self.pace)
            self.looks += 1
            if self.watch is not None:
                self.watch(look, actions)
            if any(isinstance(action, EndReason) for action in actions):
                return
            for action in actions:
                yield from self._act(action)
            yield self.cloud.env.timeout(self.pace.soon if has_surplus_containers(look, file) else self.pace.look)

    def _file(self) -> MonitorFile:
        cloud = self.cloud
        return MonitorFile(
            "sfr-1", "App", "cluster", "AppQueue", "bucket", "Logs", 0,
            MONITOR_MACHINES=cloud.target, MONITOR_TASKS_PER_MACHINE=cloud.tasks_per_machine,
            MONITOR_JOBS_PER_TASK=cloud.jobs_per_task,
        )  # fmt: skip

    def _look(self) -> RunSnapshot:
        cloud = self.cloud
        counts, submitted = cloud.queue.counts(), len(cloud.work.lengths)
        return RunSnapshot(
            at=cloud.env.now,
            queue=counts,
            dead=0,
            submitted=submitted,
            fleet=cloud.fleet_state(),
            service=cloud.service_state(),
            hosts=cloud.hosts(),
        )

    def _act(self, action: MonitorAction) -> Process:
        cloud = self.cloud
        match action:
            case FleetTargetChange(machines):
                yield self._calls(2)
                cloud.target = machines
            case TaskCountChange(tasks):
                yield self._calls(1)
                cloud.desired = tasks
            case IdleMachineTermination(hosts):
                for first in range(0, len(hosts), CONTAINER_INSTANCES_PER_CALL):
                    yield from self._end_idle(hosts[first : first + CONTAINER_INSTANCES_PER_CALL])

    def _end_idle(self, hosts: tuple[ContainerInstance, ...]) -> Process:
        """As `run/monitor/actions.py` does it; what EC2 throttles is tried again until it is taken."""
        cloud = self.cloud
        yield self._calls(ceil(sum(not host.draining for host in hosts) / DRAINED_MACHINES_PER_CALL) + 1)
        empty = cloud.drain(host.instance for host in hosts)
        yield cloud.env.timeout(self._ended.take(len(empty), cloud.env.now))
        yield self._calls(1)
        for machine in empty:
            if machine.state != ENDED:
                cloud.end(machine)


@dataclass
class Published(Monitor):
    """Looks once a minute; every ten, lowers the target to the number of messages if that is below the machines;
    believes a count of zero at once. An alarm a machine ends what is idle, whatever the monitor does."""

    def run(self) -> Process:
        cloud = self.cloud
        cloud.env.process(self._alarms())
        self.calls += cloud.target  # PutMetricAlarm
        next_scaling = PUBLISHED_SCALING
        yield cloud.env.timeout(PUBLISHED_LOOK)
        while True:
            counts = cloud.queue.counts()
            self.looks += 1
            yield self._calls(1)
            if counts.jobs == 0:
                return
            if cloud.env.now >= next_scaling:
                next_scaling += PUBLISHED_SCALING
                yield self._calls(2)
                if counts.jobs < len(cloud.machines):
                    cloud.target = min(cloud.target, counts.jobs)
            yield cloud.env.timeout(PUBLISHED_LOOK)

    def _alarms(self) -> Process:
        while True:
            yield self.cloud.env.timeout(ALARM_LOOK)
            for machine in list(self.cloud.machines.values()):
                since = None if machine.idle_since is None else max(machine.idle_since, machine.registered)
                if machine.state == UP and since is not None and self.cloud.env.now - since >= ALARM_SECONDS:
                    self.cloud.end(machine)
                    self.calls += 1  # its alarm is deleted
