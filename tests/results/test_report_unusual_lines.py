"""What the report makes of lines, records, and documents that cannot be right, such as those of a wrong clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from distributed_something.core.aws_errors import is_spot_interruption
from distributed_something.observe.documents.machine_documents import (
    MAX_SLOTS,
    MachineDocument,
    parse_machine_document,
)
from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import JobCounter, build_failed_job
from distributed_something.results.next_run.measured_jobs import JobMeasurer
from distributed_something.results.report.data import FailureCause
from distributed_something.results.report.numbers.attempts import MAX_LATE_SECONDS, AttemptTable
from distributed_something.results.report.numbers.failure_causes import build_failure_causes
from distributed_something.results.report.numbers.histograms import build_memory_histogram, build_processor_histogram
from distributed_something.results.report.numbers.job_rows import MAX_VALUE_COLUMNS, RowSource, build_job_rows
from distributed_something.results.report.numbers.machine_time import (
    RECLAIMED_CODE,
    MachineFacts,
    MachineTime,
    build_machine_times,
    list_interruptions,
)
from distributed_something.results.report.numbers.timeline import build_timeline, find_job_ends
from distributed_something.results.report.numbers.uses import compute_use_costs
from distributed_something.results.status.progress import RunProgress
from distributed_something.worker import RunKeys
from tests.support.run_documents import START, build_program_line

HOUR, YEAR = 3600.0, 365 * 86_400.0
NOW = 100 * HOUR  # when the report is made, in seconds since the run's start
HUGE = 10**400  # JSON may contain it, but no float can be as large


def build_line(
    job: str, start: float = 10.0, seconds: float = 10.0, state: str = "done", **more: Any
) -> dict[str, Any]:
    return build_program_line(job, START + start, seconds, state, **more)


def build_table(*lines: dict[str, Any], now: float = NOW) -> AttemptTable:
    table = AttemptTable(START, START + now)
    for line in lines:
        table.add_line(line)
    assert not table.problem
    return table


def describe_machine(**more: Any) -> MachineDocument:
    facts = {"type": "m5.large", "launched": START, "ended": START + HOUR, "slots": 2, "price": 0.36} | more
    return MachineDocument("i-1", **facts)


def build_machine(table: AttemptTable, document: MachineDocument, *, has_ended: bool = True) -> MachineTime:
    facts = MachineFacts(1, 2, 2 * HOUR, has_ended=has_ended)
    (machine,) = build_machine_times(table, [document], facts)
    return machine


def build_source(table: AttemptTable) -> RowSource:
    return RowSource(table, RunKeys("App", "20261123T104500Z"), lambda line: True, lambda text: text)


@pytest.mark.parametrize("late", [29 * HOUR, 50 * YEAR])
def test_a_clock_that_is_fast_does_not_make_a_machine_more_expensive(late: float) -> None:
    table = build_table(build_line("a"), build_line("b", 30, late))
    machine = build_machine(table, describe_machine())
    assert (machine.hours, machine.cost) == (1.0, pytest.approx(0.36))
    assert sum(compute_use_costs(table, [machine]).values()) == pytest.approx(0.36)
    timeline = build_timeline(table, [machine], find_job_ends(table, machine.ended), 2, {0: "a", 1: "b"})
    assert timeline is not None
    assert timeline.bin_seconds * len(timeline.jobs_left) == pytest.approx(HOUR)
    assert timeline.jobs_left[-1] == (0 if late < NOW else 1)  # it is unknown when the other job ended
    assert max(piece.end for lane in timeline.lanes for piece in lane.pieces) <= HOUR


def test_an_attempt_after_the_end_of_its_machine_makes_the_cost_an_estimate() -> None:
    document = describe_machine()
    assert not build_machine(build_table(build_line("a", HOUR - 30, 60)), document).is_estimated
    assert build_machine(build_table(build_line("a", 30, 29 * HOUR)), document).is_estimated


def test_a_clock_that_is_slow_does_not_make_a_machine_start_before_its_launch() -> None:
    document = describe_machine(launched=START + HOUR, ended=START + 2 * HOUR)
    machine = build_machine(build_table(build_line("a", 60, 100)), document)
    assert (machine.launched, machine.hours, machine.is_estimated) == (HOUR, 1.0, True)


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_machine_whose_end_is_unknown_ended_with_the_run_at_the_latest(has_ended: bool) -> None:
    table = build_table(build_line("a", 30, 29 * HOUR))
    machine = build_machine(table, describe_machine(ended=None), has_ended=has_ended)
    assert (machine.ended, machine.is_estimated) == (2 * HOUR, True)


@pytest.mark.parametrize("seconds", [NOW + MAX_LATE_SECONDS + 2, -86_403.0])
def test_times_after_now_and_before_the_run_are_unknown(seconds: float) -> None:
    table = build_table(build_line("a", seconds, 0))
    assert [str(column[0]) for column in (table.fetches, table.starts, table.ends, table.ended)] == ["nan"] * 4
    (row,) = build_job_rows(build_source(table), 1)[0].rows
    assert (row.started, row.ended) == (None, None)


@pytest.fixture
def pacific_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the computer's zone to one that is 8 hours behind UTC in winter."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "America/Los_Angeles")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("pacific_time")
def test_times_without_a_zone_are_in_utc() -> None:
    table = build_table(build_line("a") | {"program_started": "2026-11-23T10:45:10"})
    assert table.starts[0] == 10
    assert parse_machine_document("i-1", {"launched": "2026-11-23T10:45:10"}).launched == START + 10
    progress, measurer = RunProgress(), JobMeasurer()
    for reader in (progress.add_line, measurer.add_end):
        reader(build_line("a") | {"started": "2026-11-23T10:45:10", "ended": "2026-11-23T10:45:30"})
    measured = measurer.finish(0.0)
    assert (progress.first_start, progress.last_end) == (START + 10, START + 30)
    assert (measured.first_start, measured.last_end) == (START + 10, START + 30)


@pytest.mark.parametrize(
    "values",
    [
        {"seconds": HUGE}, {"memory_limit_bytes": HUGE}, {"time_limit_seconds": HUGE}, {"slots": HUGE, "slot": HUGE},
        {"peak_memory_bytes": HUGE, "cpu_seconds": HUGE, "attempts": HUGE, "exit_code": HUGE},
        {"started": "0001-01-01T00:00:00", "seconds": None}, {"seconds": float("nan")}, {"seconds": -HUGE},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_right_are_unknown(values: dict[str, Any]) -> None:
    lines = [build_line("a"), build_line("b", state="failed") | values, build_line("c") | values]
    table = build_table(*lines)
    assert (len(table), table.unread) == (3, 0)
    for histogram in (build_memory_histogram(table), build_processor_histogram(table, 1.0)):
        assert histogram is None or max(histogram.edges) < 1e18
    rows, _ = build_job_rows(build_source(table), 3)
    assert {row.job for row in rows.rows} == {"a", "b", "c"}
    assert all(value is None or abs(value) < 1e18 for row in rows.rows for value in (
        row.seconds, row.attempts, row.exit_code, row.peak_memory_bytes))  # fmt: skip


def test_a_huge_number_in_a_line_does_not_end_the_counting_and_measuring_of_jobs() -> None:
    counter, measurer = JobCounter(), JobMeasurer()
    huge = {"seconds": HUGE, "time_limit_seconds": HUGE, "bytes_in": HUGE, "peak_memory_bytes": HUGE}
    for line in (build_line("a") | huge, build_line("b", state="failed") | huge):
        counter.add_end(line)
        measurer.add_end(line)
    assert (counter.count_jobs().done, counter.count_jobs().failed) == (1, 1)
    assert measurer.finish(counter.total_seconds).count == 1


def test_a_line_that_cannot_be_read_is_counted_and_the_others_are_in_the_report() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    table = build_table(build_line("a"), build_line("b") | {"group": {"x": nested}}, build_line("c", 50))
    assert (len(table), table.unread) == (2, 1)
    assert [row.job for row in build_job_rows(build_source(table), 2)[0].rows] == ["a", "c"]
    assert list(table.starts) == [10, 50]


def test_a_peak_of_zero_bytes_is_unknown() -> None:
    table = build_table(build_line("a", peak_memory_bytes=0))
    assert build_memory_histogram(table) is None
    assert build_job_rows(build_source(table), 1)[0].rows[0].peak_memory_bytes is None


def test_a_job_whose_record_does_not_say_whether_it_is_final_is_in_the_table() -> None:
    older = build_line("a")
    del older["final"]
    table = build_table(older, build_line("b"))
    assert list(table.finals) == [1, 1]
    assert [row.job for row in build_job_rows(build_source(table), 2)[0].rows] == ["a", "b"]


def find_causes(*lines: dict[str, Any]) -> list[FailureCause]:
    failures = [build_failed_job(line) for line in lines if line["state"] == "failed" and line["final"]]
    table = build_table(*lines)
    return list(build_failure_causes(table, group_failures(failures), None, lambda _: "", lambda text: text)[0])


def test_a_cause_has_the_machines_of_its_failed_attempts_and_not_those_of_interrupted_ones() -> None:
    (cause,) = find_causes(
        build_line("a", 10, state="interrupted", machine="i-1"),
        build_line("a", 30, state="interrupted", machine="i-2"),
        build_line("a", 50, state="failed", machine="i-3", reason="x"),
    )
    assert (cause.attempts, cause.machines) == (1, 1)


def test_an_unknown_machine_does_not_count_as_a_machine() -> None:
    (cause,) = find_causes(build_line("a", state="failed", machine="", container="c", reason="x"))
    assert (cause.attempts, cause.machines) == (1, 0)


def test_both_codes_of_an_interruption_count() -> None:
    codes = ("Server.SpotInstanceShutdown", "Server.SpotInstanceTermination", "Client.UserInitiatedShutdown", None)
    table = build_table(build_line("a"))
    machines = [build_machine(table, describe_machine(end_code=code)) for code in codes]
    assert len(list_interruptions(machines)) == 2
    assert is_spot_interruption(RECLAIMED_CODE)


@pytest.mark.parametrize("slots", [MAX_SLOTS + 1, 1_000_000, HUGE])
def test_a_machine_has_no_more_slots_than_the_config_permits(slots: int) -> None:
    assert parse_machine_document("i-1", {"slots": slots}).slots is None
    assert parse_machine_document("i-1", {"slots": MAX_SLOTS}).slots == MAX_SLOTS
    machine = build_machine(build_table(build_line("a", slots=slots)), describe_machine(slots=None))
    assert len(machine.lanes) == 2  # as the run was started


def test_a_price_that_cannot_be_right_is_unknown() -> None:
    assert parse_machine_document("i-1", {"price": HUGE}).price is None


def test_long_group_values_are_shortened_before_all_rows_are_in_memory() -> None:
    group = {f"key-{number}": ["long"] * 10_000 for number in range(3)}
    (row,) = build_job_rows(build_source(build_table(build_line("a", group=group))), 1)[0].rows
    assert set(row.group) == set(group)
    assert {len(value) for value in row.group.values()} == {MAX_VALUE_COLUMNS}


def test_processors_in_use_are_a_number_whether_or_not_it_is_known_how_many_a_slot_has() -> None:
    table = build_table(*(build_line(f"j{number}", cpu_seconds=20) for number in range(20)))
    for slot_cpus in (4.0, None):
        histogram = build_processor_histogram(table, slot_cpus)
        assert histogram is not None
        assert (histogram.median, histogram.limit) == (2, slot_cpus)
