"""The numbers of the report: golden ones that the test computes in another way, and properties of all runs."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.observe.documents.machine_documents import MachineDocument
from distributed_something.results.report.data import USES
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.histograms import build_memory_histogram, build_time_histogram
from distributed_something.results.report.numbers.job_rows import count_recovered_jobs
from distributed_something.results.report.numbers.machine_time import (
    RECLAIMED_CODE,
    MachineFacts,
    MachineTime,
    build_machine_times,
    iter_segments,
)
from distributed_something.results.report.numbers.timeline import BINS, build_timeline, find_job_ends, find_tail
from distributed_something.results.report.numbers.uses import (
    compute_type_costs,
    compute_use_costs,
    iter_lost_costs,
    round_use_costs,
)
from tests.support.fakes import START

MINUTE = 60.0


def build_time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="milliseconds")


def build_attempt(job: str, start: float | None, end: float | None, state: str = "done", **more: Any) -> dict[str, Any]:
    """Return a line of a journal. `start` and `end`: of the program, in seconds since the run's start."""
    fetch = more.pop("fetch", None if start is None else start - 1)
    ended = more.pop("ended", None if end is None else end + 1)
    return {
        "job": job, "state": state, "final": state != "interrupted", "attempts": 1, "message_id": job, "slot": 0,
        "machine": "i-1", "container": "c-1", "slots": 2, "started": build_time(fetch),
        "fetch_started": build_time(fetch), "program_started": build_time(start), "program_ended": build_time(end),
        "ended": build_time(ended), **more,
    }  # fmt: skip


def build_table(*lines: dict[str, Any]) -> AttemptTable:
    table = AttemptTable(START, START + 86_400)
    for line in lines:
        table.add_line(line)
    assert not table.problem
    return table


def build_machines(
    table: AttemptTable, *documents: MachineDocument, now: float = 3600.0, **facts: Any
) -> list[MachineTime]:
    return build_machine_times(table, documents, MachineFacts(1, 2, now, has_ended=True, **facts))


def describe_machine(
    name: str = "i-1", launched: float = 0.0, ended: float | None = 3600.0, **more: Any
) -> MachineDocument:
    end = None if ended is None else START + ended
    values = {"type": "m5.large", "zone": "us-east-1a", "is_spot": True, "slots": 2, "price": 0.36} | more
    return MachineDocument(name, launched=START + launched, ended=end, **values)


def test_the_uses_of_a_machine_are_what_a_look_at_each_second_shows() -> None:
    lines = [
        build_attempt("a", 120, 600),
        build_attempt("b", 630, 1200, "failed", fetch=610, attempts=1, final=False),
        build_attempt("b", 1500, 1800, "failed", fetch=1450, attempts=2),
        build_attempt("c", 240, 1000, slot=1),
        build_attempt("d", 1001, 3000, "interrupted", fetch=900, slot=1),
    ]
    table = build_table(*lines)
    (machine,) = build_machines(table, describe_machine())
    costs = compute_use_costs(table, [machine])
    seen: Counter[str] = Counter()
    for second in range(3600):
        for slot in (0, 1):
            seen[classify_moment(lines, slot, second + 0.5)] += 1
    assert {use: round(cost / 0.36 * 2 * 3600) for use, cost in costs.items()} == {use: seen[use] for use in USES}
    assert sum(costs.values()) == pytest.approx(0.36)


def classify_moment(lines: list[dict[str, Any]], slot: int, at: float) -> str:
    """Return what a slot did at a moment, from the definitions in docs/report.md."""
    times = [
        {
            key: datetime.fromisoformat(line[key]).timestamp() - START
            for key in ("fetch_started", "program_started", "program_ended")
        }
        | {"state": line["state"]}
        for line in lines
        if line["slot"] == slot
    ]
    for line in times:
        if line["program_started"] <= at < line["program_ended"]:
            return {"done": "work"}.get(line["state"], line["state"])
    if at < min(line["program_started"] for line in times):
        return "startup"
    return "waiting" if any(line["fetch_started"] <= at < line["program_started"] for line in times) else "idle"


def build_program(start: float, **more: Any) -> dict[str, Any]:
    """Return a program that runs, as the journals' first lines name it."""
    place = {"machine": "i-1", "container": "c-1", "slots": 2, "slot": 0}
    return place | {"program_started": build_time(start)} | more


def build_running_table(*programs: dict[str, Any]) -> AttemptTable:
    table = build_table(build_attempt("a", 100, 300))
    for program in programs:
        table.add_program(program)
    assert not table.problem
    return table


