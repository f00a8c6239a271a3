"""All that the emulators do not do by themselves, in one step: fleets, machines, services, in every region in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends

from . import engine, moto_ec2, moto_ecs
from .endpoints import ACCOUNT_ID
from .errors import LocalCloudError
from .fleets import play_fleets
from .layout import Layout
from .machines import Machine, Machines
from .moto_ec2 import ledger
from .runners import ContainerRunner, ProcessRunner, Runner
from .services import Services, WorkerEnvironment


@dataclass(frozen=True)
class Region:
    machines: Machines
    services: Services


class Player:
    """Plays what happens in AWS while nobody calls it."""

    def __init__(self, layout: Layout, worker_root: Path, environment: WorkerEnvironment) -> None:
        moto_ec2.apply()
        moto_ecs.apply()
        self.layout = layout
        self.environment = environment
        self.runner: Runner = ProcessRunner(layout, worker_root)
        self.regions: dict[str, Region] = {}

    def tick(self, now: float) -> None:
        """One step, at `now` seconds since the epoch."""
        for name in list(ec2_backends[ACCOUNT_ID]):
            region = self._region(name)
            play_fleets(region.machines.ec2)
            region.machines.play()
            region.services.play(now, self.runner)

    def use_containers(self, variables: Mapping[str, str]) -> None:
        """For tasks that start from now on. `variables` lead to the container engine."""
        engine.remember(self.layout.root, variables)
        self.runner = ContainerRunner(self.layout, variables)

    def interrupt(self, now: float, instance_id: str | None, notice_seconds: float) -> str:
        """Takes away the named machine, or the busiest one. Raises LocalCloudError if there is none."""
        running = [one for one in self._machines() if instance_id in (None, one[1].instance_id)]
        if not running:
            which = f"machine {instance_id}" if instance_id else "machine"
            raise LocalCloudError(f"no {which} is running in the local cloud, so none can be taken away")
        region, machine = max(running, key=lambda one: one[1].member.running_tasks_count)
        region.services.interrupt(machine, now, notice_seconds)
        self._tell_fleet(region, machine)
        return machine.instance_id

    def end(self) -> None:
        """Ends every worker."""
        for region in self.regions.values():
            region.services.end()

    def _region(self, name: str) -> Region:
        if name not in self.regions:
            machines = Machines(ec2_backends[ACCOUNT_ID][name], ecs_backends[ACCOUNT_ID][name])
            self.regions[name] = Region(machines, Services(machines.ecs, machines, self.environment))
        return self.regions[name]

    def _machines(self) -> Iterator[tuple[Region, Machine]]:
        for region in self.regions.values():
            for machine in region.machines.joined.values():
                if machine.ends_at is None and machine.instance.state == "running":
                    yield region, machine

    @staticmethod
    def _tell_fleet(region: Region, machine: Machine) -> None:
        for fleet in region.machines.ec2.spot_fleet_requests.values():
            if machine.instance_id in ledger(fleet).known:
                ledger(fleet).tell("instanceChange", "termination_notified", machine.instance_id)
