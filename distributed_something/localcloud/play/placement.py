"""The scheduler's decisions: on which machine a task starts, and how long to wait after tasks fail to start.

They need neither a clock nor AWS, so they can be tested in isolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUICK_END_SECONDS = 10.0
"""A task that ends sooner than this after its start counts as failed to start."""

MAX_DELAY_SECONDS = 60.0
"""Longest delay between starts. On ECS the delay grows to 15 minutes, which is too long for a local run."""


@dataclass(frozen=True)
class TaskRequirements:
    """CPU units and memory (in MiB) that one task reserves."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class FreeCapacity:
    """A machine's free CPU units, free memory (in MiB), and number of running tasks."""

    arn: str
    cpu: int
    memory: int
    tasks: int = 0

    def fits(self, requirements: TaskRequirements) -> bool:
        return requirements.cpu <= self.cpu and requirements.memory <= self.memory


def choose_machine(requirements: TaskRequirements, machines: Sequence[FreeCapacity]) -> FreeCapacity | None:
    """Return the machine that has room for the task and runs the fewest tasks, or None.

    If several machines run the same number of tasks, prefer the one with the most free memory.
    """
    candidates = [machine for machine in machines if machine.fits(requirements)]
    return min(candidates, key=lambda machine: (machine.tasks, -machine.memory, machine.arn), default=None)


def format_placement_failure(
    requirements: TaskRequirements, machines: Sequence[FreeCapacity], excluded_machines: Sequence[FreeCapacity] = ()
) -> str:
    """Return ECS's message for a task that does not fit on any machine.

    The service may use `machines`; a placement constraint rules out `excluded_machines`.
    """
    refusal = "was unable to place a task because no container instance met all of its requirements."
    if not machines and excluded_machines:
        name = excluded_machines[0].arn.split("/")[-1]
        unmet = 'encountered error "MemberOf placement constraint unsatisfied."'
        return f"{refusal} The closest matching (container-instance {name}) {unmet}"
    if not machines:
        return f"{refusal} Reason: No Container Instances were found in your cluster."
    closest = max(machines, key=lambda machine: (machine.memory >= requirements.memory, machine.memory, machine.cpu))
    resource = "memory" if closest.memory < requirements.memory else "CPU units"
    name = closest.arn.split("/")[-1]
    return f"{refusal} The closest matching (container-instance {name}) has insufficient {resource} available."


@dataclass
class StartThrottle:
    """Delays the next start while tasks of one revision keep ending soon after they start."""

    quick_ends: int = 0
    open_from: float = 0.0
    """When the next start is allowed, in seconds since the epoch."""

    def record_end(self, ran_seconds: float, now: float) -> None:
        """Record that tasks ended.

        The first quick end causes no delay, the second causes a delay of 1 second, and each further one doubles
        it. Call this once per step, with the longest run time among the tasks that ended in that step.
        """
        self.quick_ends = self.quick_ends + 1 if ran_seconds < QUICK_END_SECONDS else 0
        delay = min(2.0 ** (self.quick_ends - 2), MAX_DELAY_SECONDS) if self.quick_ends > 1 else 0.0
        self.open_from = now + delay

    def is_open(self, now: float) -> bool:
        return now >= self.open_from
