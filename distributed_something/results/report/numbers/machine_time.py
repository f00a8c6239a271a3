"""The time that was paid for: each machine from its launch to its end, and what each of its slots did meanwhile."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from distributed_something.core.aws_errors import is_spot_interruption
from distributed_something.observe.documents.machine_documents import MachineDocument
from distributed_something.results.report.numbers.attempts import DONE, FAILED, RUNNING, AttemptTable

# EC2 does not charge a spot machine that it takes back in its first hour.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html
RECLAIMED_CODE, FREE_SECONDS = "Server.SpotInstanceTermination", 3600.0
# A container may take two minutes to stop after its machine began to end, and clocks differ. If an attempt was later
# than that, the worker's clock was wrong.
MAX_LATE_SECONDS = 180.0
_OVERLAP_SECONDS = 0.001  # times in records have three decimals


@dataclass(frozen=True)
class Segment:
    """What a slot did from `start` to `end`, in seconds since the run's start. `use`: as in UseAmounts.

    `attempt`: the number of the attempt whose program ran, or that failed without one; None for other uses.
    """

    use: str
    start: float
    end: float
    attempt: int | None = None


@dataclass
class MachineTime:
    """A machine of the run. Times are in seconds since the run's start.

    `launched` and `ended` are EC2's if they are known, because workers' clocks may be wrong. `price`: USD per hour, or
    None if it is unknown. `is_estimated`: whether its times or its price are assumed, or its times are not those of its
    attempts. `is_free`: whether EC2 did not charge it. `lanes`: for each slot, the numbers of its attempts, in order.
    """

    document: MachineDocument
    launched: float
    ended: float
    has_ended: bool
    price: float | None
    is_estimated: bool
    is_free: bool = False
    lanes: list[array[int]] = field(default_factory=list)

    @property
    def hours(self) -> float:
        return (self.ended - self.launched) / 3600

    @property
    def cost(self) -> float:
        """In USD; 0 if the price is unknown."""
        return 0.0 if self.is_free or self.price is None else self.price * self.hours

    @property
    def slot_rate(self) -> float:
        """What a slot costs, in USD per second."""
        return self.cost / (self.hours * 3600 * len(self.lanes)) if self.cost else 0.0

    @property
    def sort_key(self) -> tuple[str, str, float, str]:
        document = self.document
        return (document.type or "", document.zone or "", self.launched, document.machine)


def has_program(table: AttemptTable, number: int) -> bool:
    """Return whether it is known when the attempt's program ran."""
    return table.starts[number] <= table.ends[number]


def has_failed_early(table: AttemptTable, number: int) -> bool:
    """Return whether the attempt failed without a program that ran, such as while it fetched its inputs."""
    is_without_program = math.isnan(table.starts[number]) or math.isnan(table.ends[number])
    return is_without_program and table.states[number] == FAILED and table.fetches[number] <= table.ended[number]


def _find_slot_start(table: AttemptTable, number: int) -> float:
    return table.starts[number] if has_program(table, number) else table.fetches[number]


def assign_lanes(table: AttemptTable, numbers: Sequence[int], least: int) -> list[array[int]]:
    """Return the attempts of a machine by slot, each in order: at least `least` slots.

    A container's slot keeps its lane. A container that replaces another one gets lanes that are free. An attempt that
    failed early occupies no lane, because inputs may be fetched while the slot's program for another job still runs.
    """
    lanes: list[array[int]] = []  # a list of a million numbers would take four times as much memory
    free_from: list[float] = []
    lane_by_place: dict[int, int] = {}
    for number in sorted(numbers, key=lambda number: (_find_slot_start(table, number), number)):
        start, place = _find_slot_start(table, number) + _OVERLAP_SECONDS, table.places[number]
        is_program = has_program(table, number)
        lane = lane_by_place.get(place)
        if lane is None or (is_program and free_from[lane] > start):
            used = set(lane_by_place.values())
            free = [index for index, time in enumerate(free_from) if time <= start]
            new = len(lanes) if len(lanes) < least else None  # a slot that has done nothing yet
            lane = next((index for index in free if index not in used), new)
            lane = lane if lane is not None else next(iter(free), len(lanes))
            if lane == len(lanes):
                lanes.append(array("I"))
                free_from.append(-math.inf)
            lane_by_place[place] = lane
        lanes[lane].append(number)
        if is_program:
            free_from[lane] = max(free_from[lane], table.ends[number])
    return lanes + [array("I") for _ in range(least - len(lanes))]


