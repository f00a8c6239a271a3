"""A model of EC2 and ECS: machines, a spot fleet that replaces lost machines, and a service that places containers."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import simpy

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.machines import ContainerInstance, UnusableMachine
from distributed_something.observe.service import ServiceState
from tests.measure.simulation.assumptions import NOTICE, PROGRAM_SECONDS_AFTER_NOTICE, Assumptions
from tests.measure.simulation.clock import Process, call_after
from tests.measure.simulation.protection import Protection
from tests.measure.simulation.queue import Queue
from tests.measure.simulation.worker import JobProgress, Worker, compute_remaining_lease

BOOTING, ACTIVE, INTERRUPTED, TERMINATED = "booting", "active", "interrupted", "terminated"


class Machine:
    """An EC2 instance, which is billed from `launched_at`.

    `busy_workers`: the number of containers with a job. `idle_since`: when the last of them became idle; None while any
    container is busy.
    """

    def __init__(self, number: int, launched_at: float) -> None:
        self.name = f"i-{number}"
        self.launched_at, self.state = launched_at, BOOTING
        self.registered_at = 0.0
        self.workers: list[Worker] = []
        self.is_draining = False
        self.busy_workers = 0
        self.idle_since: float | None = launched_at
        self.last_job_at: float | None = None
        self._description: ContainerInstance | None = None

    def describe_instance(self) -> ContainerInstance:
        """Return the machine as ECS would describe it."""
        known, tasks = self._description, len(self.workers)
        if known is None or known.tasks != tasks or known.is_draining != self.is_draining:
            known = ContainerInstance(self.name, f"arn:{self.name}", tasks, self.registered_at, self.is_draining)
            self._description = known
        return known


class Cloud:
    """The fleet and the service for one run. Times are in seconds since the fleet was requested.

    `idle_counted_from`: the time from which idle machine time is counted; None if it is not counted yet. `ended_busy`:
    how many machines the monitor ended while they had a job. `stopped_busy`: how many containers ECS stopped while they
    had a job, because they were not protected. `longest_idle`: the longest time in seconds from a
    machine's last job to its end. `uses_notice`: whether workers return their jobs when EC2 announces an interruption.
    """

    def __init__(
        self, env: simpy.Environment, random: Random, queue: Queue, progress: JobProgress, assumptions: Assumptions, *,
        machines: int, tasks_per_machine: int, jobs_per_task: int, uses_notice: bool,
    ) -> None:  # fmt: skip
        self.env, self.random, self.queue, self.progress, self.assumptions = env, random, queue, progress, assumptions
        self.tasks_per_machine, self.jobs_per_task, self._uses_notice = tasks_per_machine, jobs_per_task, uses_notice
        self.target, self.desired_tasks = machines, machines * tasks_per_machine
        self.machines: dict[str, Machine] = {}
        self.launched = self.interrupted = self.ended_busy = self.stopped_busy = 0
        self.is_closed = False
        self.machine_seconds = self.idle_seconds = self.longest_idle = 0.0
        self.idle_counted_from: float | None = None
        self._machine_by_worker: dict[Worker, Machine] = {}
        # Dictionaries are used instead of sets, because their order makes a run repeatable.
        self._machines_with_room: dict[Machine, None] = {}
        self._idle_workers: dict[Worker, None] = {}
        self._stopping_workers: dict[Worker, None] = {}
        self._unavailable_machines = 0
        self.protection = Protection(env, random, assumptions.protection_seconds, lambda: self.desired_tasks)
        env.process(self._keep_fleet())
        env.process(self._keep_service())

    # methods for the monitor

    def get_fleet_state(self) -> FleetState:
        return FleetState("active", self.target, tuple(self.machines))

    def get_service_state(self) -> ServiceState:
        return ServiceState(self.desired_tasks, len(self._machine_by_worker), 0)

    def count_totals(self) -> RunTotals:
        """Return the totals that the containers' journals would show if they were written all the time."""
        done = len(self.progress.lengths) - self.progress.remaining_jobs
        running = sum(len(worker.running) for worker in self._machine_by_worker)
        return RunTotals(done=done, attempts=done, running=running, containers=len(self._machine_by_worker))

    def list_empty_instances(self) -> tuple[ContainerInstance, ...]:
        """Return the registered machines without a container."""
        return tuple(
            machine.describe_instance()
            for machine in self.machines.values()
            if machine.state in (ACTIVE, INTERRUPTED) and not machine.workers
        )

    def list_absent_machines(self) -> tuple[UnusableMachine, ...]:
        """Return the machines that have not registered."""
        machines = self.machines.values()
        return tuple(UnusableMachine(each.name, each.launched_at) for each in machines if each.state == BOOTING)

    def close_run(self) -> None:
        """Let workers start no more jobs, as the monitor does because of MAX_COST."""
        self.is_closed = True
        for worker in self._machine_by_worker:
            worker.is_closed = True

    def deploy_service(self) -> None:
        """Begin a new deployment with a minimum of 0% healthy and a maximum of 100% running containers.

        Containers of earlier deployments are stopped as soon as they are not protected.
        """
        for worker in self._machine_by_worker:
            worker.is_outdated = True

    def list_workers(self) -> list[Worker]:
        return list(self._machine_by_worker)

    def drain_machines(self, names: Iterable[str]) -> list[Machine]:
        """Place no more containers on these machines. Return the machines that have no containers."""
        machines = [self.machines[name] for name in names if name in self.machines]
        for machine in machines:
            machine.is_draining = True
            self._machines_with_room.pop(machine, None)
        return [machine for machine in machines if not machine.workers]

    def end_machine(self, machine: Machine, lease_seconds: float | None = 0.0) -> None:
        """End a machine at once. Its jobs reappear after `lease_seconds` (see `Worker.kill_programs`)."""
        self.ended_busy += bool(machine.busy_workers)
        for worker in list(machine.workers):
            worker.kill_programs(lease_seconds)
            self._remove_worker(worker)
        self._count_idle_time(machine)
        if machine.last_job_at is not None and machine.idle_since is not None:
            self.longest_idle = max(self.longest_idle, self.env.now - machine.idle_since)
        machine.state = TERMINATED
        machine.idle_since = None
        self._machines_with_room.pop(machine, None)
        del self.machines[machine.name]
        self.machine_seconds += self.env.now - machine.launched_at

    def end_all_machines(self) -> None:
        for machine in list(self.machines.values()):
            self.end_machine(machine, None)

    def start_counting_idle_time(self) -> None:
        if self.idle_counted_from is None:
            self.idle_counted_from = self.env.now

    # the fleet

    def _keep_fleet(self) -> Process:
        assumptions = self.assumptions
        max_launches = max(1, round(assumptions.launches_per_minute * assumptions.fleet_interval / 60))
        while True:
            for _ in range(min(max_launches, self.target - len(self.machines) - self._unavailable_machines)):
                self._launch_machine()
            yield self.env.timeout(assumptions.fleet_interval)

    def _launch_machine(self) -> None:
        self.launched += 1
        machine = Machine(self.launched, self.env.now)
        self.machines[machine.name] = machine
        assumptions = self.assumptions
        boot_seconds = self.random.triangular(assumptions.boot_min, assumptions.boot_max, assumptions.boot_usual)
        share = assumptions.never_joining_share
        if not share or self.random.random() >= share:
            call_after(self.env, boot_seconds, self._register_machine, machine)
        if assumptions.interruptions_per_hour:
            seconds = self.random.expovariate(assumptions.interruptions_per_hour / 3600)
            call_after(self.env, seconds, self.interrupt_machine, machine)

    def _register_machine(self, machine: Machine) -> None:
        if machine.state == BOOTING:
            machine.state, machine.registered_at = ACTIVE, self.env.now
            self._machines_with_room[machine] = None

    def interrupt_machine(self, machine: Machine) -> None:
        """Reclaim a spot machine, usually two minutes after a notice, but sometimes at once."""
        if machine.state in (INTERRUPTED, TERMINATED):
            return
        self.interrupted += 1
        self._unavailable_machines += 1
        call_after(self.env, self.random.expovariate(1 / self.assumptions.shortage), self._restore_capacity, None)
        if self.random.random() >= self.assumptions.notice_share:
            lease_seconds = compute_remaining_lease(self.random.random()) if self._uses_notice else None
            self._reclaim_machine(machine, lease_seconds)
            return
        machine.state, machine.is_draining = INTERRUPTED, True
        self._machines_with_room.pop(machine, None)
        if self._uses_notice:
            for worker in machine.workers:
                self._stop_worker(worker)
                if not worker.is_busy:
                    call_after(self.env, self.assumptions.task_stop, self._finish_worker, worker)
            call_after(self.env, PROGRAM_SECONDS_AFTER_NOTICE, self._kill_programs, machine)
        call_after(self.env, NOTICE, self._end_notice, machine)

    def _kill_programs(self, machine: Machine) -> None:
        for worker in machine.workers:
            worker.kill_programs(0.0)

    def _end_notice(self, machine: Machine) -> None:
        if machine.state != TERMINATED:
            self._reclaim_machine(machine, 0.0 if self._uses_notice else None)

    def _reclaim_machine(self, machine: Machine, lease_seconds: float | None) -> None:
        ended_busy = self.ended_busy
        self.end_machine(machine, lease_seconds)
        self.ended_busy = ended_busy  # count only the machines that the monitor ends

    def _restore_capacity(self, _: None) -> None:
        self._unavailable_machines -= 1

    # the service

    def _keep_service(self) -> Process:
        tokens, per_minute = 0.0, self.assumptions.tasks_per_minute
        while True:
            tokens = min(tokens + per_minute * self.assumptions.service_interval / 60, per_minute)
            missing = self.desired_tasks - len(self._machine_by_worker) + len(self._stopping_workers)
            while missing > 0 and tokens >= 1 and self._machines_with_room:
                self._place_worker(next(iter(self._machines_with_room)))
                missing, tokens = missing - 1, tokens - 1
            self._stop_surplus_workers(max(0, -missing))
            yield self.env.timeout(self.assumptions.service_interval)

    def _place_worker(self, machine: Machine) -> None:
        fetch_seconds = self.assumptions.fetch
        request = self.protection.request if self._uses_notice else lambda _: 0.0
        worker = Worker(
            self.env, self.queue, self.progress, self.jobs_per_task, fetch_seconds, self._handle_change, request
        )
        worker.is_closed = self.is_closed
        self._machine_by_worker[worker] = machine
        self._idle_workers[worker] = None
        machine.workers.append(worker)
        del self._machines_with_room[machine]
        if len(machine.workers) < self.tasks_per_machine:
            # The machine is now the last one, so that containers are spread evenly.
            self._machines_with_room[machine] = None
        call_after(self.env, self.assumptions.task_start, self._start_worker, worker)

    def _start_worker(self, worker: Worker) -> None:
        if worker in self._machine_by_worker and not worker.is_stopping:
            worker.start_polling()

    def _stop_surplus_workers(self, count: int) -> None:
        """Stop `count` containers, and those of earlier deployments, but only unprotected ones.

        ECS documents no order among them. Here, those with a job are first, which is the hardest on jobs.
        """
        candidates = list(self._idle_workers) if len(self.protection) >= self._count_busy() else self._machine_by_worker
        unprotected = [each for each in candidates if each not in self.protection and not each.is_stopping]
        unprotected.sort(key=lambda worker: not worker.is_busy)
        for number, worker in enumerate(unprotected):
            if number < count or worker.is_outdated:
                self._stop_unprotected_worker(worker)

    def _count_busy(self) -> int:
        return len(self._machine_by_worker) - len(self._idle_workers)

    def _stop_unprotected_worker(self, worker: Worker) -> None:
        self.stopped_busy += worker.is_busy
        self._stop_worker(worker)
        if worker.is_busy:
            call_after(self.env, PROGRAM_SECONDS_AFTER_NOTICE, Worker.kill_programs, worker)
        else:
            call_after(self.env, self.assumptions.task_stop, self._finish_worker, worker)

    def _stop_worker(self, worker: Worker) -> None:
        worker.stop_intake()
        self._stopping_workers[worker] = None

    def _finish_worker(self, worker: Worker) -> None:
        machine = self._machine_by_worker.get(worker)
        if machine is not None:
            self._remove_worker(worker)
            if not machine.is_draining:
                self._machines_with_room[machine] = None

    def _remove_worker(self, worker: Worker) -> None:
        self._machine_by_worker.pop(worker).workers.remove(worker)
        self._idle_workers.pop(worker, None)
        self._stopping_workers.pop(worker, None)
        self.protection.forget(worker)

    def _handle_change(self, worker: Worker) -> None:
        """Update the idle times after a container becomes busy or idle."""
        machine = self._machine_by_worker[worker]
        if worker.is_busy:
            self._idle_workers.pop(worker, None)
            if not machine.busy_workers:
                self._count_idle_time(machine)
                machine.idle_since = None
            machine.busy_workers += 1
            return
        self._idle_workers[worker] = None
        self.protection.release_when_idle(worker)
        machine.busy_workers -= 1
        if not machine.busy_workers:
            machine.idle_since = machine.last_job_at = self.env.now
        if worker.is_stopping:
            call_after(self.env, 0.0, self._finish_worker, worker)

    def _count_idle_time(self, machine: Machine) -> None:
        if self.idle_counted_from is not None and machine.idle_since is not None:
            self.idle_seconds += max(0.0, self.env.now - max(machine.idle_since, self.idle_counted_from))
