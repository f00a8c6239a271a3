"""Made-up reports of runs with 50, 10,000, or 1,000,000 jobs, for tests of the page. Equal calls return equal ones."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from distributed_something.results.causes import FailureGroup, SharedValue
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.report.data import (
    USES,
    EarlierAttempt,
    FailureCause,
    Histogram,
    JobRow,
    JobRows,
    Lane,
    LaneRow,
    Piece,
    Provenance,
    Report,
    Suggestion,
    Timeline,
    TypeCost,
    UseAmounts,
    Verdict,
)

STARTED = 1_795_853_560.0  # 28 November 2026, 08:12:40 UTC
PREFIX = "runs/CellAtlas/20261128T081240Z/jobs/"
SLOTS, BINS = 4, 250
MEMORY_LIMIT = 3500 * 2**20
PLACES = (("m6i.xlarge", "us-east-1c"), ("m5.xlarge", "us-east-1a"), ("m5a.xlarge", "us-east-1b"))
OUT_OF_MEMORY, CRASH, TIME_OUT = "F3a9b1c", "F07c2de", "Fe5104a"
CAUSES = {
    OUT_OF_MEMORY: ("out of memory: killed at the limit of 3,500 MiB", "out of memory"),
    CRASH: ("exit code 1: ValueError: mask is empty after threshold #", "program"),
    TIME_OUT: ("timed out after 45 minutes", "time-out"),
}
LINES = {
    OUT_OF_MEMORY: ("background: rolling ball, radius 50", "segmenting nuclei: 27 planes at once (2.5 GiB float64)"),
    CRASH: (
        "Traceback (most recent call last):", '  File "/opt/atlas/segment.py", line 214, in <module>', "    main()",
        "ValueError: mask is empty after threshold 0.58",
    ),
    TIME_OUT: ("segmenting nuclei: 9 planes", "declumping: 1 object of 4,412,870 px"),
}  # fmt: skip


@dataclass
class Simulation:
    """What happened in a simulated run: a lane per slot, a row per job, and the attempts by state."""

    lanes: list[Lane] = field(default_factory=list)
    rows: list[JobRow] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)


def build_report(jobs: int, seed: int = 1) -> Report:
    """Return a report with this many jobs, about 0.6 % of them failed and 3 % already there."""
    randomness = random.Random(f"{seed} {jobs}")
    simulated = min(jobs, 10_000)  # more jobs would be as many times as much of the same
    factor = jobs // simulated
    run = _simulate_run(simulated, randomness)
    end = max(lane.ended or 0.0 for lane in run.lanes)
    states = Counter(row.state for row in run.rows)
    rows = _repeat_failures(run.rows, factor)
    failures = _list_causes(rows)
    slots, uses = _measure_slots(run.lanes, end)
    price = 0.092 / SLOTS / 3600 * factor
    amounts = UseAmounts(**{use: round(seconds * price, 2) for use, seconds in uses.items()})
    verdict = Verdict(
        state="done", submitted=jobs, done=states["done"] * factor, already_there=states["skipped"] * factor,
        failed=states["failed"] * factor, left=0, running=0, started=STARTED, ended=STARTED + end, elapsed_seconds=end,
        cost=round(sum(getattr(amounts, use) for use in USES), 2), is_cost_estimated=True, uses=amounts,
        machines=len(run.lanes) // SLOTS * factor,
        interruptions=len({lane.machine for lane in run.lanes if lane.end_reason}) * factor,
        seconds_to_99_percent=_find_quantile_end(run.rows, 0.99) if jobs >= 200 else None,
    )  # fmt: skip
    return Report(
        app="CellAtlas", run="20261128T081240Z", region="us-east-1", made=STARTED + end + 240, verdict=verdict,
        failures=failures, failures_left_out=0,
        recovered=factor * sum(1 for row in run.rows if row.earlier and row.state == "done"),
        suggestions=_list_suggestions(jobs), timeline=_build_timeline(run, end, slots, factor),
        program_seconds=_build_histogram("seconds", run.rows, factor),
        peak_memory=_build_histogram("bytes", run.rows, factor),
        processors=_build_histogram("processors", run.rows, factor), type_costs=_list_type_costs(run, factor),
        jobs=JobRows(tuple(rows), jobs, factor > 1, *_count_retried(rows, factor)), provenance=_build_provenance(jobs),
        run_job_command="python run.py runJob files/atlasJob.json --id",
    )  # fmt: skip


def _count_retried(rows: list[JobRow], factor: int) -> tuple[int, int]:
    """Return how many jobs had several attempts, and how many of them were done. The failed ones are all in `rows`."""
    retried = Counter(row.state for row in rows if (row.attempts or 0) > 1)
    recovered = retried["done"] * factor
    return recovered + retried["failed"], recovered


def _simulate_run(jobs: int, randomness: random.Random) -> Simulation:
    """Simulate machines whose slots take the next job whenever they are free."""
    run = Simulation()
    machines = max(3, min(48, jobs // 200))
    free: list[tuple[float, int, int]] = []
    launched = {machine: randomness.uniform(5, 60) + (1800 if machine % 12 == 11 else 0) for machine in range(machines)}
    for machine in range(machines):
        for slot in range(SLOTS):
            heapq.heappush(free, (launched[machine] + 170 + randomness.uniform(0, 20), machine, slot))
    pieces: dict[tuple[int, int], list[Piece]] = defaultdict(list)
    for number in range(jobs):
        name, group = _name_job(number)
        if number % 32 == 31:
            run.rows.append(_build_row(name, group, "skipped", (1, None, 4.0, ""), ()))
            continue
        _simulate_job(run, (name, group, number), free, pieces, randomness)
    _add_lanes(run, pieces, launched)
    return run


def _repeat_failures(rows: list[JobRow], factor: int) -> list[JobRow]:
    """Return the rows with every failed one `factor` times, because a sample has all failures."""
    repeated = list[JobRow]()
    for row in rows:
        for number in range(factor if row.state == "failed" else 1):
            name = f"{row.job[:-3]}{number:03x}" if number else row.job
            record = row.record_key.replace(row.job, name)
            repeated.append(replace(row, job=name, record_key=record))
    return repeated


def _name_job(number: int) -> tuple[str, dict[str, str]]:
    plate, well = f"BR001170{number // 384:02d}", f"{chr(65 + number % 384 // 24)}{number % 24 + 1:02d}"
    return f"{plate}-{well}-{number * 2654435761 % 2**40:010x}", {"plate": plate, "well": well}


def _choose_cause(number: int, group: dict[str, str]) -> str:
    if group["plate"].endswith("01" if number > 50 else "00") and number % 9 == 4:
        return OUT_OF_MEMORY
    if group["well"] == "P24" or number == 20:
        return CRASH
    return TIME_OUT if number % 3301 == 3300 else ""


def _simulate_job(
    run: Simulation,
    job: tuple[str, dict[str, str], int],
    free: list[tuple[float, int, int]],
    pieces: dict[tuple[int, int], list[Piece]],
    randomness: random.Random,
) -> None:
    name, group, number = job
    cause = _choose_cause(number, group)
    states = ["failed"] * 3 if cause else ["done"]
    if not cause and number % 401 == 7:
        states = ["failed", "done"]
    elif not cause and number % 907 == 11:
        states = ["interrupted", "done"]
    earlier = list[EarlierAttempt]()
    for attempt, state in enumerate(states, 1):
        start, machine, slot = heapq.heappop(free)
        seconds = 2700.0 if cause == TIME_OUT else randomness.lognormvariate(math.log(216), 0.35)
        seconds *= 0.5 if state != "done" and cause != TIME_OUT else 1
        piece = Piece(round(start, 1), round(start + seconds, 1), state, name)
        pieces[machine, slot].append(piece)
        run.pieces.append(piece)
        heapq.heappush(free, (start + seconds + randomness.uniform(0.5, 3), machine, slot))
        if attempt < len(states):
            reason = CAUSES[cause][0] if cause else "the upload failed: 503 Slow Down" if state == "failed" else "spot"
            earlier.append(EarlierAttempt(state, reason, start, seconds, f"i-{machine:04x}"))
        else:
            memory = MEMORY_LIMIT if cause == OUT_OF_MEMORY else int(randomness.gauss(1.45, 0.16) * 2**30)
            row = _build_row(name, group, state, (attempt, seconds, start, f"i-{machine:04x}"), tuple(earlier))
            run.rows.append(_set_outcome(row, cause, memory))


def _build_row(
    name: str,
    group: dict[str, str],
    state: str,
    attempt: tuple[int, float | None, float, str],
    earlier: tuple[EarlierAttempt, ...],
) -> JobRow:
    attempts, seconds, started, machine = attempt
    return JobRow(
        name, state, attempts, started, seconds, None, None, machine, "", "",
        f"s3://cell-atlas/results/{group['plate']}/{group['well']}/",
        f"{PREFIX}{name}.json", group, earlier, is_program_start=state != "skipped", ended=started + (seconds or 0.3),
    )  # fmt: skip


def _set_outcome(row: JobRow, cause: str, memory: int) -> JobRow:
    code = {"": 0, CRASH: 1, OUT_OF_MEMORY: 137, TIME_OUT: None}[cause]
    reason = CAUSES[cause][0] if cause else ""
    return replace(row, exit_code=code, peak_memory_bytes=memory, cause=cause, reason=reason)


def _add_lanes(run: Simulation, pieces: dict[tuple[int, int], list[Piece]], launched: dict[int, float]) -> None:
    for machine, start in launched.items():
        type_, zone = PLACES[machine % 7 % 3]
        lanes = [pieces[machine, slot] for slot in range(SLOTS)]
        is_interrupted = any(piece.state == "interrupted" for lane in lanes for piece in lane)
        end = max((piece.end for lane in lanes for piece in lane), default=start + 200) + 240
        run.lanes += [
            Lane(f"i-{machine:04x}", type_, zone, machine % 10 != 3, slot, start, end,
                 "EC2 reclaimed it" if is_interrupted else None, tuple(lane))
            for slot, lane in enumerate(lanes)
        ]  # fmt: skip


def _measure_slots(lanes: list[Lane], end: float) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the mean number of slots by use in each bin, and the seconds of slots by use."""
    bin_seconds = end / BINS
    slots = {use: [0.0] * BINS for use in USES}
    uses = dict.fromkeys(USES, 0.0)

    def add_use(use: str, start: float, stop: float) -> None:
        uses[use] += max(0.0, stop - start)
        for number in range(int(start / bin_seconds), min(BINS, int(stop / bin_seconds) + 1)):
            overlap = min(stop, (number + 1) * bin_seconds) - max(start, number * bin_seconds)
            slots[use][number] += max(0.0, overlap) / bin_seconds

    for lane in lanes:
        last = lane.pieces[0].start if lane.pieces else lane.ended or end
        add_use("startup", lane.launched, last)
        for piece in lane.pieces:
            add_use("waiting", last, piece.start)
            add_use({"done": "work"}.get(piece.state, piece.state), piece.start, piece.end)
            last = piece.end
        add_use("idle", last, lane.ended or end)
    return slots, uses


