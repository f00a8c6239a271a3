"""Distributions of job lengths. Their means are about the same, so that only their shapes differ."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import exp
from random import Random

LOGNORMAL_SIGMA = 0.5  # one job in 40 takes more than 2.4 times the mean
PARETO_SHAPE = 1.5  # without the limit below, the variance would be infinite
PARETO_MAX = 20.0  # longest job in the heavy-tailed distribution, as a multiple of its mean without this limit


def draw_constant(random: Random, mean: float) -> float:
    return mean


def draw_lognormal(random: Random, mean: float) -> float:
    return mean * exp(random.gauss(-LOGNORMAL_SIGMA * LOGNORMAL_SIGMA / 2, LOGNORMAL_SIGMA))


def draw_heavy(random: Random, mean: float) -> float:
    """Draw from a Pareto distribution that is cut off at PARETO_MAX.

    The cutoff lowers its mean to about 0.87 of `mean`.
    """
    longest = PARETO_MAX * PARETO_SHAPE / (PARETO_SHAPE - 1)
    return mean * (PARETO_SHAPE - 1) / PARETO_SHAPE * min(random.paretovariate(PARETO_SHAPE), longest)


def draw_uniform(random: Random, mean: float) -> float:
    """Draw from 3/7 to 11/7 of the mean: 3 to 11 hours if it is seven hours."""
    return mean * random.uniform(3 / 7, 11 / 7)


DISTRIBUTIONS: dict[str, Callable[[Random, float], float]] = {
    "constant": draw_constant,
    "lognormal": draw_lognormal,
    "heavy": draw_heavy,
    "uniform": draw_uniform,
}


def draw_lengths(distribution: str, jobs: int, mean: float, random: Random) -> array[float]:
    """Return the length of each of `jobs` jobs, in seconds. `distribution` is a key of DISTRIBUTIONS."""
    draw = DISTRIBUTIONS[distribution]
    return array("d", (draw(random, mean) for _ in range(jobs)))
