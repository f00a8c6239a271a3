"""Machines, the spot fleet that keeps them at its target, and ECS's service that keeps containers on them."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import simpy

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.service import ServiceState
from tests.measure.simulation.assumptions import LAST_OF_NOTICE, NOTICE, PROTECTION_REST, Assumptions
from tests.measure.simulation.clock import Process, after
from tests.measure.simulation.queue import Queue
from tests.measure.simulation.worker import Work, Worker, lease_left

BOOTING, UP, GOING, ENDED = "booting", "up", "going", "ended"


class Machine:
    """Billed from `launched`. `idle_since`: since when no container of it has a job; None while one has."""

    def __init__(self, number: int, at: float) -> None:
        self.name = f"i-{number}"
        self.launched, self.state = at, BOOTING
        self.registered = 0.0
        self.workers: list[Worker] = []
        self.draining = False
        self.busy = 0
        self.idle_since: float | None = at
        self.last_job: float | None = None
        self._host: ContainerInstance | None = None

    def host(self) -> ContainerInstance:
        """As ECS describes it."""
        tasks = len(self.workers)
        if self._host is None or self._host.tasks != tasks or self._host.draining != self.draining:
            self._host = ContainerInstance(self.name, f"arn:{self.name}", tasks, self.registered, self.draining)
        return self._host


class Cloud:
    """One run's fleet and service. Times in seconds since the fleet was asked for.

    `idle_from`: idle machine time is counted from then on (None: not yet). `busy_ended`: machines that were ended on
    purpose while they had a job. `longest_idle`: seconds that a machine lived on after its last job. `hears_notice`:
    whether workers know of the notice and give their jobs back.
    """

    def __init__(
        self, env: simpy.Environment, random: Random, queue: Queue, work: Work, assumed: Assumptions, *, machines: int,
        tasks_per_machine: int, jobs_per_task: int, hears_notice: bool,
    ) -> None:  # fmt: skip
        self.env, self.random, self.queue, self.work, self.assumed = env, random, queue, work, assumed
        self.tasks_per_machine, self.jobs_per_task, self._hears_notice = tasks_per_machine, jobs_per_task, hears_notice
        self.target, self.desired = machines, machines * tasks_per_machine
        self.machines: dict[str, Machine] = {}
        self.launched = self.interrupted = self.busy_ended = 0
        self.machine_seconds = self.idle_seconds = self.longest_idle = 0.0
        self.idle_from: float | None = None
        self._home: dict[Worker, Machine] = {}
        self._room: dict[Machine, None] = {}
        self._idle: dict[Worker, None] = {}
        self._stopping: dict[Worker, None] = {}
        self._missing = 0
        env.process(self._fleet())
        env.process(self._service())

    # what the monitor sees and does

    def fleet_state(self) -> FleetState:
        return FleetState("active", self.target, tuple(self.machines))

    def service_state(self) -> ServiceState:
        return ServiceState(self.desired, len(self._home), 0)

    def hosts(self) -> tuple[ContainerInstance, ...]:
        """Those without a task."""
        return tuple(one.host() for one in self.machines.values() if one.state in (UP, GOING) and not one.workers)

    def drain(self, names: Iterable[str]) -> list[Machine]:
        """No task comes to them any more; those that have none."""
        found = [self.machines[name] for name in names if name in self.machines]
        for machine in found:
            machine.draining = True
            self._room.pop(machine, None)
        return [machine for machine in found if not machine.workers]

    def end(self, machine: Machine, lease: float | None = 0.0) -> None:
        """The machine is gone. `lease`: see `Worker.cut`."""
        self.busy_ended += bool(machine.busy)
        for worker in list(machine.workers):
            worker.cut(lease)
            self._forget(worker)
        self._account_idle(machine)
        if machine.last_job is not None and machine.idle_since is not None:
            self.longest_idle = max(self.longest_idle, self.env.now - machine.idle_since)
        machine.state = ENDED
        machine.idle_since = None
        self._room.pop(machine, None)
        del self.machines[machine.name]
        self.machine_seconds += self.env.now - machine.launched

    def end_all(self) -> None:
        for machine in list(self.machines.values()):
            self.end(machine, None)

    def count_idle_from_now(self) -> None:
        if self.idle_from is None:
            self.idle_from = self.env.now

    # the fleet

    def _fleet(self) -> Process:
        most = max(1, round(self.assumed.launched_a_minute * self.assumed.fleet_look / 60))
        while True:
            for _ in range(min(most, self.target - len(self.machines) - self._missing)):
                self._launch()
            yield self.env.timeout(self.assumed.fleet_look)

    def _launch(self) -> None:
        self.launched += 1
        machine = Machine(self.launched, self.env.now)
        self.machines[machine.name] = machine
        assumed = self.assumed
        after(
            self.env,
            self.random.triangular(assumed.boot_least, assumed.boot_most, assumed.boot_usual),
            self._registered,
            machine,
        )
        if assumed.interruptions_an_hour:
            after(self.env, self.random.expovariate(assumed.interruptions_an_hour / 3600), self.take, machine)

    def _registered(self, machine: Machine) -> None:
        if machine.state == BOOTING:
            machine.state, machine.registered = UP, self.env.now
            self._room[machine] = None

    def take(self, machine: Machine) -> None:
        """Spot does, mostly with a notice."""
        if machine.state in (GOING, ENDED):
            return
        self.interrupted += 1
        self._missing += 1
        after(self.env, self.random.expovariate(1 / self.assumed.shortage), self._there_again, None)
        if self.random.random() >= self.assumed.noticed:
            self._gone(machine, lease_left(self.random.random()) if self._hears_notice else None)
            return
        machine.state, machine.draining = GOING, True
        self._room.pop(machine, None)
        if self._hears_notice:
            for worker in machine.workers:
                self._stop(worker)
                if not worker.busy:
                    after(self.env, self.assumed.task_stop, self._stopped, worker)
            after(self.env, LAST_OF_NOTICE, self._cut, machine)
        after(self.env, NOTICE, self._ends, machine)

    def _cut(self, machine: Machine) -> None:
        for worker in machine.workers:
            worker.cut(0.0)

    def _ends(self, machine: Machine) -> None:
        if machine.state != ENDED:
            self._gone(machine, 0.0 if self._hears_notice else None)

    def _gone(self, machine: Machine, lease: float | None) -> None:
        ended = self.busy_ended
        self.end(machine, lease)
        self.busy_ended = ended  # not by the monitor

    def _there_again(self, _: None) -> None:
        self._missing -= 1

    # the service

    def _service(self) -> Process:
        tokens = 0.0
        while True:
            tokens = min(tokens + self.assumed.placed_a_minute * self.assumed.service_look / 60,
                         self.assumed.placed_a_minute)  # fmt: skip
            missing = self.desired - len(self._home) + len(self._stopping)
            while missing > 0 and tokens >= 1 and self._room:
                self._place(next(iter(self._room)))
                missing, tokens = missing - 1, tokens - 1
            if missing < 0:
                self._stop_idle(-missing)
            yield self.env.timeout(self.assumed.service_look)

    def _place(self, machine: Machine) -> None:
        worker = Worker(self.env, self.queue, self.work, self.jobs_per_task, self.assumed.fetch, self._changed)
        self._home[worker] = machine
        self._idle[worker] = None
        machine.workers.append(worker)
        del self._room[machine]
        if len(machine.workers) < self.tasks_per_machine:
            self._room[machine] = None  # the last in line: tasks are spread
        after(self.env, self.assumed.task_start, self._started, worker)

    def _started(self, worker: Worker) -> None:
        if worker in self._home and not worker.stopping:
            worker.start()

    def _stop_idle(self, most: int) -> None:
        now = self.env.now
        for worker in [one for one in self._idle if now - one.idle_since >= PROTECTION_REST][:most]:
            if not worker.stopping:
                self._stop(worker)
                after(self.env, self.assumed.task_stop, self._stopped, worker)

    def _stop(self, worker: Worker) -> None:
        worker.stop()
        self._stopping[worker] = None

    def _stopped(self, worker: Worker) -> None:
        machine = self._home.get(worker)
        if machine is not None:
            self._forget(worker)
            if not machine.draining:
                self._room[machine] = None

    def _forget(self, worker: Worker) -> None:
        self._home.pop(worker).workers.remove(worker)
        self._idle.pop(worker, None)
        self._stopping.pop(worker, None)

    def _changed(self, worker: Worker) -> None:
        """It has jobs now, or none any more."""
        machine = self._home[worker]
        if worker.busy:
            self._idle.pop(worker, None)
            if not machine.busy:
                self._account_idle(machine)
                machine.idle_since = None
            machine.busy += 1
            return
        self._idle[worker] = None
        machine.busy -= 1
        if not machine.busy:
            machine.idle_since = machine.last_job = self.env.now
        if worker.stopping:
            after(self.env, 0.0, self._stopped, worker)

    def _account_idle(self, machine: Machine) -> None:
        if self.idle_from is not None and machine.idle_since is not None:
            self.idle_seconds += max(0.0, self.env.now - max(machine.idle_since, self.idle_from))
