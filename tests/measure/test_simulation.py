"""Whole runs in a model of AWS (`tests/measure/simulation`), scaled by the monitor's real policy."""

from __future__ import annotations

import re
from array import array
from dataclasses import replace
from random import Random

import pytest

from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.policy import FleetTargetChange, MonitorAction, Pace
from tests.measure.simulation import report
from tests.measure.simulation.assumptions import Assumptions
from tests.measure.simulation.bucket import TokenBucket
from tests.measure.simulation.cloud import INTERRUPTED
from tests.measure.simulation.lengths import DISTRIBUTIONS, draw_lengths
from tests.measure.simulation.model import Run
from tests.measure.simulation.policies import CurrentMonitor
from tests.measure.simulation.scenarios import AUTO_MONITOR_INTERVAL, Scenario, compare_policies

NO_INTERRUPTIONS = Assumptions(interruptions_per_hour=0.0, notice_share=1.0)
MANY_INTERRUPTIONS = Assumptions(interruptions_per_hour=0.5, notice_share=0.5)
MINUTE = 60.0


def build_run(
    jobs: int = 2_000, machines: int = 20, assumptions: Assumptions = MANY_INTERRUPTIONS, is_published: bool = False,
    *, distribution: str = "lognormal", seed: int = 7, interval: float = Pace().interval_seconds,
) -> Run:  # fmt: skip
    """Return a run of jobs that take ten minutes on average. By default, there are 50 jobs per slot."""
    lengths = draw_lengths(distribution, jobs, 10 * MINUTE, Random(seed))
    return Run(lengths, machines, is_published, assumptions=assumptions, seed=seed, interval=interval)


def simulate_and_record(run: Run, *, is_cheapest: bool = False) -> list[tuple[RunSnapshot, list[MonitorAction]]]:
    """Simulate the run. Return each of the monitor's observations with the actions that the monitor chose."""
    decisions: list[tuple[RunSnapshot, list[MonitorAction]]] = []
    run.monitor = CurrentMonitor(
        run.cloud,
        is_cheapest=is_cheapest,
        on_decision=lambda snapshot, actions: decisions.append((snapshot, actions)),
    )
    run.simulate_run()
    return decisions


def test_all_jobs_are_done_despite_interruptions_and_the_monitor_does_not_end_busy_machines() -> None:
    run = build_run()
    outcome = run.simulate_run()
    assert run.cloud.interrupted > 20
    assert outcome.lost_jobs == 0
    assert min(run.progress.times_done) == 1
    assert run.cloud.ended_busy == 0
    assert not run.cloud.machines


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("interval", [Pace().interval_seconds, AUTO_MONITOR_INTERVAL])
def test_an_idle_machine_ends_within_three_minutes_of_its_last_job(distribution: str, interval: float) -> None:
    """This applies to both the command and the auto-monitor.

    With interruptions, which return jobs to the queue, it may take a minute longer.
    """
    for seed, assumptions, max_minutes in (
        (1, NO_INTERRUPTIONS, 3),
        (2, NO_INTERRUPTIONS, 3),
        (3, MANY_INTERRUPTIONS, 4),
    ):
        run = build_run(assumptions=assumptions, distribution=distribution, seed=seed, interval=interval)
        run.simulate_run()
        assert 0 < run.cloud.longest_idle <= max_minutes * MINUTE
        assert run.cloud.ended_busy == 0


def test_throttled_terminations_are_repeated_later_and_affect_only_idle_machines() -> None:
    throttled = replace(NO_INTERRUPTIONS, termination_burst=2.0, terminations_per_second=0.01)
    run = build_run(assumptions=throttled, distribution="constant")
    assert run.simulate_run().lost_jobs == 0
    assert run.cloud.longest_idle > 3 * MINUTE
    assert run.cloud.ended_busy == 0


def test_a_token_bucket_allows_a_burst_and_then_its_refill_rate() -> None:
    """With EC2's limit on terminations, ending 10,000 machines takes seven and a half minutes."""
    bucket = TokenBucket(size=1000.0, refill=20.0)
    assert bucket.take_tokens(1000, now=60.0) == 0.0
    assert bucket.take_tokens(100, now=60.0) == 5.0
    assert bucket.take_tokens(100, now=65.0) == 5.0
    assert bucket.take_tokens(1000, now=1000.0) == 0.0
    full_bucket, now = TokenBucket(size=1000.0, refill=20.0), 0.0
    for _ in range(100):
        now += full_bucket.take_tokens(100, now)
    assert now == 450.0


@pytest.mark.parametrize(("job_seconds", "remaining_workers"), [(30.0, 0), (6 * MINUTE, 1)])
def test_a_container_on_an_interrupted_machine_stops_when_it_has_no_more_jobs(
    job_seconds: float, remaining_workers: int
) -> None:
    """The notice arrives after five minutes, when the short job is done and the long one is still running."""
    run = Run(array("d", [job_seconds]), machines=1, assumptions=NO_INTERRUPTIONS)
    run.queue.submit_jobs(1)
    run.env.run(until=5 * MINUTE)
    (machine,) = run.cloud.machines.values()
    assert len(machine.workers) == 1
    run.cloud.interrupt_machine(machine)
    run.env.run(until=5 * MINUTE + 10)
    assert len(machine.workers) == remaining_workers


