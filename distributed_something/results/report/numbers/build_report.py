"""Builds the report of a run from its attempts, its machines, and how its jobs ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import format_count
from distributed_something.observe.documents.machine_documents import MachineDocument, Pause
from distributed_something.results.causes import FailureGroup
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.report.data import (
    JobRows,
    PausedMachine,
    Provenance,
    Report,
    Timeline,
    UseAmounts,
    Verdict,
)
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.failure_causes import build_failure_causes
from distributed_something.results.report.numbers.histograms import (
    build_memory_histogram,
    build_processor_histogram,
    build_time_histogram,
)
from distributed_something.results.report.numbers.job_rows import (
    RowSource,
    build_job_rows,
    count_lost_jobs,
    count_recovered_jobs,
)
from distributed_something.results.report.numbers.machine_time import (
    MachineFacts,
    MachineTime,
    build_machine_times,
    find_rates,
    list_interruptions,
)
from distributed_something.results.report.numbers.suggestions import Evidence, list_suggestions
from distributed_something.results.report.numbers.timeline import (
    MAX_LANES,
    MAX_PIECES,
    JobEnds,
    build_timeline,
    count_lanes,
    count_pieces,
    find_job_ends,
)
from distributed_something.results.report.numbers.uses import compute_type_costs, compute_use_costs, round_use_costs

MIN_JOBS_FOR_99_PERCENT = 200


@dataclass(frozen=True)
class RunFacts:
    """What a report needs besides the attempts. Times are in seconds since 1970.

    `state`: as in `status`. `at`: when this was observed. `ended`: None during the run. `cost`: as the monitor
    estimated it in USD, or None. `config`: the values from the run's document, {} if there is none. `format_retry`:
    returns the command that runs a group's jobs again. `mask`: replaces a text that contains a secret.
    `run_job_command`: as in Report. `pauses`: of the run's containers.
    """

    file: MonitorFile
    region: str
    state: str
    at: float
    ended: float | None
    running: int
    cost: float | None
    machines: Sequence[MachineDocument]
    config: Mapping[str, Any]
    provenance: Provenance
    format_retry: Callable[[FailureGroup], str]
    mask: Callable[[str], str]
    run_job_command: str = ""
    pauses: Sequence[Pause] = ()

    @property
    def started(self) -> float:
        return self.file.MONITOR_START_TIME / 1000


def build_report(facts: RunFacts, outcome: RunOutcome, table: AttemptTable) -> Report:
    """Return the report. OSError is not caught: the attempts' text is in a temporary file."""
    file = facts.file
    end = facts.ended if facts.ended is not None else facts.at
    machine_facts = MachineFacts(
        file.MONITOR_TASKS_PER_MACHINE, file.MONITOR_JOBS_PER_TASK, max(0.0, end - facts.started),
        facts.ended is not None, facts.cost, file.MONITOR_MACHINE_PRICE,
    )  # fmt: skip
    machines = build_machine_times(table, facts.machines, machine_facts)
    has_cost = bool(machines) and all(machine.price is not None for machine in machines)
    cost, uses = round_use_costs(compute_use_costs(table, machines)) if has_cost else (None, None)
    rates = find_rates(table, machines) if has_cost else None
    failures, left_out = build_failure_causes(
        table, outcome.groups, machines if has_cost else None, facts.format_retry, facts.mask
    )
    latest = max((machine.ended for machine in machines), default=machine_facts.now)
    ends, jobs = find_job_ends(table, latest), _count_jobs(outcome, table)
    source = RowSource(table, file.keys, table.is_last_end, facts.mask)
    rows, names = build_job_rows(source, outcome.counts.ended - outcome.counts.repeated - outcome.counts.replaced)
    type_costs, recovered = compute_type_costs(table, machines), count_recovered_jobs(table)
    evidence = Evidence(
        table, machines, rates or {}, cost or 0.0, type_costs, facts.config,
        frozenset(group.reason_class for group in outcome.groups),
        frozenset(job.exit_code for job in outcome.all_failures if job.exit_code is not None), recovered,
    )  # fmt: skip
    return Report(
        app=file.MONITOR_APP_NAME, run=file.run, region=facts.region, made=facts.at,
        verdict=_build_verdict(facts, outcome, table, machines, ends, cost, uses),
        failures=failures, failures_left_out=left_out, recovered=recovered, lost=count_lost_jobs(table),
        suggestions=list_suggestions(evidence) if facts.ended is not None else (),
        timeline=_build_timeline(table, machines, ends, jobs, rows, names),
        program_seconds=build_time_histogram(table), peak_memory=build_memory_histogram(table),
        processors=build_processor_histogram(table, _find_slot_cpus(evidence)),
        type_costs=type_costs, jobs=rows, provenance=_add_assumptions(facts.provenance, machines),
        run_job_command=facts.run_job_command, paused=list_paused_machines(facts, machines),
    )  # fmt: skip