def _build_timeline(run: Simulation, end: float, slots: dict[str, list[float]], factor: int) -> Timeline:
    ends = sorted((row.started or 0.0) + (row.seconds or 0.0) for row in run.rows)
    edges = [end / BINS * number for number in range(1, BINS + 1)]
    left = tuple(factor * sum(1 for moment in ends if moment > edge) for edge in edges)
    marks = {percent: ends[math.ceil(len(ends) * percent / 100) - 1] for percent in (50, 90, 99)}
    tail_seconds, tail_jobs = end - marks[99], sum(1 for moment in ends if moment > marks[99])
    has_tail = len(ends) > 200 and tail_seconds > 0.1 * end
    is_aggregated = factor > 1
    return Timeline(
        bin_seconds=end / BINS,
        slots={use: tuple(value * factor for value in values) for use, values in slots.items()},
        jobs_left=left, marks=marks, tail=(tail_seconds, factor * tail_jobs) if has_tail else None,
        lanes=() if is_aggregated else tuple(run.lanes), rows=_build_rows(run, end, factor) if is_aggregated else (),
        interruptions=tuple(sorted({
            lane.machine: piece.end for lane in run.lanes for piece in lane.pieces if piece.state == "interrupted"
        }.values())),
    )  # fmt: skip


def _build_rows(run: Simulation, end: float, factor: int) -> tuple[LaneRow, ...]:
    """Return a row per simulated machine, as if it were several."""
    rows = list[LaneRow]()
    machines: dict[str, list[Lane]] = defaultdict(list)
    for lane in run.lanes:
        machines[lane.machine].append(lane)
    for lanes in sorted(machines.values(), key=lambda lanes: (str(lanes[0].type), lanes[0].machine)):
        slots, _ = _measure_slots(lanes, end)
        totals = [sum(values) for values in zip(*slots.values(), strict=True)]
        busy = tuple(work / total if total else 0.0 for work, total in zip(slots["work"], totals, strict=True))
        failed = tuple(bad / total if total else 0.0 for bad, total in zip(slots["failed"], totals, strict=True))
        rows.append(LaneRow(factor, busy, failed, lanes[0].type, lanes[0].zone))
    return tuple(rows)


