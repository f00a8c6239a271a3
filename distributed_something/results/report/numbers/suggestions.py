"""What would make the next run cheaper or faster: settings to type, with the evidence for them.

A suggestion must save at least 2 % of the cost and 0.10 USD, or 5 minutes. What only few jobs show is not suggested.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from distributed_something.core.aws_errors import is_faulty_end, is_spot_interruption
from distributed_something.core.text import format_count
from distributed_something.results.report.data import Suggestion, TypeCost
from distributed_something.results.report.numbers.attempts import DONE, FAILED, INTERRUPTED, AttemptTable
from distributed_something.results.report.numbers.machine_time import MachineTime, has_program
from distributed_something.results.retry.memory_advice import MIB, WORKER_MIB, estimate_container_memory

MIN_SAVED_SHARE, MIN_SAVED_USD, MIN_SAVED_SECONDS = 0.02, 0.10, 300.0
MIN_JOBS = 200  # from this number on, the largest of the values says something about further jobs
MIN_JOBS_OF_TYPE = 100
TIME_RESERVE, MAX_TIMEOUT_SHARE = 1.4, 0.9  # of the longest job; of the present limit
MIN_TIMEOUTS, MIN_FINAL_FAILURES = 1, 5
MIN_PRICE_RATIO = 1.1
MEMORY_EXIT_CODES = (137, -9)


@dataclass(frozen=True)
class Evidence:
    """What the suggestions are made from. `cost`: of the machines, in USD. `rates`: as `find_rates` returns them.

    `rates` is {} and `cost` is 0 if the cost is unknown. `config`: the config's values as they were when the run
    started; {} if they are unknown. `reason_classes` and `exit_codes`: of the failed jobs. `recovered`: how many jobs
    were done after an attempt at them had failed.
    """

    table: AttemptTable
    machines: Sequence[MachineTime]
    rates: Mapping[int, float]
    cost: float
    type_costs: Sequence[TypeCost]
    config: Mapping[str, object]
    reason_classes: frozenset[str]
    exit_codes: frozenset[int]
    recovered: int

    def get_number(self, name: str) -> float | None:
        """Return the value of a setting that is a positive number; None if it is unknown."""
        try:
            value = float(str(self.config.get(name)))
        except ValueError:
            return None
        return value if 0 < value < math.inf else None


def list_suggestions(evidence: Evidence) -> tuple[Suggestion, ...]:
    """Return the suggestions, those that save most money first."""
    finders: tuple[Callable[[Evidence], Iterator[Suggestion]], ...] = (
        _suggest_memory, _suggest_types, _suggest_timeout, _suggest_fewer_machines, _suggest_fewer_retries,
    )  # fmt: skip
    found = [each for find in finders for each in find(evidence) if _is_worthwhile(each, evidence.cost)]
    return tuple(sorted(found, key=lambda each: (-(each.saved_cost or 0.0), -(each.saved_seconds or 0.0))))


def _is_worthwhile(suggestion: Suggestion, cost: float) -> bool:
    saved, seconds = suggestion.saved_cost or 0.0, suggestion.saved_seconds or 0.0
    return saved >= max(MIN_SAVED_USD, MIN_SAVED_SHARE * cost) or seconds >= MIN_SAVED_SECONDS


def find_highest_sum(table: AttemptTable) -> tuple[float, int] | None:
    """Return the highest sum of the peaks of programs that ran at once in one container, and how many were measured.

    Return None if the peak of a program is unknown: it may have been the highest. Failed and interrupted programs count
    like the others.
    """
    programs: dict[str, array[int]] = {}  # the numbers of the attempts of each container
    names = [name for name, _ in table.place_names]
    for number in range(len(table)):
        if has_program(table, number):
            if math.isnan(table.peaks[number]):
                return None
            programs.setdefault(names[table.places[number]], array("I")).append(number)
    if not programs:
        return None
    highest = max(_find_highest_sum_of(table, numbers) for numbers in programs.values())
    return highest, sum(map(len, programs.values()))


def _find_highest_sum_of(table: AttemptTable, numbers: Sequence[int]) -> float:
    """Return the highest sum of the peaks of those of these programs that ran at once."""
    events = [(table.starts[number], 1, table.peaks[number]) for number in numbers]
    events += [(table.ends[number], 0, -table.peaks[number]) for number in numbers]
    events.sort()  # at the same time, ends come before starts
    return max(accumulate(change for _, _, change in events))


def _suggest_memory(evidence: Evidence) -> Iterator[Suggestion]:
    """Suggest less memory per container if more containers then fit on a machine, and if the CPUs permit it."""
    names = ("MEMORY", "CPU_SHARES", "TASKS_PER_MACHINE", "DOCKER_CORES")
    memory, shares, tasks, slots = (evidence.get_number(name) for name in names)
    found = find_highest_sum(evidence.table)
    ran_out = "out of memory" in evidence.reason_classes or evidence.exit_codes.intersection(MEMORY_EXIT_CODES)
    if not (memory and shares and tasks and slots and found) or ran_out or found[1] < MIN_JOBS:
        return
    needed = estimate_container_memory(found[0])
    used = _find_cpu_use(evidence.table, shares / 1024, int(slots))
    more = 0 if used is None else min(int(memory * tasks // needed), int(tasks / used))
    if used is None or more <= tasks or needed >= memory:
        return
    what = "the programs that ran at once in a container" if slots > 1 else "a program"
    yield Suggestion(
        f"MEMORY = {needed}, CPU_SHARES = {int(shares * tasks / more)}, TASKS_PER_MACHINE = {more}",
        f"The highest peak of {what} was {found[0] / MIB:,.0f} of {memory:,.0f} MiB, of {found[1]:,} programs, failed "
        f"ones included; the worker needs up to {WORKER_MIB} MiB more. The programs used {100 * used:.0f} % of their"
        " CPUs.",
        "Larger inputs need more memory, and programs that share processors are slower.",
        saved_cost=evidence.cost * (1 - tasks / more),
    )


def _find_cpu_use(table: AttemptTable, cpus: float, slots: int) -> float | None:
    """Return the CPU time of programs as a share of what their slots may use; None if it is unknown."""
    seconds = used = 0.0
    for number in range(len(table)):
        if table.starts[number] < table.ends[number] and not math.isnan(table.cpu[number]):
            seconds += table.ends[number] - table.starts[number]
            used += table.cpu[number]
    return used / (seconds * cpus / slots) if seconds and used else None


def _suggest_types(evidence: Evidence) -> Iterator[Suggestion]:
    """Suggest to leave out the types whose jobs cost clearly more than those of the other types."""
    sums: dict[str, list[float]] = {}
    for cost in evidence.type_costs:
        entry = sums.setdefault(cost.type, [0, 0.0])
        entry[0] += cost.jobs
        entry[1] += cost.jobs * cost.cost_per_1000 / 1000
    prices = {kind: total / jobs for kind, (jobs, total) in sums.items() if jobs >= MIN_JOBS_OF_TYPE}
    for kind, price in prices.items():
        others = [(sums[other][0], prices[other]) for other in prices if other != kind]
        count = sum(jobs for jobs, _ in others)
        if not count:
            continue
        usual = sum(jobs * other for jobs, other in others) / count
        if price < MIN_PRICE_RATIO * usual:
            continue
        yield Suggestion(
            f"leave {kind} out of MACHINE_TYPE",
            f"1,000 jobs cost {1000 * price:,.2f} USD on {kind} ({sums[kind][0]:,.0f} jobs) and {1000 * usual:,.2f} USD"
            f" on the other types ({count:,.0f} jobs).",
            "These are the prices during this run; fewer types may mean more interruptions and a longer wait for"
            " machines.",
            saved_cost=sums[kind][0] * (price - usual),
        )


def _suggest_timeout(evidence: Evidence) -> Iterator[Suggestion]:
    """Suggest a shorter time limit if programs ran into a much longer one than any job needed that was done."""
    table = evidence.table
    done = [n for n in range(len(table)) if table.states[n] == DONE and table.starts[n] <= table.ends[n]]
    late = [
        n
        for n in range(len(table))
        if table.states[n] == FAILED and table.ends[n] - table.starts[n] >= table.limits[n] > 0
    ]
    if len(done) < MIN_JOBS or len(late) < MIN_TIMEOUTS or "time-out" not in evidence.reason_classes:
        return
    longest, limit = max(table.ends[n] - table.starts[n] for n in done), min(table.limits[n] for n in late)
    minutes = max(1, math.ceil(longest * TIME_RESERVE / 60))
    if minutes * 60 > MAX_TIMEOUT_SHARE * limit:
        return
    saved = [limit - minutes * 60 for _ in late]
    last_done = max(table.ends[n] for n in done)
    waited = max(table.ends[n] for n in late) - last_done  # for nothing but these jobs
    saved_cost = sum(evidence.rates.get(table.machines[n], 0.0) * part for n, part in zip(late, saved, strict=True))
    yield Suggestion(
        f"timeout_minutes = {minutes} in the Job file, instead of {limit / 60:g}",
        f"The longest program of {len(done):,} jobs that were done took {longest / 60:,.1f} minutes;"
        f" {format_count(len({table.jobs[n] for n in late}), 'job')} ran into the limit"
        f" {format_count(len(late), 'time')}.",
        "A job that needs longer than all of these would then fail.",
        saved_cost=saved_cost or None,
        saved_seconds=min(max(0.0, waited), max(saved)) or None,
    )


def _suggest_fewer_machines(evidence: Evidence) -> Iterator[Suggestion]:
    """Suggest fewer machines if some did not run a single program.

    If EC2 interrupted one of these, if one failed, or if other machines replaced some, this says nothing about how many
    were needed.
    """
    wanted = evidence.get_number("CLUSTER_MACHINES")
    useless = [
        machine for machine in evidence.machines if machine.has_ended and not any(machine.lanes) and machine.cost
    ]
    useful = len(evidence.machines) - len(useless)
    if not useless or not useful or not wanted or useful >= wanted or len(evidence.machines) > wanted:
        return
    codes = [machine.document.end_code or "" for machine in useless]
    if any(is_spot_interruption(code) or is_faulty_end(code) for code in codes):
        return
    yield Suggestion(
        f"CLUSTER_MACHINES = {useful}, instead of {wanted:.0f}",
        f"{format_count(len(useless), 'machine')} of {len(evidence.machines)} ran no program.",
        "More jobs, or slower ones, need more machines to end at the same time.",
        saved_cost=sum(machine.cost for machine in useless),
    )


def _suggest_fewer_retries(evidence: Evidence) -> Iterator[Suggestion]:
    """Suggest a single attempt if no job that failed was done on a later attempt."""
    table, retries = evidence.table, evidence.get_number("JOB_RETRIES")
    final = {table.jobs[n] for n in range(len(table)) if table.states[n] == FAILED and table.finals[n]}
    repeated = [
        n
        for n in range(len(table))
        if table.states[n] == FAILED and table.numbers[n] > 1 and table.starts[n] <= table.ends[n]
    ]
    was_interrupted = any(state == INTERRUPTED for state in table.states)
    if not retries or retries < 2 or len(final) < MIN_FINAL_FAILURES or evidence.recovered or not repeated:
        return
    caveat = "Attempts also end when something on a machine or on AWS fails for a moment."
    yield Suggestion(
        f"JOB_RETRIES = 1, instead of {retries:.0f}",
        f"None of the {len(final):,} jobs that failed was done on a later attempt.",
        f"{caveat} Machines were interrupted in this run; this does not count as a failure." if was_interrupted
        else caveat,
        saved_cost=sum(
            evidence.rates.get(table.machines[n], 0.0) * (table.ends[n] - table.starts[n]) for n in repeated
        ),
    )  # fmt: skip
