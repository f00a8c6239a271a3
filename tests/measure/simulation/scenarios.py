"""The scenarios of the simulation: combinations of sizes, job lengths, and quotas.

Each is simulated with several seeds and both policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from random import Random

from distributed_something.run.monitor.policy import Pace
from tests.measure.simulation.assumptions import Assumptions
from tests.measure.simulation.lengths import draw_lengths
from tests.measure.simulation.model import Outcome, Run

SEEDS = (1, 2, 3)
SHORT, LONG, VERY_LONG = 600.0, 3600.0, 7 * 3600.0  # mean job lengths in seconds
AUTO_MONITOR_INTERVAL = 60.0
RAISED_TASK_QUOTA = 6000.0  # tasks per minute; AWS raises the default ECS quota of 500 on request


@dataclass(frozen=True)
class Scenario:
    """The parameters of one comparison.

    `distribution`: a key of `lengths.DISTRIBUTIONS`. `mean`: the mean job length in seconds. `tasks_per_minute`: ECS's
    quota for starting tasks. `interval`: seconds between two normal observations by this project's monitor.
    `never_joining_share`: share of machines that do not join the cluster.
    """

    jobs: int
    machines: int
    distribution: str
    mean: float = SHORT
    tasks_per_minute: float = RAISED_TASK_QUOTA
    interval: float = Pace().interval_seconds
    never_joining_share: float = 0.0

    @property
    def name(self) -> str:
        quota = "" if self.tasks_per_minute == RAISED_TASK_QUOTA else f", {self.tasks_per_minute:g} tasks a minute"
        monitor = "" if self.interval == Pace().interval_seconds else ", auto-monitor"
        share = f", {self.never_joining_share:.0%} never join" if self.never_joining_share else ""
        return f"{self.distribution}, {self.mean / 60:g} min{quota}{monitor}{share}"


@dataclass(frozen=True)
class Comparison:
    """A scenario's outcomes under both policies, one per seed."""

    scenario: Scenario
    current: Sequence[Outcome]
    published: Sequence[Outcome]


def list_scenarios_of_size(jobs: int, machines: int) -> list[Scenario]:
    """Return the scenarios for one size: one for each distribution, one with the default ECS quota, and one with a
    tenth as many jobs that take longer.
    """
    default_quota = Assumptions().tasks_per_minute
    return [
        *(Scenario(jobs, machines, distribution) for distribution in ("constant", "lognormal", "heavy")),
        Scenario(jobs, machines, "lognormal", tasks_per_minute=default_quota),
        Scenario(max(1, jobs // 10), machines, "lognormal", LONG),
    ]


def list_all_scenarios() -> list[Scenario]:
    """Return the scenarios in the table in docs/scaling.md."""
    middle = Scenario(100_000, 1_000, "lognormal")
    large = Scenario(1_000_000, 10_000, "lognormal")
    auto_monitor = [
        replace(scenario, interval=AUTO_MONITOR_INTERVAL)
        for scenario in (middle, replace(middle, distribution="constant"), large)
    ]
    return [
        Scenario(1_000, 10, "lognormal"),
        middle,
        *list_scenarios_of_size(large.jobs, large.machines),
        *auto_monitor,
        Scenario(1_000, 100, "uniform", VERY_LONG),
        replace(middle, never_joining_share=0.1),
    ]


def compare_policies(scenarios: Iterable[Scenario], seeds: Sequence[int] = SEEDS) -> list[Comparison]:
    """Simulate each scenario with each seed under both policies, in as many processes as there are processors."""
    scenario_list = list(scenarios)
    with ProcessPoolExecutor() as pool:
        future_lists = [
            [
                [pool.submit(simulate_scenario, scenario, is_published, seed) for seed in seeds]
                for is_published in (False, True)
            ]
            for scenario in scenario_list
        ]
        return [
            Comparison(scenario, *([future.result() for future in futures] for futures in policies))
            for scenario, policies in zip(scenario_list, future_lists, strict=True)
        ]


def simulate_scenario(scenario: Scenario, is_published: bool, seed: int) -> Outcome:
    """Simulate one run under one policy. Both policies get the same jobs for the same seed."""
    jobs = draw_lengths(scenario.distribution, scenario.jobs, scenario.mean, Random(seed))
    assumptions = Assumptions(
        tasks_per_minute=scenario.tasks_per_minute, never_joining_share=scenario.never_joining_share
    )
    run = Run(jobs, scenario.machines, is_published, assumptions=assumptions, seed=seed, interval=scenario.interval)
    return run.simulate_run()
