"""Whole runs of long jobs in the simulation, in which ECS refuses, expires, and enforces scale-in protection.

ECS stops a container that is not protected as soon as the service runs more containers than it should. No container
that is at work may ever be stopped.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from distributed_something.run.monitor.policy import EndReason, MonitorAction, RunClosure, TaskCountChange
from tests.measure.simulation.assumptions import PRICE, Assumptions
from tests.measure.simulation.clock import Process
from tests.measure.simulation.model import Run
from tests.measure.simulation.policies import CurrentMonitor

HOUR = 3600.0
CALM = Assumptions(interruptions_per_hour=0.0)
DEFAULT_PROTECTION = replace(CALM, protection_seconds=120 * 60.0)  # what ECS grants if nothing is requested


def draw_long_jobs(count: int, seed: int = 5) -> array[float]:
    """Return job lengths from 3 to 11 hours, in seconds."""
    random = Random(seed)
    return array("d", (random.uniform(3 * HOUR, 11 * HOUR) for _ in range(count)))


def build_busy_run(assumptions: Assumptions, *, sees_protection: bool, max_cost: float = 0.0) -> Run:
    """Return a run in which 100 containers with two slots each have one of 100 long jobs after half an hour.

    The other 100 jobs are short.
    """
    lengths = array("d", [length for long in draw_long_jobs(100) for length in (long, 1500.0)])
    run = Run(lengths, machines=100, assumptions=assumptions)
    run.monitor = CurrentMonitor(run.cloud, sees_protection=sees_protection, max_cost=max_cost)
    return run


@pytest.mark.parametrize("max_cost", [0.0, 60 * PRICE])
def test_a_task_count_below_the_protected_containers_stops_busy_ones_when_their_protection_expires(
    max_cost: float,
) -> None:
    """This is what the monitor did before it knew the number of protected containers."""
    run = build_busy_run(DEFAULT_PROTECTION, sees_protection=False, max_cost=max_cost)
    run.simulate_run()
    assert run.cloud.protection.refused > 0
    assert run.cloud.stopped_busy > 10


@pytest.mark.parametrize("assumptions", [CALM, DEFAULT_PROTECTION, replace(CALM, interruptions_per_hour=0.05)])
@pytest.mark.parametrize("max_cost", [0.0, 60 * PRICE])
def test_no_busy_container_is_ever_stopped_and_no_renewal_is_refused(assumptions: Assumptions, max_cost: float) -> None:
    run = build_busy_run(assumptions, sees_protection=True, max_cost=max_cost)
    outcome = run.simulate_run()
    assert run.cloud.stopped_busy == run.cloud.ended_busy == 0
    assert run.cloud.protection.refused_renewals == 0
    assert run.cloud.protection.refused == 0 or run.cloud.interrupted
    assert outcome.lost_jobs == 0 or max_cost
    assert outcome.wasted_share == pytest.approx(0.0) or run.cloud.interrupted


def test_a_run_that_reaches_its_cost_limit_finishes_its_running_jobs_and_starts_no_others() -> None:
    lengths = draw_long_jobs(400)
    run = Run(lengths, machines=100, assumptions=CALM)
    decisions: list[MonitorAction] = []
    run.monitor = CurrentMonitor(run.cloud, max_cost=60 * PRICE, on_decision=lambda _, each: decisions.extend(each))
    outcome = run.simulate_run()
    assert decisions.count(RunClosure()) == 1
    assert decisions[-1] is EndReason.COST
    counts = [action.tasks for action in decisions if isinstance(action, TaskCountChange)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    assert outcome.lost_jobs == 200  # two jobs for each of the 100 containers were running at the limit
    assert run.progress.program_seconds == pytest.approx(sum(length for length, times in iter_jobs(run) if times))
    assert run.cloud.stopped_busy == run.cloud.protection.refused == 0


def iter_jobs(run: Run) -> Iterator[tuple[float, int]]:
    """Yield the length of each job, and how many times it was done."""
    return zip(run.progress.lengths, run.progress.times_done, strict=True)


@pytest.mark.parametrize("tasks_per_machine", [1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_long_jobs_with_many_interruptions_and_several_containers_per_machine_are_never_stopped_by_ecs(
    tasks_per_machine: int, seed: int
) -> None:
    run = Run(
        draw_long_jobs(300, seed), machines=20, tasks_per_machine=tasks_per_machine, seed=seed,
        assumptions=Assumptions(interruptions_per_hour=0.03, notice_share=0.5),
    )  # fmt: skip
    run.later_jobs = [(20 * HOUR, draw_long_jobs(30, seed + 1))]
    outcome = run.simulate_run()
    assert run.cloud.interrupted > 5
    assert outcome.lost_jobs == 0
    assert run.cloud.stopped_busy == run.cloud.ended_busy == 0


def test_a_deployment_during_a_run_replaces_idle_containers_and_keeps_busy_ones_until_they_are_idle() -> None:
    """With at most 100% of the containers, a container of the new deployment starts only after an old one has ended."""
    run = Run(draw_long_jobs(40), machines=20, assumptions=CALM)
    run.monitor = CurrentMonitor(run.cloud, sees_protection=True)
    run.later_jobs = [(5 * HOUR + 600, draw_long_jobs(20))]
    observed: list[list[bool]] = []
    run.env.process(deploy_and_watch(run, 5 * HOUR, observed))
    outcome = run.simulate_run()
    assert outcome.lost_jobs == 0
    assert run.cloud.stopped_busy == run.cloud.ended_busy == 0
    assert max(map(len, observed)) <= 20
    counts = [sum(is_outdated) for is_outdated in observed]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0] > 10, counts[-1]) == (True, 0)


def deploy_and_watch(run: Run, seconds: float, observed: list[list[bool]]) -> Process:
    """Begin a deployment at this time. Then observe once a minute which containers belong to the earlier one."""
    yield run.env.timeout(seconds)
    run.cloud.deploy_service()
    while True:
        observed.append([worker.is_outdated for worker in run.cloud.list_workers()])
        yield run.env.timeout(60.0)


def test_some_machines_that_never_join_the_cluster_are_replaced_and_every_job_is_done() -> None:
    assumptions = replace(CALM, never_joining_share=0.3)
    run = Run(array("d", [600.0] * 1000), machines=20, assumptions=assumptions)
    outcome = run.simulate_run()
    assert outcome.lost_jobs == 0
    assert run.cloud.launched > 22
    assert run.cloud.ended_busy == run.cloud.stopped_busy == 0


def test_a_run_without_any_machine_that_joins_ends_after_the_third_replacement() -> None:
    run = Run(array("d", [600.0] * 1000), machines=20, assumptions=replace(CALM, never_joining_share=1.0))
    decisions: list[MonitorAction] = []
    run.monitor = CurrentMonitor(run.cloud, on_decision=lambda _, actions: decisions.extend(actions))
    outcome = run.simulate_run()
    assert decisions[-1] is EndReason.NOTHING_WORKS
    assert run.cloud.launched <= 4 * 20
    assert 45 * 60 <= outcome.seconds <= 55 * 60
    assert outcome.lost_jobs == 1000