def _find_program(table: AttemptTable, lane: Sequence[int], first: int) -> int:
    """Return the index of the first attempt from this one on whose program ran; the length if there is none."""
    return next((place for place in range(first, len(lane)) if has_program(table, lane[place])), len(lane))


def iter_segments(table: AttemptTable, machine: MachineTime, lane: Sequence[int]) -> Iterator[Segment]:
    """Yield what a slot did, from the machine's launch to its end, without gaps.

    If a worker's clock was wrong, the times before the launch and after the end are left out.
    """
    now, is_started, following = machine.launched, False, 0
    for place, number in enumerate(lane):
        if has_program(table, number):
            start, end = table.starts[number], table.ends[number]
        else:
            following = _find_program(table, lane, max(following, place + 1))
            start = table.fetches[number]
            latest = table.starts[lane[following]] if following < len(lane) else math.inf
            end = max(start, min(table.ended[number], latest))
        start, end = (min(max(now, time), machine.ended) for time in (start, end))
        if not is_started:
            if start > now:
                yield Segment("startup", now, start)
        else:
            fetch = table.fetches[number]
            waiting = start if math.isnan(fetch) else min(max(now, fetch), start)
            if waiting > now:
                yield Segment("idle", now, waiting)
            if start > waiting:
                yield Segment("waiting", waiting, start)
        state = table.states[number]
        if end > start:
            yield Segment(
                "work" if state in (DONE, RUNNING) else "failed" if state == FAILED else "interrupted",
                start, end, number,
            )  # fmt: skip
        now, is_started = end, True
    if machine.ended > now:
        yield Segment("idle", now, machine.ended)


@dataclass(frozen=True)
class MachineFacts:
    """What is known about a run's machines, besides their documents.

    `tasks_per_machine` and `jobs_per_task`: as the run was started. `now`: when the run ended, or the current time, in
    seconds since its start. `has_ended`: whether the run has. `cost`: of the run in USD as the monitor estimated it, or
    None. `usual_price`: USD per hour for machines whose price is unknown, if that estimate is unknown too; else 0.
    """

    tasks_per_machine: int
    jobs_per_task: int
    now: float
    has_ended: bool
    cost: float | None = None
    usual_price: float = 0.0


def build_machine_times(
    table: AttemptTable, documents: Sequence[MachineDocument], facts: MachineFacts
) -> list[MachineTime]:
    """Return the run's machines: those with a document, and those that attempts mention."""
    if not facts.has_ended:
        _extend_running_programs(table, documents, facts)
    programs: dict[int, array[int]] = {}
    spans: dict[int, tuple[float, float]] = {}
    for number in range(len(table)):
        index, first, last = table.machines[number], *_find_span(table, number)
        if not math.isnan(first):
            earlier = spans.get(index, (first, last))
            spans[index] = (min(first, earlier[0]), max(last, earlier[1]))
        if has_program(table, number) or has_failed_early(table, number):
            programs.setdefault(index, array("I")).append(number)
    by_name = {document.machine: document for document in documents}
    names = dict.fromkeys([*by_name, *table.machine_names])
    machines = []
    for name in names:
        index = table.machine_names.get(name, -1)
        if name and (name in by_name or index in spans):
            machine = _build_machine(table, by_name.get(name, MachineDocument(name)), spans.get(index), facts)
            slots = facts.tasks_per_machine * (machine.document.slots or table.slots.get(name) or facts.jobs_per_task)
            machine.lanes = assign_lanes(table, programs.get(index, ()), max(1, slots))
            machines.append(machine)
    _add_unknown_prices(machines, facts)
    return sorted(machines, key=lambda machine: machine.sort_key)