def test_a_running_job_may_finish_after_the_notice() -> None:
    run = Run(array("d", [4 * MINUTE]), machines=1, assumptions=NO_INTERRUPTIONS)
    run.queue.submit_jobs(1)
    run.env.run(until=5 * MINUTE)
    (machine,) = run.cloud.machines.values()
    run.cloud.interrupt_machine(machine)
    run.env.run(until=5 * MINUTE + 110)
    assert (machine.workers, run.progress.remaining_jobs, machine.state) == ([], 0, INTERRUPTED)


def test_machine_hours_are_within_3_percent_of_the_bound_if_jobs_are_short_compared_to_the_run() -> None:
    current, published = (
        build_run(assumptions=Assumptions(), is_published=is_published).simulate_run() for is_published in (False, True)
    )
    assert current.hours_ratio <= 1.03
    assert current.hours_ratio - 1 < (published.hours_ratio - 1) / 2


def test_interrupted_machines_are_replaced_while_jobs_wait() -> None:
    run = build_run()
    snapshots = [
        snapshot for snapshot, _ in simulate_and_record(run) if snapshot.at > 10 * MINUTE and snapshot.jobs > 2 * 20
    ]
    sizes = [len(snapshot.fleet.machines) for snapshot in snapshots if snapshot.fleet]
    assert min(sizes) < 20
    assert sum(sizes) / len(sizes) > 0.95 * 20


def test_jobs_submitted_near_the_end_of_a_run_raise_the_fleet_target_again_and_are_done() -> None:
    run = build_run(jobs=400, assumptions=NO_INTERRUPTIONS)
    run.later_jobs = [(1.9 * 60 * MINUTE, array("d", [5 * MINUTE] * 200))]
    targets = [
        action.machines
        for _, actions in simulate_and_record(run)
        for action in actions
        if isinstance(action, FleetTargetChange)
    ]
    assert min(targets[: targets.index(20)]) < 20
    assert run.progress.remaining_jobs == 0
    assert len(run.progress.times_done) == 600


def test_the_monitor_sees_how_many_jobs_are_done_and_running() -> None:
    snapshots = [snapshot for snapshot, _ in simulate_and_record(build_run(jobs=400))]
    ended = [snapshot.totals.ended for snapshot in snapshots]
    assert ended == sorted(ended)
    assert (ended[0], ended[-1]) == (0, 400)
    running = [snapshot.totals.running for snapshot in snapshots]
    assert (max(running), running[-1]) == (2 * 20, 0)


def test_cheapest_mode_does_not_end_busy_machines_or_replace_lost_machines() -> None:
    run = build_run(jobs=800, assumptions=NO_INTERRUPTIONS)
    snapshots = [snapshot for snapshot, _ in simulate_and_record(run, is_cheapest=True) if snapshot.jobs > 2 * 20]
    assert snapshots[-1].fleet is not None
    assert snapshots[-1].fleet.target == 1
    assert len(snapshots[-1].fleet.machines) == 20
    assert run.cloud.launched == 20
    assert run.cloud.ended_busy == run.progress.remaining_jobs == 0


def test_outdated_queue_counts_do_not_end_a_run_early() -> None:
    current, published = (build_run(jobs=200, is_published=is_published) for is_published in (False, True))
    for run in (current, published):
        run.queue.zero_counts_until = 70.0
        run.simulate_run()
    assert current.progress.remaining_jobs == 0
    assert published.progress.remaining_jobs == 200


def test_only_the_published_worker_repeats_jobs_that_take_longer_than_its_visibility_timeout() -> None:
    current, published = (
        build_run(assumptions=NO_INTERRUPTIONS, is_published=is_published).simulate_run()
        for is_published in (False, True)
    )
    assert current.wasted_share == pytest.approx(0)
    assert published.wasted_share > 0.01


def test_the_same_seed_produces_the_same_run() -> None:
    assert build_run().simulate_run() == build_run().simulate_run()


def test_the_table_in_the_docs_has_the_format_that_the_simulation_prints() -> None:
    printed = report.format_table(compare_policies([Scenario(40, 2, "constant")], seeds=(1,))).splitlines()
    documented = re.findall(r"^\|.*$", report.TABLE_PATTERN.findall(report.PAGE.read_text())[0], flags=re.M)
    assert documented[:2] == printed[:2]
    assert len(documented) > 10
    assert {mask_row(row) for row in documented[2::2]} == {mask_row(printed[2])}
    assert {mask_row(row) for row in documented[3::2]} == {mask_row(printed[3])}


def mask_row(row: str) -> str:
    """Return a table row with placeholders for its numbers and names."""
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    names = ["name" if cell else "" for cell in cells[:3]]
    return "|".join([*names, cells[3], *map(_mask_numbers, cells[4:])])


def _mask_numbers(cell: str) -> str:
    return re.sub(r"[\d,]+", "9", cell)
