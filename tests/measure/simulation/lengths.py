"""How long jobs take: distributions of the same mean, so that only their shape differs."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import exp
from random import Random

SIGMA = 0.5  # of the lognormal one: one job in 40 takes 2.4 times the mean
PARETO = 1.5  # heavy tail: infinite variance, were it not cut
LONGEST = 20.0  # the heavy tail's cut, in means before the cut


def constant(random: Random, mean: float) -> float:
    return mean


def lognormal(random: Random, mean: float) -> float:
    return mean * exp(random.gauss(-SIGMA * SIGMA / 2, SIGMA))


def heavy(random: Random, mean: float) -> float:
    """A Pareto distribution, cut at LONGEST; its mean after the cut is about 0.87 of `mean`."""
    return mean * (PARETO - 1) / PARETO * min(random.paretovariate(PARETO), LONGEST * PARETO / (PARETO - 1))


KINDS: dict[str, Callable[[Random, float], float]] = {"constant": constant, "lognormal": lognormal, "heavy": heavy}


def lengths(kind: str, jobs: int, mean: float, random: Random) -> array[float]:
    """Seconds of each of so many jobs."""
    draw = KINDS[kind]
    return array("d", (draw(random, mean) for _ in range(jobs)))