def _extend_running_programs(table: AttemptTable, documents: Sequence[MachineDocument], facts: MachineFacts) -> None:
    """Let the programs that run end now, so that they count as work.

    A container that was killed still names its programs. Those on a machine that has ended are left out, and those of
    a machine's earlier containers, if it has more than it can run.
    """
    gone = {document.machine for document in documents if document.ended is not None or document.end_code is not None}
    containers: dict[int, dict[str, list[int]]] = {}  # the numbers of the programs, by machine
    machine_names, place_names = list(table.machine_names), list(table.place_names)
    for number in range(len(table)):
        if table.states[number] == RUNNING and machine_names[table.machines[number]] not in gone:
            names = containers.setdefault(table.machines[number], {})
            names.setdefault(place_names[table.places[number]][0], []).append(number)
    for names in containers.values():
        newest = sorted(names.values(), key=lambda numbers: max(table.starts[number] for number in numbers))
        for numbers in newest[-max(1, facts.tasks_per_machine) :]:
            for number in numbers:
                table.ends[number] = max(table.starts[number], facts.now)


def _find_span(table: AttemptTable, number: int) -> tuple[float, float]:
    """Return when an attempt used its machine; NaN if that is unknown."""
    times = (table.fetches[number], table.starts[number], table.ends[number], table.ended[number])
    known = [time for time in times if not math.isnan(time)]
    return (min(known), max(known)) if known else (math.nan, math.nan)


def _build_machine(
    table: AttemptTable, document: MachineDocument, span: tuple[float, float] | None, facts: MachineFacts
) -> MachineTime:
    first, last = span or (facts.now, 0.0)
    launched = first if document.launched is None else document.launched - table.start
    launched = max(0.0, launched)  # EC2's times are whole seconds
    has_ended = document.ended is not None or document.end_code is not None or facts.has_ended
    if document.ended is not None:
        ended = document.ended - table.start
    else:
        # If nobody saw when a machine ended, it was paid for at least until its last attempt.
        ended = min(last, facts.now) if has_ended else facts.now
    ended = max(ended, launched)
    is_contradicted = first < launched - MAX_LATE_SECONDS or last > ended + MAX_LATE_SECONDS
    is_estimated = document.launched is None or (document.ended is None and has_ended) or is_contradicted
    is_free = document.end_code == RECLAIMED_CODE and ended - launched < FREE_SECONDS
    return MachineTime(document, launched, ended, has_ended, document.price, is_estimated, is_free)


def _add_unknown_prices(machines: Sequence[MachineTime], facts: MachineFacts) -> None:
    """Give machines without a price what the monitor's estimate leaves for them, or the usual price."""
    unknown = [machine for machine in machines if machine.price is None]
    hours = sum(machine.hours for machine in unknown if not machine.is_free)
    known = sum(machine.cost for machine in machines)
    price = facts.usual_price
    if facts.cost and hours and facts.cost > known:
        price = (facts.cost - known) / hours
    for machine in unknown:
        machine.price, machine.is_estimated = price or None, True


def list_interruptions(machines: Sequence[MachineTime]) -> tuple[float, ...]:
    """Return when EC2 took machines back, in seconds since the run's start, in order."""
    return tuple(sorted(machine.ended for machine in machines if is_spot_interruption(machine.document.end_code or "")))


def find_rates(table: AttemptTable, machines: Sequence[MachineTime]) -> Mapping[int, float]:
    """Return what a second of a slot costs in USD, by the index of the machine in `table`."""
    return {
        table.machine_names[machine.document.machine]: machine.slot_rate
        for machine in machines
        if machine.document.machine in table.machine_names
    }
