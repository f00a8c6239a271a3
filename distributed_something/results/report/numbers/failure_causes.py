"""The failures by cause, with what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from distributed_something.results.causes import FailureGroup
from distributed_something.results.job_counter import FailedJob, compute_hash
from distributed_something.results.report.data import FailureCause
from distributed_something.results.report.numbers.attempts import FAILED, AttemptTable
from distributed_something.results.report.numbers.machine_time import MachineTime
from distributed_something.results.report.numbers.uses import iter_lost_costs

MAX_CAUSES = 100
MAX_JOB_NAMES = 5_000  # of all causes together


@dataclass
class _Totals:
    attempts: int = 0
    lost: int = 0
    machines: set[int] = field(default_factory=set)
    cost: float = 0.0


def build_failure_causes(
    table: AttemptTable,
    groups: Sequence[FailureGroup],
    machines: Sequence[MachineTime] | None,
    format_retry: Callable[[FailureGroup], str],
    mask: Callable[[str], str],
) -> tuple[tuple[FailureCause, ...], int]:
    """Return the largest groups, and how many are left out.

    `machines`: None if their cost is unknown. `mask`: replaces a text that contains a secret.
    """
    shown = groups[:MAX_CAUSES]
    totals = [_Totals() for _ in shown]
    places = {compute_hash(failed.job): number for number, group in enumerate(shown) for failed in group.jobs}
    unknown = table.machine_names.get("")
    for number in range(len(table)):
        place = places.get(table.jobs[number])
        if place is not None and table.states[number] == FAILED:
            totals[place].attempts += 1
            if number in table.lost:
                totals[place].lost += 1
            elif table.machines[number] != unknown:
                totals[place].machines.add(table.machines[number])
    for attempt, amount in iter_lost_costs(table, machines or ()):
        if (place := places.get(table.jobs[attempt])) is not None:
            totals[place].cost += amount
    causes, names_left = [], MAX_JOB_NAMES
    for group, total in zip(shown, totals, strict=True):
        names = tuple(failed.job for failed in group.jobs[:names_left])
        names_left -= len(names)
        cost = None if machines is None else total.cost
        masked = _mask_group(group, mask)
        causes.append(
            FailureCause(masked, total.attempts, len(total.machines), cost, format_retry(group), names, lost=total.lost)
        )
    return tuple(causes), len(groups) - len(shown)


def _mask_group(group: FailureGroup, mask: Callable[[str], str]) -> FailureGroup:
    shared = tuple(replace(item, value=mask(item.value)) for item in group.shared)
    return replace(group, cause=mask(group.cause), example=_mask_job(group.example, mask), shared=shared)


def _mask_job(failed: FailedJob, mask: Callable[[str], str]) -> FailedJob:
    return replace(
        failed, reason=mask(failed.reason), telling_line=mask(failed.telling_line),
        last_lines=tuple(mask("\n".join(failed.last_lines)).split("\n")) if failed.last_lines else (),
    )  # fmt: skip
