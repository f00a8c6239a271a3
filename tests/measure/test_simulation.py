"""Whole runs in a model of AWS by discrete events (`tests/measure/simulation`), scaled by the real policy."""

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
from tests.measure.simulation.bucket import Bucket
from tests.measure.simulation.cloud import GOING
from tests.measure.simulation.lengths import KINDS, lengths
from tests.measure.simulation.model import Run
from tests.measure.simulation.policies import Ours
from tests.measure.simulation.scenarios import AUTO_MONITOR_LOOK, Scenario, compare

CALM = Assumptions(interruptions_an_hour=0.0, noticed=1.0)
STORMY = Assumptions(interruptions_an_hour=0.5, noticed=0.5)
MINUTE = 60.0


def a_run(
    jobs: int = 2_000, machines: int = 20, assumed: Assumptions = STORMY, published: bool = False, *,
    kind: str = "lognormal", seed: int = 7, look: float = Pace().look,
) -> Run:  # fmt: skip
    """Ten-minute jobs, fifty a slot."""
    of_jobs = lengths(kind, jobs, 10 * MINUTE, Random(seed))
    return Run(of_jobs, machines, published, assumed=assumed, seed=seed, look=look)


def watched(run: Run, *, cheapest: bool = False) -> list[tuple[RunSnapshot, list[MonitorAction]]]:
    """Plays it; every look, and what was decided on it."""
    seen: list[tuple[RunSnapshot, list[MonitorAction]]] = []
    run.monitor = Ours(run.cloud, cheapest=cheapest, watch=lambda look, actions: seen.append((look, actions)))
    run.play()
    return seen


def test_every_job_is_done_though_machines_are_lost_and_the_monitor_ends_no_busy_one() -> None:
    run = a_run()
    outcome = run.play()
    assert run.cloud.interrupted > 20
    assert outcome.undone == 0
    assert min(run.work.times_done) == 1
    assert run.cloud.busy_ended == 0
    assert not run.cloud.machines


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("look", [Pace().look, AUTO_MONITOR_LOOK])
def test_an_idle_machine_is_gone_within_three_minutes_of_its_last_job(kind: str, look: float) -> None:
    """Whichever monitor watches it; a minute later where spot takes machines meanwhile, and jobs come back."""
    for seed, assumed, most in ((1, CALM, 3), (2, CALM, 3), (3, STORMY, 4)):
        run = a_run(assumed=assumed, kind=kind, seed=seed, look=look)
        run.play()
        assert 0 < run.cloud.longest_idle <= most * MINUTE
        assert run.cloud.busy_ended == 0


def test_what_ec2_throttles_is_ended_later_and_nothing_else_than_idle_machines() -> None:
    slow = a_run(assumed=replace(CALM, ended_at_once=2.0, ended_a_second=0.01), kind="constant")
    assert slow.play().undone == 0
    assert slow.cloud.longest_idle > 3 * MINUTE
    assert slow.cloud.busy_ended == 0


def test_a_token_bucket_gives_what_it_holds_at_once_and_then_what_it_is_refilled_with() -> None:
    """EC2's of machines that are ended: 10,000 take seven and a half minutes."""
    bucket = Bucket(size=1000.0, refill=20.0)
    assert bucket.take(1000, now=60.0) == 0.0
    assert bucket.take(100, now=60.0) == 5.0
    assert bucket.take(100, now=65.0) == 5.0
    assert bucket.take(1000, now=1000.0) == 0.0
    full, now = Bucket(size=1000.0, refill=20.0), 0.0
    for _ in range(100):
        now += full.take(100, now)
    assert now == 450.0


@pytest.mark.parametrize(("job", "left"), [(30.0, 0), (6 * MINUTE, 1)])
def test_a_container_on_a_machine_that_spot_takes_ends_as_soon_as_it_has_no_job(job: float, left: int) -> None:
    """The notice comes five minutes after the start: a job that was begun after three is over, or runs on."""
    run = Run(array("d", [job]), machines=1, assumed=CALM)
    run.queue.submit(1)
    run.env.run(until=5 * MINUTE)
    (machine,) = run.cloud.machines.values()
    assert len(machine.workers) == 1
    run.cloud.take(machine)
    run.env.run(until=5 * MINUTE + 10)
    assert len(machine.workers) == left


