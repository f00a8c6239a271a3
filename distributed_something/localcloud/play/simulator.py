"""Simulates, in all regions, what AWS does between API calls and the emulators do not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moto.awslambda.models import lambda_backends
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.events.models import events_backends

from distributed_something.localcloud.base.container_engine import save_engine
from distributed_something.localcloud.base.endpoints import ACCOUNT_ID
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.emulators.moto_ec2 import get_fleet_ledger, patch_moto_ec2, replace_methods
from distributed_something.localcloud.emulators.moto_ecs import patch_moto_ecs
from distributed_something.localcloud.emulators.moto_iam import patch_moto_iam
from distributed_something.localcloud.emulators.moto_sns import patch_moto_sns
from distributed_something.localcloud.play.fleets import update_fleets
from distributed_something.localcloud.play.functions import FunctionRunner, ScheduleSimulator
from distributed_something.localcloud.play.machines import Machine, MachineSimulator
from distributed_something.localcloud.play.runners import ContainerRunner, ProcessRunner, TaskRunner
from distributed_something.localcloud.play.services import RunningTask, ServiceSimulator, TaskEnvironmentBuilder
from distributed_something.localcloud.play.task_logs import NoTaskLogs, TaskLogs


@dataclass(frozen=True)
class SimulatedRegion:
    """The simulators for one region."""

    machines: MachineSimulator
    services: ServiceSimulator
    schedules: ScheduleSimulator


class CloudSimulator:
    """Simulates fleets, machines, services, and schedules in every region that is in use."""

    def __init__(
        self,
        layout: CloudLayout,
        default_worker: Path,
        task_environment: TaskEnvironmentBuilder,
        function_environment: Callable[[str], dict[str, str]],
        task_logs: TaskLogs | None = None,
    ) -> None:
        patch_moto_ec2(replace_methods)
        patch_moto_ecs(replace_methods)
        patch_moto_iam()
        patch_moto_sns(replace_methods, layout.notifications)
        self.layout = layout
        self.task_environment = task_environment
        self.function_environment = function_environment
        self.task_logs = task_logs or NoTaskLogs()
        self.functions = FunctionRunner(layout)
        self.runner: TaskRunner = ProcessRunner(layout, default_worker)
        self.regions: dict[str, SimulatedRegion] = {}

    def simulate_step(self, now: float) -> list[str]:
        """Advance one step to `now`, in seconds since the epoch. Return the names of the schedules that ended."""
        ended: list[str] = []
        for name in self.list_regions():
            region = self._get_region(name)
            update_fleets(region.machines.ec2)
            region.machines.simulate_step()
            region.services.simulate_step(self.runner, now)
            ended += region.schedules.simulate_step(now)
        return ended

    @staticmethod
    def list_regions() -> list[str]:
        """Return the names of all regions that are in use."""
        backends = ec2_backends[ACCOUNT_ID], ecs_backends[ACCOUNT_ID], events_backends[ACCOUNT_ID]
        return list(dict.fromkeys(name for regions in backends for name in regions))

    def find_task(self, task_id: str) -> tuple[ServiceSimulator, RunningTask] | None:
        """Return a running task and its region's service simulator, or None."""
        for region in self.regions.values():
            for running_task in region.services.running_tasks:
                if running_task.task.id == task_id:
                    return region.services, running_task
        return None

    def find_machine(self, instance_id: str) -> Machine | None:
        """Return the machine with this ID if it has joined a cluster, or None."""
        machines = (region.machines.joined.get(instance_id) for region in self.regions.values())
        return next(filter(None, machines), None)

    @property
    def has_containers(self) -> bool:
        """Whether new tasks run as containers."""
        return isinstance(self.runner, ContainerRunner)

    def use_containers(self, variables: Mapping[str, str]) -> None:
        """Run new tasks as containers from now on. `variables` select the container engine."""
        save_engine(self.layout.root, variables)
        self.runner = ContainerRunner(self.layout, variables)

    def interrupt_machine(self, instance_id: str | None, notice_seconds: float, now: float) -> str:
        """Interrupt the given machine, or the one with the most tasks, and return its instance ID.

        Raise LocalCloudError if there is no such machine.
        """
        candidates = [
            (region, machine)
            for region, machine in self._iter_interruptible_machines()
            if instance_id in (None, machine.instance_id)
        ]
        if not candidates:
            problem = f"no machine{f' {instance_id}' if instance_id else ''} is running in the local cloud"
            remedy = "check the ID" if instance_id else "wait until one has started"
            raise LocalCloudError(f"{problem}; {remedy}")
        region, machine = max(candidates, key=lambda candidate: candidate[1].member.running_tasks_count)
        region.services.interrupt_machine(machine, notice_seconds, now)
        self._record_interruption(region, machine)
        return machine.instance_id

    def kill_all(self) -> None:
        """Kill all workers and all function calls."""
        for region in self.regions.values():
            region.schedules.kill_calls()
            region.services.kill_workers()

    def _get_region(self, name: str) -> SimulatedRegion:
        if name not in self.regions:
            machines = MachineSimulator(ec2_backends[ACCOUNT_ID][name], ecs_backends[ACCOUNT_ID][name])
            services = ServiceSimulator(machines.ecs, machines, self.task_environment, self.task_logs)
            events, lambda_ = events_backends[ACCOUNT_ID][name], lambda_backends[ACCOUNT_ID][name]
            schedules = ScheduleSimulator(events, lambda_, self.functions, self.function_environment)
            self.regions[name] = SimulatedRegion(machines, services, schedules)
        return self.regions[name]

    def _iter_interruptible_machines(self) -> Iterator[tuple[SimulatedRegion, Machine]]:
        for region in self.regions.values():
            for machine in region.machines.joined.values():
                if machine.ends_at is None and machine.instance.state == "running":
                    yield region, machine

    @staticmethod
    def _record_interruption(region: SimulatedRegion, machine: Machine) -> None:
        for fleet in region.machines.ec2.spot_fleet_requests.values():
            if machine.instance_id in get_fleet_ledger(fleet).recorded_instances:
                get_fleet_ledger(fleet).record_event("instanceChange", "termination_notified", machine.instance_id)
