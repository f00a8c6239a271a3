"""Simulates a canary and then all jobs, and compares the forecast with the run."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from distributed_something.results.next_run.forecast import Cluster, RunForecast, forecast_run
from distributed_something.results.next_run.measured_jobs import MeasuredJobs
from tests.measure.simulation.assumptions import PRICE, Assumptions
from tests.measure.simulation.lengths import draw_lengths
from tests.measure.simulation.model import Run

JOBS, CANARY, MACHINES, SLOTS, MEAN_SECONDS = 1000, 30, 10, 2, 600.0
HEADINGS = (
    "length of jobs",
    "runs",
    "cost within p5 to p95",
    "dearer",
    "cheaper",
    "time within",
    "width",
    "median / run",
)


@dataclass(frozen=True)
class Trial:
    """A forecast, and what the run became: its cost in USD and its seconds."""

    forecast: RunForecast
    usd: float
    seconds: float

    @property
    def has_cost_in_range(self) -> bool:
        return self.forecast.usd.low <= self.usd <= self.forecast.usd.high

    @property
    def has_time_in_range(self) -> bool:
        return self.forecast.seconds.low <= self.seconds <= self.forecast.seconds.high


def simulate_trial(distribution: str, seed: int, jobs: int = JOBS, canary: int = CANARY) -> Trial:
    """Simulate a canary that is spread evenly over the jobs, forecast all of them, and simulate them."""
    lengths = draw_lengths(distribution, jobs, MEAN_SECONDS, Random(seed))
    chosen = array("d", (lengths[(2 * part + 1) * jobs // (2 * canary)] for part in range(canary)))
    first = Run(chosen, MACHINES, jobs_per_task=SLOTS, seed=seed)
    end = first.simulate_run().seconds
    measured = MeasuredJobs(canary, sum(chosen), tuple(sorted(chosen)), tuple(sorted(chosen)))
    assumptions = Assumptions()
    startup, idle = assumptions.boot_usual + assumptions.task_start, end - first.progress.last_done_at
    forecast = forecast_run(measured, jobs, Cluster(MACHINES, SLOTS, PRICE, startup, idle))
    assert forecast is not None
    run = Run(lengths, MACHINES, jobs_per_task=SLOTS, seed=seed + 1000)
    outcome = run.simulate_run()
    return Trial(forecast, outcome.machine_hours * PRICE, outcome.seconds)


def format_row(distribution: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the cells of the table: counts, the mean width of the range, and the mean of the median ÷ the run."""
    count = len(trials)
    return (
        distribution,
        str(count),
        str(sum(trial.has_cost_in_range for trial in trials)),
        str(sum(trial.usd > trial.forecast.usd.high for trial in trials)),
        str(sum(trial.usd < trial.forecast.usd.low for trial in trials)),
        str(sum(trial.has_time_in_range for trial in trials)),
        f"{fmean((trial.forecast.usd.high - trial.forecast.usd.low) / trial.usd for trial in trials):.0%}",
        f"{fmean(trial.forecast.usd.value / trial.usd for trial in trials):.2f}",
    )