def list_paused_machines(facts: RunFacts, machines: Sequence[MachineTime]) -> tuple[PausedMachine, ...]:
    """Return the machines that were paused. A pause ends at the latest with its machine, and with the run."""
    ends = {machine.document.machine: facts.started + machine.ended for machine in machines}
    seconds: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for pause in sorted(facts.pauses, key=lambda pause: pause.since):
        end = min(facts.ended or facts.at, ends.get(pause.machine, math.inf), pause.until or math.inf)
        seconds[pause.machine] = seconds.get(pause.machine, 0.0) + max(0.0, end - pause.since)
        reasons[pause.machine] = pause.reason
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return tuple(PausedMachine(name, total, facts.mask(reasons[name])) for name, total in ordered if total)


def _add_assumptions(provenance: Provenance, machines: Sequence[MachineTime]) -> Provenance:
    """Return the provenance with what the cost assumes where it is not known."""
    assumed = sum(machine.is_estimated for machine in machines)
    free = sum(machine.is_free for machine in machines)
    sentences = [
        f"The price or the times of {format_count(assumed, 'machine')} of {len(machines):,} are not known; they are"
        " estimates." if assumed else "",
        f"EC2 took back {format_count(free, 'machine')} in the first hour, which cost nothing." if free else "",
    ]  # fmt: skip
    return replace(provenance, left_out=(*provenance.left_out, *filter(None, sentences)))


def _count_jobs(outcome: RunOutcome, table: AttemptTable) -> int:
    """Return how many jobs the run has, each once."""
    counts = outcome.counts
    once = counts.done + counts.already_there + counts.failed
    if outcome.submitted is None:
        return once + outcome.left
    return max(once, outcome.submitted - counts.repeated - counts.replaced)


def _build_verdict(
    facts: RunFacts, outcome: RunOutcome, table: AttemptTable, machines: Sequence[MachineTime], ends: JobEnds,
    cost: float | None, uses: UseAmounts | None,
) -> Verdict:  # fmt: skip
    counts, end = outcome.counts, facts.ended if facts.ended is not None else facts.at
    count_at_99 = -(-len(ends.run) * 99 // 100)
    has_quantile = len(ends.run) >= MIN_JOBS_FOR_99_PERCENT and facts.ended is not None
    submitted = None if outcome.submitted is None else outcome.submitted - counts.repeated - counts.replaced
    return Verdict(
        state=facts.state, submitted=submitted, done=counts.done, already_there=counts.already_there,
        failed=counts.failed, left=outcome.left + outcome.unrecorded, running=facts.running,
        started=facts.started, ended=facts.ended,
        elapsed_seconds=max(0.0, end - facts.started), cost=cost,
        is_cost_estimated=any(machine.is_estimated for machine in machines), uses=uses,
        machines=max(len(machines), outcome.machines), interruptions=len(list_interruptions(machines)),
        seconds_to_99_percent=ends.run[count_at_99 - 1] if has_quantile else None, unread=outcome.unread + table.unread,
    )  # fmt: skip


def _build_timeline(
    table: AttemptTable, machines: Sequence[MachineTime], ends: JobEnds, jobs: int, rows: JobRows,
    names: dict[int, str],
) -> Timeline | None:  # fmt: skip
    """Return the timeline with a lane for each slot, unless there are too many lanes or programs."""
    has_lanes = count_lanes(machines) <= MAX_LANES and count_pieces(machines) <= MAX_PIECES
    if has_lanes and rows.is_sample:  # then the names of the other jobs are not known yet
        shown = {number for machine in machines for lane in machine.lanes for number in lane}
        names = {number: str(text["job"]) for number, text in table.iter_rows(shown.__contains__)}
    return build_timeline(table, machines, ends, jobs, names if has_lanes else None)


def _find_slot_cpus(evidence: Evidence) -> float | None:
    shares, slots = evidence.get_number("CPU_SHARES"), evidence.get_number("DOCKER_CORES")
    return shares / 1024 / slots if shares and slots else None
