"""Machines that cannot work: they do not join the cluster, or their ECS agent has stopped responding.

Nothing else ends them: EC2 considers them healthy, and no container creates their idle alarm. The monitor terminates
them, and the fleet replaces them. If no replacement can work either, three times in a row, more of them would only cost
more: the run ends if nothing else works; otherwise, the monitor lowers the fleet's target to the machines that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distributed_something.core.failures.remedies import JOINING_REMEDY
from distributed_something.core.text import format_count
from distributed_something.observe.machines import UnusableMachine
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory

MAX_UNUSABLE_ROUNDS = 3
LAUNCH_TIME_PRECISION = 1.0  # in seconds: EC2's launch times are whole seconds
UNUSABLE_MESSAGE = (
    "machines did not join the cluster, and neither did their replacements, {rounds} times in a row (most recently"
    " {machine}). The machines were stopped, and the queue was kept"
)


def list_overdue_machines(snapshot: RunSnapshot, history: RunHistory, seconds: float) -> tuple[UnusableMachine, ...]:
    """Return the machines that have not been in the cluster, or not been connected to it, for this long."""
    since = dict(history.disconnected)
    return tuple(
        machine
        for machine in snapshot.unusable
        if snapshot.at - (since.get(machine.instance, snapshot.at) if machine.has_joined else machine.launched_at)
        >= seconds
    )


def add_terminations(history: RunHistory, snapshot: RunSnapshot, machines: Sequence[UnusableMachine]) -> RunHistory:
    """Return `history` with the termination of these machines.

    `unusable_count`: how many were terminated in the run; `unusable_machine` is the last one. `unusable_rounds`: how
    many times in a row; a time counts only if one of the machines was launched after the last time that counts
    (`unusable_at`), and the count begins again if another machine works by now (`unusable_beside` worked then).
    """
    last = history.unusable_at
    is_next_round = last is None or any(machine.launched_at > last - LAUNCH_TIME_PRECISION for machine in machines)
    rounds = 0 if snapshot.totals.machines > history.unusable_beside else history.unusable_rounds
    return replace(
        history,
        unusable_count=history.unusable_count + len(machines),
        unusable_machine=machines[-1].instance,
        unusable_rounds=rounds + is_next_round,
        unusable_at=snapshot.at if is_next_round else history.unusable_at,
        unusable_beside=snapshot.totals.machines,
    )


def has_useless_replacements(history: RunHistory) -> bool:
    """Return whether machines were replaced three times in a row and could not work."""
    return history.unusable_rounds >= MAX_UNUSABLE_ROUNDS


def is_replacing_useless(snapshot: RunSnapshot, history: RunHistory) -> bool:
    """Return whether machines were replaced three times in a row, and no machine has begun to work since."""
    return has_useless_replacements(history) and snapshot.totals.machines <= history.unusable_beside


def is_every_machine_unusable(snapshot: RunSnapshot, history: RunHistory) -> bool:
    """Return whether replacing machines is useless, and no other machine could do the waiting jobs."""
    is_running = snapshot.service is not None and snapshot.service.running > 0
    has_others = is_running or bool(snapshot.idle_instances)
    return snapshot.jobs > 0 and not has_others and is_replacing_useless(snapshot, history)


def format_unusable_machines(history: RunHistory) -> str:
    """Return the line about terminated machines, or an empty string if there are none."""
    if not history.unusable_count:
        return ""
    count = format_count(history.unusable_count, "machine")
    return (
        f"{count} terminated, most recently {history.unusable_machine}: not in the cluster, or without a working ECS"
        f" agent; {JOINING_REMEDY}"
    )
