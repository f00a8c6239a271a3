"""What is compared: sizes, job lengths and quotas; each with every seed, under both policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from random import Random

from distributed_something.run.monitor.policy import Pace
from tests.measure.simulation.assumptions import Assumptions
from tests.measure.simulation.lengths import lengths
from tests.measure.simulation.model import Outcome, Run

SEEDS = (1, 2, 3)
SHORT, LONG = 600.0, 3600.0  # seconds, means
AUTO_MONITOR_LOOK = 60.0
RAISED = 6000.0  # tasks a minute: ECS's quota, raised by AWS for whoever asks


@dataclass(frozen=True)
class Scenario:
    """`kind`: a distribution of `lengths`; `mean` in seconds; `placed_a_minute`: ECS's quota on started tasks; `look`:
    seconds between two usual looks of this project's monitor."""

    jobs: int
    machines: int
    kind: str
    mean: float = SHORT
    placed_a_minute: float = RAISED
    look: float = Pace().look

    @property
    def name(self) -> str:
        quota = "" if self.placed_a_minute == RAISED else f", {self.placed_a_minute:g} tasks a minute"
        look = "" if self.look == Pace().look else ", auto-monitor"
        return f"{self.kind}, {self.mean / 60:g} min{quota}{look}"


@dataclass(frozen=True)
class Compared:
    """Every seed's outcome under both policies."""

    scenario: Scenario
    ours: Sequence[Outcome]
    published: Sequence[Outcome]


def of_size(jobs: int, machines: int) -> list[Scenario]:
    """Every shape at one size: short jobs, with ECS's default quota too, and few long ones."""
    default = Assumptions().placed_a_minute
    return [
        *(Scenario(jobs, machines, kind) for kind in ("constant", "lognormal", "heavy")),
        Scenario(jobs, machines, "lognormal", placed_a_minute=default),
        Scenario(max(1, jobs // 10), machines, "lognormal", LONG),
    ]


def whole() -> list[Scenario]:
    middle = Scenario(100_000, 1_000, "lognormal")
    large = Scenario(1_000_000, 10_000, "lognormal")
    auto = [replace(one, look=AUTO_MONITOR_LOOK) for one in (middle, replace(middle, kind="constant"), large)]
    return [Scenario(1_000, 10, "lognormal"), middle, *of_size(large.jobs, large.machines), *auto]


def compare(scenarios: Iterable[Scenario], seeds: Sequence[int] = SEEDS) -> list[Compared]:
    """In as many processes as there are processors."""
    listed = list(scenarios)
    with ProcessPoolExecutor() as pool:
        asked = [
            [[pool.submit(play, one, published, seed) for seed in seeds] for published in (False, True)]
            for one in listed
        ]
        return [
            Compared(one, *([future.result() for future in futures] for futures in both))
            for one, both in zip(listed, asked, strict=True)
        ]


def play(scenario: Scenario, published: bool, seed: int) -> Outcome:
    """One run of one policy; both policies have the same jobs of a seed."""
    jobs = lengths(scenario.kind, scenario.jobs, scenario.mean, Random(seed))
    assumed = Assumptions(placed_a_minute=scenario.placed_a_minute)
    return Run(jobs, scenario.machines, published, assumed=assumed, seed=seed, look=scenario.look).play()
