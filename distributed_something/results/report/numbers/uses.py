"""What the machines' time was used for, in money: six amounts that add up to the cost of the machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from distributed_something.results.report.data import USES, TypeCost, UseAmounts
from distributed_something.results.report.numbers.attempts import DONE, AttemptTable
from distributed_something.results.report.numbers.machine_time import MachineTime, iter_segments


def compute_use_costs(table: AttemptTable, machines: Sequence[MachineTime]) -> dict[str, float]:
    """Return the cost in USD by use, not rounded."""
    costs = dict.fromkeys(USES, 0.0)
    for machine in machines:
        rate = machine.slot_rate
        if rate:
            for lane in machine.lanes:
                for segment in iter_segments(table, machine, lane):
                    costs[segment.use] += rate * (segment.end - segment.start)
    return costs


def iter_lost_costs(table: AttemptTable, machines: Sequence[MachineTime]) -> Iterator[tuple[int, float]]:
    """Yield each attempt that failed or was interrupted with the cost of its time in a slot, in USD."""
    for machine in machines:
        rate = machine.slot_rate
        for lane in machine.lanes:
            for segment in iter_segments(table, machine, lane):
                if segment.attempt is not None and segment.use != "work":
                    yield segment.attempt, rate * (segment.end - segment.start)


def round_use_costs(costs: Mapping[str, float]) -> tuple[float, UseAmounts]:
    """Return the sum of these costs in USD, rounded to cents, and the costs in cents that add up to it exactly.

    The cents that are missing go to the costs that lost most when they were rounded down.
    """
    exact = {use: Fraction(max(0.0, costs[use])) * 100 for use in USES}
    total = round(sum(exact.values()))
    cents = {use: int(amount) for use, amount in exact.items()}
    missing = total - sum(cents.values())
    for use in sorted(USES, key=lambda use: cents[use] - exact[use])[: max(0, missing)]:
        cents[use] += 1
    return total / 100, UseAmounts(**{use: amount / 100 for use, amount in cents.items()})


def compute_type_costs(table: AttemptTable, machines: Sequence[MachineTime]) -> tuple[TypeCost, ...]:
    """Return what jobs cost by type, zone, and kind of machine, the cheapest first.

    Only the programs of jobs that were done count, at the machines' prices: with whole machine-hours, the type that had
    the last jobs would look expensive. Machines whose type or price is unknown are left out.
    """
    sums: dict[tuple[str, str | None, bool | None], list[float]] = {}
    for machine in machines:
        document = machine.document
        if document.type is None or document.price is None:
            continue
        jobs, seconds = 0, 0.0
        for lane in machine.lanes:
            for segment in iter_segments(table, machine, lane):
                if segment.attempt is not None and table.states[segment.attempt] == DONE:
                    jobs, seconds = jobs + 1, seconds + segment.end - segment.start
        entry = sums.setdefault((document.type, document.zone, document.is_spot), [0, 0.0])
        entry[0] += jobs
        entry[1] += document.price / 3600 / len(machine.lanes) * seconds
    costs = [
        TypeCost(kind, zone, is_spot, int(jobs), cost / jobs * 1000)
        for (kind, zone, is_spot), (jobs, cost) in sums.items()
        if jobs
    ]
    return tuple(sorted(costs, key=lambda cost: (cost.cost_per_1000, cost.type, cost.zone or "")))
