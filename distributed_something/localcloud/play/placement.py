"""Where a task goes, and when it may be tried again: the scheduler's decisions, without a clock and without AWS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUICK_END_SECONDS = 10.0
"""A task that ended sooner than this has failed to start, for the throttle's purpose."""

MAX_DELAY_SECONDS = 60.0
"""Seconds; ECS grows its own delay to 15 minutes, which nobody would wait for at a desk."""


@dataclass(frozen=True)
class TaskRequirements:
    """What one task reserves: CPU units and MiB."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class FreeCapacity:
    """A machine with what it has left: CPU units and MiB, and the tasks that it holds already."""

    arn: str
    cpu: int
    memory: int
    tasks: int = 0

    def fits(self, needs: TaskRequirements) -> bool:
        return needs.cpu <= self.cpu and needs.memory <= self.memory


def choose_machine(needs: TaskRequirements, rooms: Sequence[FreeCapacity]) -> FreeCapacity | None:
    """The machine with the fewest tasks that has room, the roomier one of equals; None if none has."""
    fitting = [room for room in rooms if room.fits(needs)]
    return min(fitting, key=lambda room: (room.tasks, -room.memory, room.arn), default=None)


def format_placement_failure(
    needs: TaskRequirements, rooms: Sequence[FreeCapacity], outside: Sequence[FreeCapacity] = ()
) -> str:
    """ECS's words for having found no machine; `outside`: those that a placement constraint keeps the task off."""
    refusal = "was unable to place a task because no container instance met all of its requirements."
    if not rooms and outside:
        name = outside[0].arn.split("/")[-1]
        unmet = 'encountered error "MemberOf placement constraint unsatisfied."'
        return f"{refusal} The closest matching (container-instance {name}) {unmet}"
    if not rooms:
        return f"{refusal} Reason: No Container Instances were found in your cluster."
    closest = max(rooms, key=lambda room: (room.memory >= needs.memory, room.memory, room.cpu))
    lacking = "memory" if closest.memory < needs.memory else "CPU units"
    name = closest.arn.split("/")[-1]
    return f"{refusal} The closest matching (container-instance {name}) has insufficient {lacking} available."


@dataclass
class StartThrottle:
    """Delays the next start while tasks of one revision end quickly again and again."""

    quick_ends: int = 0
    open_from: float = 0.0
    """Seconds since the epoch."""

    def record_end(self, ran_seconds: float, now: float) -> None:
        """One call a step, with the longest of the tasks that ended in it. The first quick end costs nothing."""
        self.quick_ends = self.quick_ends + 1 if ran_seconds < QUICK_END_SECONDS else 0
        delay = min(2.0 ** (self.quick_ends - 2), MAX_DELAY_SECONDS) if self.quick_ends > 1 else 0.0
        self.open_from = now + delay

    def is_open(self, now: float) -> bool:
        return now >= self.open_from
