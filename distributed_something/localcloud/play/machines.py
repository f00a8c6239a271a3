"""Simulates instances as ECS container instances, which join a cluster after launch and leave it when they end.

On a real machine, the ECS agent reads the cluster's name from /etc/ecs/ecs.config. The simulation searches the user
data for the text `ECS_CLUSTER=NAME`. A name that the script computes is not recognized.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distributed_something.localcloud.emulators.faults import DifficultAnswers

USABLE_MEMORY_SHARE = 0.96
"""Share of an instance type's memory that is available to tasks; the kernel and the ECS agent use the remainder."""

CPU_UNITS_PER_VCPU = 1024
"""ECS counts a vCPU as 1024 units."""


@dataclass
class Machine:
    """A running instance that has joined a cluster."""

    instance: Any
    member: Any
    """Moto's container instance."""
    cluster: str
    cpu: int
    memory: int
    ends_at: float | None = None
    """When an interruption terminates the machine, in seconds since the epoch."""

    @property
    def instance_id(self) -> str:
        return str(self.instance.id)

    @property
    def arn(self) -> str:
        return str(self.member.container_instance_arn)

    @property
    def can_accept_tasks(self) -> bool:
        return bool(self.member.status == "ACTIVE")


class MachineSimulator:
    """Simulates one region's machines. `lost_ids` are the instances that never join their cluster."""

    def __init__(self, ec2: Any, ecs: Any, faults: DifficultAnswers | None = None) -> None:
        self.ec2 = ec2
        self.ecs = ecs
        self.faults = faults or DifficultAnswers()
        self.lost_ids: set[str] = set()
        self.joined: dict[str, Machine] = {}

    def simulate_step(self) -> None:
        """Add new instances to their clusters, and remove instances that have ended."""
        running = {instance.id: instance for instance in self._iter_instances() if instance.state == "running"}
        for instance_id in self.joined.keys() - running.keys():
            self._leave_cluster(self.joined.pop(instance_id))
        for instance_id in sorted(running.keys() - self.joined.keys() - self.lost_ids):
            self._join_cluster(running[instance_id])

    def list_usable_machines(self) -> list[Machine]:
        """Return the joined machines that accept tasks because they are neither deregistered nor draining."""
        members = self.ecs.container_instances
        return [
            machine
            for machine in self.joined.values()
            if machine.member.id in members[machine.cluster] and machine.can_accept_tasks
        ]

    def drain_machine(self, machine: Machine, ends_at: float) -> None:
        """Stop placing tasks on a machine, as ECS's spot draining does. The machine is terminated by `ends_at`."""
        machine.ends_at = ends_at
        machine.member.status = "DRAINING"

    def terminate_machine(self, machine: Machine) -> None:
        """Terminate a machine, and set its state reason to a spot interruption."""
        self.ec2.terminate_instances([machine.instance_id])
        machine.instance.state_reason.code = "Server.SpotInstanceTermination"
        machine.instance.state_reason.message = "Server.SpotInstanceTermination: Spot instance termination"

    def update_resource_counts(self, machine: Machine, *, tasks: int, cpu: int, memory: int) -> None:
        """Update the task count and the remaining CPU and memory that moto shows for a machine."""
        machine.member.running_tasks_count = tasks
        set_resource_amounts(machine.member.remaining_resources, machine.cpu - cpu, machine.memory - memory)

    def _iter_instances(self) -> Iterator[Any]:
        for reservation in list(self.ec2.reservations.values()):
            yield from list(reservation.instances)

    def _join_cluster(self, instance: Any) -> None:
        script = decode_user_data(instance)
        cluster = parse_cluster_name(script)
        description = self.ecs.clusters.get(cluster)
        if description is None or description.status != "ACTIVE":
            return
        if self.faults.lose_machine():
            self.lost_ids.add(instance.id)
            return
        member = self.ecs.register_container_instance(cluster, instance.id)
        member.attributes |= parse_instance_attributes(script)
        cpu, memory = get_machine_capacity(self.ec2, instance.instance_type)
        set_resource_amounts(member.registered_resources, cpu, memory)
        set_resource_amounts(member.remaining_resources, cpu, memory)
        self.joined[instance.id] = Machine(instance, member, cluster, cpu, memory)

    def _leave_cluster(self, machine: Machine) -> None:
        self.ecs.container_instances[machine.cluster].pop(machine.member.id, None)


def decode_user_data(instance: Any) -> str:
    """Return an instance's user data as text, or an empty string if it is not valid base64."""
    try:
        return base64.b64decode(str(instance.user_data or ""), validate=False).decode(errors="replace")
    except binascii.Error:
        return ""


def parse_cluster_name(script: str) -> str:
    """Return the name in the script's last `ECS_CLUSTER=NAME`, or an empty string if there is none."""
    names = re.findall(r"ECS_CLUSTER=[\"']?([A-Za-z0-9_-]+)", script)
    return names[-1] if names else ""


def parse_instance_attributes(script: str) -> dict[str, str]:
    """Return the custom attributes in the script's `ECS_INSTANCE_ATTRIBUTES={"NAME": "VALUE"}`."""
    match = re.search(r"ECS_INSTANCE_ATTRIBUTES=[\"']?(\{[^}]*\})", script)
    if not match:
        return {}
    try:
        attributes: dict[str, str] = json.loads(match[1].replace('\\"', '"'))
    except ValueError:
        return {}
    return attributes


def get_machine_capacity(ec2: Any, instance_type: str) -> tuple[int, int]:
    """Return the CPU units and the memory (in MiB) that a machine of this type offers to tasks."""
    (description,) = ec2.describe_instance_types([instance_type])
    cpu = description["VCpuInfo"]["DefaultVCpus"] * CPU_UNITS_PER_VCPU
    return cpu, int(description["MemoryInfo"]["SizeInMiB"] * USABLE_MEMORY_SHARE)


def set_resource_amounts(resources: list[dict[str, Any]], cpu: int, memory: int) -> None:
    for resource in resources:
        if resource["name"] in ("CPU", "MEMORY"):
            resource["integerValue"] = cpu if resource["name"] == "CPU" else memory