def test_its_last_job_may_end_within_the_notice() -> None:
    run = Run(array("d", [4 * MINUTE]), machines=1, assumed=CALM)
    run.queue.submit(1)
    run.env.run(until=5 * MINUTE)
    (machine,) = run.cloud.machines.values()
    run.cloud.take(machine)
    run.env.run(until=5 * MINUTE + 110)
    assert (machine.workers, run.work.left, machine.state) == ([], 0, GOING)


def test_where_jobs_are_short_against_the_run_machine_hours_are_within_3_percent_of_the_bound() -> None:
    ours, published = (a_run(assumed=Assumptions(), published=which).play() for which in (False, True))
    assert ours.hours_ratio <= 1.03
    assert ours.hours_ratio - 1 < (published.hours_ratio - 1) / 2


def test_capacity_lost_to_spot_comes_back_while_jobs_wait() -> None:
    run = a_run()
    looks = [look for look, _ in watched(run) if look.at > 10 * MINUTE and look.jobs > 2 * 20]
    sizes = [len(look.fleet.machines) for look in looks if look.fleet]
    assert min(sizes) < 20
    assert sum(sizes) / len(sizes) > 0.95 * 20


def test_jobs_submitted_at_the_end_raise_the_fleet_again_and_are_done() -> None:
    run = a_run(jobs=400, assumed=CALM)
    run.later = [(1.9 * 60 * MINUTE, array("d", [5 * MINUTE] * 200))]
    targets = [
        action.machines for _, actions in watched(run) for action in actions if isinstance(action, FleetTargetChange)
    ]
    assert min(targets[: targets.index(20)]) < 20
    assert run.work.left == 0
    assert len(run.work.times_done) == 600


def test_cheapest_mode_ends_nothing_that_runs_and_replaces_nothing() -> None:
    run = a_run(jobs=800, assumed=CALM)
    looks = [look for look, _ in watched(run, cheapest=True) if look.jobs > 2 * 20]
    assert looks[-1].fleet is not None
    assert looks[-1].fleet.target == 1
    assert len(looks[-1].fleet.machines) == 20
    assert run.cloud.launched == 20
    assert run.cloud.busy_ended == run.work.left == 0


def test_a_count_that_lags_does_not_end_a_run_early() -> None:
    ours, published = (a_run(jobs=200, published=which) for which in (False, True))
    for run in (ours, published):
        run.queue.blind_until = 70.0
        run.play()
    assert ours.work.left == 0
    assert published.work.left == 200


def test_the_published_worker_runs_jobs_twice_that_take_longer_than_it_hides_them_and_this_one_does_not() -> None:
    ours, published = (a_run(assumed=CALM, published=which).play() for which in (False, True))
    assert ours.twice == pytest.approx(0)
    assert published.twice > 0.01


def test_the_same_seed_gives_the_same_run() -> None:
    assert a_run().play() == a_run().play()


def test_the_table_in_the_docs_is_one_that_the_simulation_prints() -> None:
    rows = report.table(compare([Scenario(40, 2, "constant")], seeds=(1,))).splitlines()
    written = re.findall(r"^\|.*$", report.PAGE.read_text(), flags=re.M)
    assert written[:2] == rows[:2]
    assert len(written) > 10
    assert {form(row) for row in written[2::2]} == {form(rows[2])}
    assert {form(row) for row in written[3::2]} == {form(rows[3])}


def form(row: str) -> str:
    """A row without its numbers and names."""
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    return "|".join([*("name" if cell else "" for cell in cells[:3]), cells[3], *map(_shape, cells[4:])])


def _shape(cell: str) -> str:
    return re.sub(r"[\d,]+", "9", cell)