def test_programs_that_run_now_are_work_in_the_bar_the_slots_and_the_lanes() -> None:
    table = build_running_table(build_program(400), build_program(50, slot=1))
    document = describe_machine(ended=None)
    (machine,) = machines = build_machine_times(table, [document], MachineFacts(1, 2, 1000.0, has_ended=False))
    seconds = {use: round(cost / 0.36 * 2 * 3600) for use, cost in compute_use_costs(table, machines).items()}
    assert seconds == {
        "work": 200 + 600 + 950, "startup": 100 + 50, "waiting": 0, "idle": 100, "failed": 0, "interrupted": 0
    }  # fmt: skip
    timeline = build_timeline(table, machines, find_job_ends(table), 9, {0: "a", 1: "", 2: ""})
    assert timeline is not None
    assert timeline.slots["work"][-1] == pytest.approx(2)
    states = [[(piece.state, piece.job) for piece in lane.pieces] for lane in timeline.lanes]
    assert states == [[("running", "")], [("done", "a"), ("running", "")]]
    (cost,) = compute_type_costs(table, machines)
    assert cost.jobs == 1  # only that which is done
    assert machine.ended == 1000


@pytest.mark.parametrize(("has_ended", "end"), [(True, None), (False, 500.0)])
def test_programs_do_not_run_any_more_if_the_run_or_their_machine_has_ended(has_ended: bool, end: float | None) -> None:
    table = build_running_table(build_program(400))
    facts = MachineFacts(1, 2, 1000.0, has_ended=has_ended)
    machines = build_machine_times(table, [describe_machine(ended=end)], facts)
    assert compute_use_costs(table, machines)["work"] == pytest.approx(0.36 / 3600 / 2 * 200)


def test_a_container_that_was_killed_does_not_run_beside_the_one_that_replaced_it() -> None:
    programs = [build_program(400 + 100 * n, container=f"c-{n}", slot=slot) for n in (2, 1) for slot in (0, 1)]
    table = build_running_table(*programs)
    facts = MachineFacts(1, 2, 1000.0, has_ended=False)
    (machine,) = build_machine_times(table, [describe_machine(ended=None)], facts)
    assert len(machine.lanes) == 2
    assert compute_use_costs(table, [machine])["work"] == pytest.approx(0.36 / 3600 / 2 * (200 + 2 * 400))


@pytest.mark.parametrize("program", [{"slot": "x"}, {"program_started": 5}, {"machine": None, "container": None}])
def test_programs_that_are_not_valid_do_not_end_the_report(program: dict[str, Any]) -> None:
    table = build_running_table(build_program(400) | program)
    assert build_machine_times(table, [], MachineFacts(1, 2, 1000.0, has_ended=False))


def test_slots_over_time_and_jobs_left_are_what_each_moment_shows() -> None:
    lines = [build_attempt(f"j{n}", 100 + 37 * n, 100 + 37 * (n + 1) - 2, slot=0, attempts=1) for n in range(50)]
    table = build_table(*lines)
    machines = build_machines(table, describe_machine())
    timeline = build_timeline(table, machines, find_job_ends(table), 50, {n: f"j{n}" for n in range(50)})
    assert timeline is not None
    assert timeline.bin_seconds == pytest.approx(3600 / BINS)
    for number in (0, 10, 50, 100, 200, BINS - 1):
        low, high = number * timeline.bin_seconds, (number + 1) * timeline.bin_seconds
        work = sum(max(0.0, min(high, 100 + 37 * (n + 1) - 2) - max(low, 100 + 37 * n)) for n in range(50))
        assert timeline.slots["work"][number] == pytest.approx(work / timeline.bin_seconds)
        assert sum(amounts[number] for amounts in timeline.slots.values()) == pytest.approx(2)
        assert timeline.jobs_left[number] == sum(100 + 37 * (n + 1) - 1 > high for n in range(50))
    assert timeline.marks == {50: pytest.approx(100 + 37 * 25 - 1), 90: pytest.approx(100 + 37 * 45 - 1)}
    first, second = timeline.lanes
    assert [piece.job for piece in first.pieces] == [f"j{n}" for n in range(50)]
    assert second.pieces == ()
    assert (first.machine, first.type, first.launched, first.ended) == ("i-1", "m5.large", 0.0, 3600.0)


def test_a_machine_that_ec2_takes_in_its_first_hour_is_free() -> None:
    table = build_table(build_attempt("a", 60, 600))
    reclaimed = describe_machine(ended=3000.0, end_code=RECLAIMED_CODE)
    assert sum(compute_use_costs(table, build_machines(table, reclaimed)).values()) == 0
    later = describe_machine(ended=3700.0, end_code=RECLAIMED_CODE)
    assert sum(compute_use_costs(table, build_machines(table, later)).values()) == pytest.approx(0.36 * 3700 / 3600)


