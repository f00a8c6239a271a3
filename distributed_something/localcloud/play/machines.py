"""Instances as container instances: they join the cluster that their user data names, and leave when they end.

A real machine boots an agent that reads /etc/ecs/ecs.config; here its user data is read as text for the line that
writes it. What the machine does not tell (`ECS_CLUSTER` made by a script's logic) is not understood.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

USABLE_MEMORY_SHARE = 0.96
"""The share of an instance type's memory that ECS can place tasks on; the kernel and the agent have the rest."""

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
    """When an interruption takes it, in seconds since the epoch."""

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
    """The machines of one region."""

    def __init__(self, ec2: Any, ecs: Any) -> None:
        self.ec2 = ec2
        self.ecs = ecs
        self.joined: dict[str, Machine] = {}

    def simulate_step(self) -> None:
        """Lets new instances join and ended ones leave."""
        running = {instance.id: instance for instance in self._iter_instances() if instance.state == "running"}
        for instance_id in self.joined.keys() - running.keys():
            self._leave_cluster(self.joined.pop(instance_id))
        for instance_id in running.keys() - self.joined.keys():
            self._join_cluster(running[instance_id])

    def list_usable_machines(self) -> list[Machine]:
        """Return the joined machines that take tasks: those that nobody has deregistered or is draining."""
        members = self.ecs.container_instances
        return [
            machine
            for machine in self.joined.values()
            if machine.member.id in members[machine.cluster] and machine.can_accept_tasks
        ]

    def drain_machine(self, machine: Machine, ends_at: float) -> None:
        """The machine takes no more tasks, as an agent with spot draining does, and ends at the latest at `ends_at`."""
        machine.ends_at = ends_at
        machine.member.status = "DRAINING"

    def terminate_machine(self, machine: Machine) -> None:
        """What spot does when the notice is over."""
        self.ec2.terminate_instances([machine.instance_id])
        machine.instance.state_reason.code = "Server.SpotInstanceTermination"
        machine.instance.state_reason.message = "Server.SpotInstanceTermination: Spot instance termination"

    def update_resource_counts(self, machine: Machine, *, tasks: int, cpu: int, memory: int) -> None:
        """Shows what its tasks take."""
        machine.member.running_tasks_count = tasks
        set_resource_amounts(machine.member.remaining_resources, machine.cpu - cpu, machine.memory - memory)

    def _iter_instances(self) -> Iterator[Any]:
        for reservation in list(self.ec2.reservations.values()):
            yield from list(reservation.instances)

    def _join_cluster(self, instance: Any) -> None:
        script = decode_user_data(instance)
        cluster = parse_cluster_name(script)
        known = self.ecs.clusters.get(cluster)
        if known is None or known.status != "ACTIVE":
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
    """The decoded script; EC2 takes base64 only, and what is not shows as nothing."""
    try:
        return base64.b64decode(str(instance.user_data or ""), validate=False).decode(errors="replace")
    except binascii.Error:
        return ""


def parse_cluster_name(script: str) -> str:
    """The cluster that `ECS_CLUSTER=NAME` names, the last one counting; empty without one."""
    names = re.findall(r"ECS_CLUSTER=[\"']?([A-Za-z0-9_-]+)", script)
    return names[-1] if names else ""


def parse_instance_attributes(script: str) -> dict[str, str]:
    """The custom attributes that `ECS_INSTANCE_ATTRIBUTES={"NAME": "VALUE"}` gives a container instance."""
    found = re.search(r"ECS_INSTANCE_ATTRIBUTES=[\"']?(\{[^}]*\})", script)
    if not found:
        return {}
    try:
        attributes: dict[str, str] = json.loads(found[1].replace('\\"', '"'))
    except ValueError:
        return {}
    return attributes


def get_machine_capacity(ec2: Any, instance_type: str) -> tuple[int, int]:
    """CPU units and MiB that a machine of this type offers to tasks."""
    (found,) = ec2.describe_instance_types([instance_type])
    return found["VCpuInfo"]["DefaultVCpus"] * CPU_UNITS_PER_VCPU, int(
        found["MemoryInfo"]["SizeInMiB"] * USABLE_MEMORY_SHARE
    )


def set_resource_amounts(resources: list[dict[str, Any]], cpu: int, memory: int) -> None:
    for resource in resources:
        if resource["name"] in ("CPU", "MEMORY"):
            resource["integerValue"] = cpu if resource["name"] == "CPU" else memory