def _build_histogram(unit: str, rows: Iterable[JobRow], factor: int) -> Histogram:
    if unit == "seconds":
        edges = [10 * 1.19**number for number in range(36)]
    else:
        step = MEMORY_LIMIT / 40 if unit == "bytes" else 1 / 40
        edges = [step * number for number in range(41)]
    done, failed, values = [0] * (len(edges) - 1), [0] * (len(edges) - 1), list[float]()
    for row in rows:
        value = _find_value(unit, row)
        if value is None:
            continue
        number = next((n for n in range(len(edges) - 1) if value < edges[n + 1]), len(edges) - 2)
        if row.state == "failed":
            failed[number] += factor
        else:
            done[number] += factor
            values.append(value)
    limits = {"seconds": None, "bytes": float(MEMORY_LIMIT), "processors": 1.0}
    median = sorted(values)[len(values) // 2] if len(values) >= 20 else None
    return Histogram(unit, tuple(edges), tuple(done), tuple(failed), limits[unit], median)


def _find_value(unit: str, row: JobRow) -> float | None:
    if unit == "seconds" or row.seconds is None:
        return row.seconds
    return row.peak_memory_bytes if unit == "bytes" else min(0.99, 0.4 + 0.1 * math.log10(row.seconds))


def _list_causes(rows: list[JobRow]) -> tuple[FailureCause, ...]:
    causes = list[FailureCause]()
    for id_, (text, class_) in CAUSES.items():
        members = [row for row in rows if row.cause == id_]
        if not members:
            continue
        failed = tuple(
            FailedJob(
                row.job, STARTED + (row.started or 0) + (row.seconds or 0), row.reason, class_, row.attempts,
                row.exit_code, LINES[id_], f"s3://cell-atlas/{PREFIX}{row.job}.3.log.txt", LINES[id_][-1],
                group=row.group,
            )
            for row in members
        )  # fmt: skip
        plates = Counter(row.group["plate"] for row in members)
        (plate, most), *_ = plates.most_common(1)
        shared = (SharedValue("plate", plate, most, len(members)),) if len(members) > 3 and most > 1 else ()
        group = FailureGroup(id_, text, class_, members[0].exit_code, failed, failed[0], failed[0].ended, shared)
        command = f"python run.py retry files/CellAtlasSpotFleetRequestId.json --cause {id_}"
        machines = {attempt.machine for row in members for attempt in (row, *row.earlier)}
        attempts, names = sum(row.attempts or 0 for row in members), tuple(row.job for row in members)
        causes.append(FailureCause(group, attempts, len(machines), 0.0021 * len(members), command, names))
    return tuple(sorted(causes, key=lambda cause: -len(cause.jobs)))


def _find_quantile_end(rows: list[JobRow], share: float) -> float:
    ends = sorted((row.started or 0.0) + (row.seconds or 0.0) for row in rows)
    return ends[math.ceil(len(ends) * share) - 1]


def _list_suggestions(jobs: int) -> tuple[Suggestion, ...]:
    if jobs < 200:
        return ()
    return (
        Suggestion("MEMORY = 2600, TASKS_PER_MACHINE = 5", "Jobs that are done used at most 2.1 of 3.5 GiB.",
                   "Programs that share processors are a little slower.", saved_cost=2.91 * jobs / 10_000),
        Suggestion("timeout_minutes = 40", "The longest job that is done took 29 minutes.",
                   "Jobs with more data may need longer.", saved_seconds=900.0),
    )  # fmt: skip


def _list_type_costs(run: Simulation, factor: int) -> tuple[TypeCost, ...]:
    places = {lane.machine: (lane.type or "", lane.zone, lane.is_spot) for lane in run.lanes}
    counts = Counter(places[row.machine] for row in run.rows if row.state == "done")
    return tuple(
        TypeCost(type_, zone, is_spot, count * factor, 1.3 + 0.17 * number)
        for number, ((type_, zone, is_spot), count) in enumerate(sorted(counts.items()))
    )


def _build_provenance(jobs: int) -> Provenance:
    return Provenance(
        (("records", f"s3://cell-atlas/{PREFIX}"),
         ("image", "example/cell-atlas:2.3.0 sha256:5b1f0c2e9a4d8c71b6f3aa0d92e477f1c08e6b5f4a12d9e3c7708f6b1e2d4c95"),
         ("Job file", f"files/atlasJob.json (SHA-256 9f0c4be1a7), {jobs:,} jobs"),
         ("owner", "lab-user"), ("times", "in UTC; on axes, since the start of the run")),
        (("APP_NAME", "'CellAtlas'"), ("MEMORY", "3500"), ("PROGRAM_SECRET", "'***'")),
        ("Requests to S3 and SQS are not included.", "Logs and storage are not included."),
    )  # fmt: skip


def replace_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a report, or a part of one, with every text in it changed, except states and units."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(replace_texts(item, change) for item in value)
    if isinstance(value, dict):
        return {
            change(key) if isinstance(key, str) else key: replace_texts(item, change) for key, item in value.items()
        }
    if not is_dataclass(value) or isinstance(value, type):
        return value
    kept = {"state", "unit", "slots"}
    changed = {
        item.name: replace_texts(getattr(value, item.name), change) for item in fields(value) if item.name not in kept
    }
    return replace(value, **changed)