def test_a_run_without_documents_costs_what_the_monitor_estimated() -> None:
    table = build_table(build_attempt("a", 60, 600), build_attempt("b", 60, 1200, machine="i-2", container="c-2"))
    machines = build_machines(table, cost=1.5)
    assert sum(compute_use_costs(table, machines).values()) == pytest.approx(1.5)
    assert all(machine.is_estimated for machine in machines)
    assert [(machine.document.type, machine.launched, machine.ended) for machine in machines] == [
        (None, 59.0, 601.0), (None, 59.0, 1201.0)
    ]  # fmt: skip


def test_an_on_demand_machine_gets_what_is_left_of_the_estimate() -> None:
    table = build_table(build_attempt("a", 60, 600))
    documents = [describe_machine(), describe_machine("i-2", is_spot=False, price=None)]
    spot, on_demand = build_machines(table, *documents, cost=1.0)
    assert (spot.price, on_demand.price) == (0.36, pytest.approx(0.64))
    assert (spot.is_estimated, on_demand.is_estimated) == (False, True)


def test_a_container_that_replaces_another_gets_its_lanes() -> None:
    table = build_table(
        build_attempt("a", 60, 600), build_attempt("b", 60, 700, slot=1),
        build_attempt("c", 800, 900, container="c-2"), build_attempt("d", 800, 1000, container="c-2", slot=1),
    )  # fmt: skip
    (machine,) = build_machines(table, describe_machine())
    assert [len(lane) for lane in machine.lanes] == [2, 2]


def test_an_attempt_that_failed_before_its_program_uses_its_slot_while_that_is_free() -> None:
    lines = [
        build_attempt("missing", None, None, "failed", fetch=20, ended=50),
        build_attempt("a", 100, 400),
        build_attempt("gone", None, None, "failed", fetch=380, ended=460),  # the first 20 s during the program
        build_attempt("late", None, None, "failed", fetch=470, ended=600),  # ends during the next program
        build_attempt("b", 500, 700, fetch=450),
        build_attempt("c", 60, 800, slot=1),
        build_attempt("unknown", None, None, "failed", fetch=None, ended=900),
    ]
    (machine,) = build_machines(table := build_table(*lines), describe_machine())
    costs = compute_use_costs(table, [machine])
    seconds = {use: round(cost / 0.36 * 2 * 3600) for use, cost in costs.items()}
    assert (seconds["failed"], seconds["startup"], seconds["work"]) == (30 + 60 + 30, 20 + 60, 300 + 200 + 740)
    assert seconds["waiting"] == 1
    lost = dict(iter_lost_costs(table, [machine]))
    assert {lines[number]["job"]: round(cost / 0.36 * 2 * 3600) for number, cost in lost.items()} == {
        "missing": 30, "gone": 60, "late": 30
    }  # fmt: skip
    assert sum(lost.values()) == pytest.approx(costs["failed"])


def test_many_machines_are_rows_of_one_type_and_zone_each() -> None:
    places = [("m5.large", "us-east-1a")] * 300 + [("m5.large", "us-east-1b")] * 120 + [("c5.large", None)] * 3
    lines = [build_attempt(f"j{n}", 10, 100, machine=f"i-{n}", container=f"c-{n}") for n in range(len(places))]
    documents = [describe_machine(f"i-{n}", type=kind, zone=zone) for n, (kind, zone) in enumerate(places)]
    machines = build_machines(table := build_table(*lines), *documents)
    timeline = build_timeline(table, machines, find_job_ends(table), len(lines), None)
    assert timeline is not None
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for row in timeline.rows:
        counts[row.type, row.zone] += row.machines
    assert counts == Counter(places)
    assert 60 <= len(timeline.rows) <= 68
    assert {row.machines for row in timeline.rows} <= {3, 6, 7}


def test_machines_that_ec2_took_back_are_marked() -> None:
    documents = [describe_machine("i-1", ended=900.0, end_code=RECLAIMED_CODE), describe_machine("i-2", ended=800.0)]
    machines = build_machines(table := build_table(build_attempt("a", 10, 100)), *documents)
    timeline = build_timeline(table, machines, find_job_ends(table), 1, None)
    assert timeline is not None
    assert timeline.interruptions == (900.0,)


def test_jobs_that_were_done_after_a_failure_are_counted_once() -> None:
    table = build_table(
        build_attempt("a", 10, 20, "failed", final=False), build_attempt("a", 30, 40, attempts=2),
        build_attempt("b", 10, 20, "failed"), build_attempt("c", 10, 20, "interrupted"), build_attempt("c", 30, 40),
    )  # fmt: skip
    assert count_recovered_jobs(table) == 1


def test_type_costs_count_only_the_programs_of_jobs_that_were_done() -> None:
    lines = [build_attempt(f"a{n}", 100 * n + 10, 100 * n + 70) for n in range(10)]
    lines += [build_attempt("bad", 2000, 3000, "failed")]
    (cost,) = compute_type_costs(table := build_table(*lines), build_machines(table, describe_machine()))
    assert (cost.type, cost.zone, cost.is_spot, cost.jobs) == ("m5.large", "us-east-1a", True, 10)
    assert cost.cost_per_1000 == pytest.approx(1000 * 0.36 / 3600 / 2 * 60)


