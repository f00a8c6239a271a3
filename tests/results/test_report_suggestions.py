"""What the report suggests for the next run, and what it does not suggest."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.observe.documents.machine_documents import MachineDocument
from distributed_something.results.report.data import Suggestion
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.job_rows import count_recovered_jobs
from distributed_something.results.report.numbers.machine_time import MachineFacts, build_machine_times, find_rates
from distributed_something.results.report.numbers.suggestions import Evidence, find_highest_sum, list_suggestions
from distributed_something.results.report.numbers.uses import compute_type_costs, compute_use_costs
from tests.support.fakes import START
from tests.support.run_documents import build_program_line

MIB = 2**20
CONFIG = {"MEMORY": 4000, "CPU_SHARES": 1024, "TASKS_PER_MACHINE": 2, "DOCKER_CORES": 2, "JOB_RETRIES": 3,
          "CLUSTER_MACHINES": 4}  # fmt: skip


def build_lines(jobs: int = 400, peak: int | None = 500 * MIB, **more: Any) -> list[dict[str, Any]]:
    """Return jobs of 100 seconds, two at a time in each of two containers, that use half of their CPUs."""
    return [
        build_program_line(
            f"job-{n}", START + 100 + n // 4 * 110, 100, peak_memory_bytes=peak, cpu_seconds=25, slot=n % 2,
            container=f"c-{n // 2 % 2}", time_limit_seconds=3600, **more,
        )
        for n in range(jobs)
    ]  # fmt: skip


def build_document(name: str, **more: Any) -> MachineDocument:
    facts = {"type": "m5.large", "zone": "us-east-1a", "is_spot": True, "slots": 2, "price": 0.9,
             "end_code": "Client.UserInitiatedShutdown"} | more  # fmt: skip
    return MachineDocument(name, launched=START, ended=START + 12_000, **facts)


def suggest(
    lines: list[dict[str, Any]], *documents: MachineDocument, classes: tuple[str, ...] = (), codes: tuple[int, ...] = ()
) -> list[Suggestion]:
    table = AttemptTable(START, START + 86_400)
    for line in lines:
        table.add_line(line)
    machines = build_machine_times(table, documents or (build_document("i-1"),), MachineFacts(2, 2, 12_000, True))
    evidence = Evidence(
        table, machines, find_rates(table, machines), sum(compute_use_costs(table, machines).values()),
        compute_type_costs(table, machines), CONFIG, frozenset(classes), frozenset(codes), count_recovered_jobs(table),
    )  # fmt: skip
    return list(list_suggestions(evidence))


def list_settings(suggestions: list[Suggestion]) -> list[str]:
    return [suggestion.setting for suggestion in suggestions]


def test_less_memory_is_suggested_from_the_sum_of_the_programs_that_ran_together() -> None:
    (suggestion,) = suggest(build_lines())
    # Two programs at once: 1,000 MiB, and 15 % more, and 210 MiB for the worker, is 1,408 MiB in steps of 64; the CPUs
    # permit 4 containers.
    assert suggestion.setting == "MEMORY = 1408, CPU_SHARES = 512, TASKS_PER_MACHINE = 4"
    assert "1,000 of 4,000 MiB, of 400 programs" in suggestion.evidence
    assert "the worker needs up to 210 MiB more" in suggestion.evidence
    assert suggestion.saved_cost == pytest.approx(3.0 * (1 - 2 / 4))


@pytest.mark.parametrize("peak", [1, 5 * MIB])
def test_a_container_of_small_programs_has_room_for_the_worker(peak: int) -> None:
    (suggestion,) = suggest(build_lines(peak=peak))
    assert suggestion.setting == "MEMORY = 256, CPU_SHARES = 512, TASKS_PER_MACHINE = 4"


def test_nothing_is_suggested_from_peaks_of_zero_bytes() -> None:
    assert suggest(build_lines(peak=0)) == []


def test_a_failed_program_with_a_high_peak_counts() -> None:
    bad = build_program_line(
        "bad", START + 100, 50, "failed", peak_memory_bytes=3500 * MIB, cpu_seconds=1, container="c-0"
    )
    assert suggest([*build_lines(), bad], classes=("program",)) == []


@pytest.mark.parametrize(
    ("lines", "classes", "codes"),
    [
        (build_lines(100), (), ()),  # too few
        (build_lines(), ("out of memory",), ()),
        (build_lines(), ("signal",), (-9,)),
        ([*build_lines(), *build_lines(1, None)], (), ()),  # a peak is unknown
    ],
)
def test_less_memory_is_not_suggested_without_good_evidence(
    lines: list[dict[str, Any]], classes: tuple[str, ...], codes: tuple[int, ...]
) -> None:
    assert suggest(lines, classes=classes, codes=codes) == []


def test_programs_that_follow_one_another_do_not_add_up() -> None:
    table = AttemptTable(START, START + 86_400)
    for n in range(3):
        table.add_line(build_program_line(f"j{n}", START + 100 * n, 100, peak_memory_bytes=7, slot=n, container="c"))
    assert find_highest_sum(table) == (7, 3)


def test_a_type_whose_jobs_cost_more_is_left_out_but_not_from_few_jobs() -> None:
    def build_run(jobs: int) -> list[dict[str, Any]]:
        slow = [line | {"machine": "i-2", "container": "c-9"} for line in build_lines(jobs, 3900 * MIB)]
        return [*build_lines(400, 3900 * MIB), *({**line, "job": f"slow-{line['job']}"} for line in slow)]

    documents = (build_document("i-1"), build_document("i-2", type="m4.large", price=1.8))
    (suggestion,) = suggest(build_run(200), *documents)
    assert suggestion.setting == "leave m4.large out of MACHINE_TYPE"
    # 200 jobs of 100 s on a slot for 0.45 instead of 0.225 USD an hour
    assert suggestion.saved_cost == pytest.approx(200 * 100 / 3600 * (0.45 - 0.225))
    assert suggest(build_run(90), *documents) == []


def test_a_shorter_time_limit_is_suggested_if_jobs_ran_into_a_much_longer_one() -> None:
    late = [
        build_program_line(f"late-{n}", START + 100, 3600, "failed", time_limit_seconds=3600, slot=5 + n, cpu_seconds=1,
                           peak_memory_bytes=3900 * MIB)
        for n in range(3)
    ]  # fmt: skip
    settings = list_settings(suggest([*build_lines(), *late], classes=("time-out",)))
    assert settings == ["timeout_minutes = 3 in the Job file, instead of 60"]


def build_late_lines() -> list[dict[str, Any]]:
    return [
        build_program_line(f"late-{n}", START + 12_000, 3600, "failed", time_limit_seconds=3600, slot=5 + n)
        for n in range(3)
    ]


def test_time_that_costs_nothing_known_is_saved_without_an_amount() -> None:
    (suggestion,) = suggest(
        build_lines() + build_late_lines(), build_document("i-1", price=None), classes=("time-out",)
    )
    assert (suggestion.saved_cost, suggestion.saved_seconds) == (None, 3420)


def test_a_time_limit_is_at_least_a_minute() -> None:
    lines = [build_program_line(f"j{n}", START + 100, 0, time_limit_seconds=3600) for n in range(300)]
    (suggestion,) = suggest(lines + build_late_lines(), classes=("time-out",))
    assert suggestion.setting == "timeout_minutes = 1 in the Job file, instead of 60"


@pytest.mark.parametrize(
    "code", ["Server.SpotInstanceTermination", "Server.SpotInstanceShutdown", "Client.VolumeLimitExceeded"]
)
def test_fewer_machines_are_not_suggested_if_one_without_programs_was_interrupted_or_failed(code: str) -> None:
    documents = [build_document("i-1"), build_document("i-2"), build_document("i-3", end_code=code)]
    assert suggest(build_lines(400, 3900 * MIB), *documents) == []


def test_fewer_machines_are_not_suggested_if_machines_were_replaced() -> None:
    assert suggest(build_lines(400, 3900 * MIB), *(build_document(f"i-{n}") for n in range(1, 6))) == []


def test_machines_that_ran_no_program_are_too_many() -> None:
    lines = build_lines(400, 3900 * MIB)
    (suggestion,) = suggest(lines, build_document("i-1"), build_document("i-2"), build_document("i-3"))
    assert suggestion.setting == "CLUSTER_MACHINES = 1, instead of 4"
    assert suggestion.saved_cost == pytest.approx(6.0)


def test_one_attempt_is_enough_if_no_further_one_ever_helped() -> None:
    failures = [
        build_program_line(f"bad-{n}", START + 100 + 700 * number, 600, "failed", attempts=number, slot=8 + n,
                           final=number == 3, peak_memory_bytes=3900 * MIB, cpu_seconds=1, container="c-1")
        for n in range(20)
        for number in (1, 2, 3)
    ]  # fmt: skip
    assert "JOB_RETRIES = 1, instead of 3" in list_settings(suggest([*build_lines(), *failures], classes=("program",)))
    helped = build_program_line("bad-0", START + 9000, 10, attempts=3, peak_memory_bytes=3900 * MIB, cpu_seconds=1)
    assert list_settings(suggest([*build_lines(), *failures, helped], classes=("program",))) == []


def test_savings_of_cents_are_not_suggested() -> None:
    assert suggest(build_lines(), build_document("i-1", price=0.01)) == []