def test_histograms_count_every_program_and_a_median_needs_ten() -> None:
    lines = [build_attempt(f"a{n}", 0, 2**n, peak_memory_bytes=(n + 1) * 100) for n in range(12)]
    lines += [build_attempt("bad", 0, 5, "failed", peak_memory_bytes=50)]
    table = build_table(*lines)
    for histogram in (build_time_histogram(table), build_memory_histogram(table)):
        assert histogram is not None
        assert (sum(histogram.counts), sum(histogram.failed_counts)) == (12, 1)
        assert len(histogram.edges) == len(histogram.counts) + 1
        assert list(histogram.edges) == sorted(set(histogram.edges))
    few = build_time_histogram(build_table(*lines[:9]))
    assert few is not None
    assert few.median is None
    many = build_time_histogram(table)
    assert many is not None
    assert many.median == pytest.approx((2**5 + 2**6) / 2)


def test_a_long_end_with_few_jobs_is_a_tail_with_as_few_jobs_as_explain_it() -> None:
    lines = [build_attempt(f"a{n}", 10, 100 + n / 10) for n in range(997)]
    lines += [build_attempt(f"slow{n}", 10, 1000 + n) for n in range(3)]
    ends = find_job_ends(build_table(*lines))
    tail = find_tail(ends, ends.run[-1])
    assert tail is not None
    assert tail[1] == 3
    assert tail[0] == pytest.approx(1002 - 199.6, abs=0.1)
    assert find_tail(find_job_ends(build_table(*lines[-150:])), 1003.0) is None


@pytest.mark.parametrize("value", ["yesterday", None, 5, "9999-12-31T00:00:00Z", "0001-01-01T00:00:00+14:00", [1]])
def test_times_that_cannot_be_right_are_unknown(value: object) -> None:
    table = build_table(build_attempt("a", 10, 20) | {"program_started": value})
    assert math.isnan(table.starts[0])
    (machine,) = build_machines(table, describe_machine())
    assert [list(lane) for lane in machine.lanes] == [[], []]


@pytest.mark.parametrize("line", [{}, {"job": 5, "state": "done"}, {"job": "a", "state": ["done"]}, {"job": "a"}])
def test_lines_that_are_not_attempts_are_left_out(line: dict[str, Any]) -> None:
    assert len(build_table(line)) == 0


AMOUNTS = st.floats(0, 1e6, allow_nan=False)


@given(st.fixed_dictionaries({use: AMOUNTS for use in USES}))
def test_rounded_uses_add_up_to_the_rounded_cost(costs: dict[str, float]) -> None:
    total, uses = round_use_costs(costs)
    cents = {use: round(getattr(uses, use) * 100) for use in USES}
    assert sum(cents.values()) == round(total * 100)
    assert abs(total - math.fsum(costs.values())) <= 0.005 + 1e-6
    assert all(abs(cents[use] / 100 - costs[use]) < 0.01 + 1e-6 for use in USES)


TIMES = st.integers(0, 7200)
ENDS = st.sampled_from(["done", "failed", "interrupted", "skipped"])
ATTEMPTS = st.tuples(TIMES, TIMES, TIMES, st.integers(0, 2), ENDS,
                     st.sampled_from(["i-1", "i-2"]), st.sampled_from(["c-1", "c-2"]))  # fmt: skip


@settings(max_examples=200)
@given(st.lists(ATTEMPTS, max_size=25), TIMES, st.none() | TIMES)
def test_segments_cover_each_slot_without_gaps_whatever_the_clocks_say(
    attempts: list[tuple[int, int, int, int, str, str, str]], launched: int, ended: int | None
) -> None:
    lines = [
        build_attempt(
            f"j{number}", start, end, state, fetch=fetch, slot=slot, machine=machine, container=machine + name
        )
        for number, (fetch, start, end, slot, state, machine, name) in enumerate(attempts)
    ]
    table = build_table(*lines)
    machines = build_machines(table, describe_machine(launched=launched, ended=ended))
    for machine in machines:
        for lane in machine.lanes:
            now = machine.launched
            for segment in iter_segments(table, machine, lane):
                assert segment.start == now
                assert segment.end > segment.start
                now = segment.end
            assert now == machine.ended
    programs = sum(start <= end for _, start, end, _, _, _, _ in attempts)
    assert sum(len(lane) for machine in machines for lane in machine.lanes) == programs
    total, uses = round_use_costs(compute_use_costs(table, machines))
    assert sum(round(getattr(uses, use) * 100) for use in USES) == round(total * 100)
    assert total == pytest.approx(sum(machine.cost for machine in machines), abs=0.006)
