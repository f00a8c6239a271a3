"""How long the next run of a Job file will take, and what its machines will cost, with the range of both.

The forecast simulates REPLICATES runs and takes the median and the 5th and 95th percentiles. In each of them:

- **Jobs that were not measured.** If the logarithms of the measured times look normal, the times are lognormal: the
  variance of the logarithms is drawn from a scaled inverse chi-squared distribution, and their mean from a normal one.
  This is the posterior for a normal sample with the noninformative prior (Gelman et al., Bayesian Data Analysis, 3rd
  edition, section 3.2). It changes the measured mean by the factor by which exp(μ + σ²/2) changes. Otherwise, the times
  are a bootstrap sample of the measured ones (Efron, Annals of Statistics 7, 1979). The sum of many jobs has a normal
  error (central limit theorem).
- **The test** is the correlation of the ordered logarithms with normal quantiles (Filliben, Technometrics 17, 1975).
- **Machines.** Slots share the work evenly until TAIL_JOBS jobs per slot remain. These are scheduled one by one, each
  in the slot that becomes free first (list scheduling: Graham, SIAM Journal on Applied Mathematics 17, 1969). A
  machine costs money from its launch until the last of its slots is idle and the monitor ends it. How long machines
  take to start and to end was measured once, so both times vary by EDGE_SIGMA.

The seed is fixed, so the same numbers always give the same forecast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import pairwise
from random import Random
from statistics import NormalDist, correlation, fmean, stdev

from distributed_something.results.next_run.measured_jobs import MeasuredJobs
from distributed_something.results.status.forecast import Estimate

MIN_JOBS = 5  # measured; with fewer, a range would be a guess
REPLICATES = 400
TAIL_JOBS = 3  # per slot, scheduled one by one
MAX_TAIL_SLOTS = 300  # a larger cluster is scheduled on a part of its machines
MAX_SIGMA = 3.0  # of the logarithms: with few jobs, the posterior has no mean
# Of the logarithms of the times at a run's start and end. A machine needs 60 to 180 s until it joins the cluster (see
# tests/measure/simulation/assumptions.py), which is a standard deviation of about a quarter.
EDGE_SIGMA = 0.25
_CRITICAL_CORRELATION = ((5, 0.880), (10, 0.917), (20, 0.950), (30, 0.964), (50, 0.977), (100, 0.987), (500, 0.997))
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Cluster:
    """The machines of a run. `slots`: programs that a machine runs at once. `usd_per_hour`: of one machine.

    `startup_seconds`: from the run's start to the first job. `idle_seconds`: from the last job to the run's end, which
    is also how long a machine without jobs is kept.
    """

    machines: int
    slots: int
    usd_per_hour: float
    startup_seconds: float = 0.0
    idle_seconds: float = 0.0


@dataclass(frozen=True)
class RunForecast:
    """How many seconds a run will take and what its machines will cost, in USD: the median, and p5 to p95."""

    seconds: Estimate
    usd: Estimate


def forecast_run(measured: MeasuredJobs, jobs: int, cluster: Cluster) -> RunForecast | None:
    """Return the forecast of a run of `jobs` jobs; None if fewer than MIN_JOBS were measured.

    `jobs` includes the jobs that were measured, which take as long as they did.
    """
    if measured.count < MIN_JOBS or not measured.total_seconds or not (cluster.machines and cluster.slots):
        return None
    random, times = Random(0), _choose_times(measured)
    runs = [_simulate_run(times.draw(random), measured, jobs, cluster, random) for _ in range(REPLICATES)]
    ends, machine_hours = (sorted(values) for values in zip(*runs, strict=True))
    seconds, hours = _estimate(ends), _estimate(machine_hours)
    usd = cluster.usd_per_hour
    return RunForecast(seconds, Estimate(hours.value * usd, hours.low * usd, hours.high * usd))


def is_lognormal(values: Sequence[float]) -> bool:
    """Return whether the logarithms of these values look normal, by Filliben's test at the 5% level.

    Values that are all alike do: their spread is 0.
    """
    logs = sorted(math.log(value) for value in values if value > 0)
    count = len(logs)
    if count < MIN_JOBS or logs[0] == logs[-1]:
        return True
    last = 0.5 ** (1 / count)  # median of the largest of `count` uniform numbers; the others are approximations
    places = [1 - last, *((number - 0.3175) / (count + 0.365) for number in range(2, count)), last]
    return correlation(logs, [_NORMAL.inv_cdf(place) for place in places]) >= _find_critical_correlation(count)


def _find_critical_correlation(count: int) -> float:
    """Return the critical value for `count` values, interpolated in Filliben's table."""
    for (fewer, low), (more, high) in pairwise(_CRITICAL_CORRELATION):
        if count <= more:
            return low + (high - low) * max(0, count - fewer) / (more - fewer)
    return _CRITICAL_CORRELATION[-1][1]


@dataclass(frozen=True)
class _JobTimes:
    """The times of the jobs in one simulated run: their mean, their standard deviation, and a function that draws."""

    mean: float
    deviation: float
    draw: Callable[[], float]


@dataclass(frozen=True)
class _LognormalTimes:
    """Times whose logarithms are normal. `mean`: of the measured times. `sigma`: of their logarithms."""

    mean: float
    sigma: float
    count: int

    def draw(self, random: Random) -> _JobTimes:
        freedom = self.count - 1
        sigma = self.sigma * math.sqrt(freedom / random.gammavariate(freedom / 2, 2))
        sigma = min(sigma, MAX_SIGMA)
        shift = random.gauss(0, sigma / math.sqrt(self.count)) + (sigma**2 - self.sigma**2) / 2
        mean = self.mean * math.exp(shift)
        deviation = mean * math.sqrt(math.exp(sigma**2) - 1)
        return _JobTimes(mean, deviation, lambda: mean * math.exp(random.gauss(-(sigma**2) / 2, sigma)))


@dataclass(frozen=True)
class _SampledTimes:
    """Times of any other kind: only the measured ones occur, corrected so that their mean is `mean`."""

    mean: float
    sample: Sequence[float]

    def draw(self, random: Random) -> _JobTimes:
        factor = self.mean / fmean(self.sample)
        sample = [time * factor for time in random.choices(self.sample, k=len(self.sample))]
        return _JobTimes(fmean(sample), stdev(sample), lambda: random.choice(sample))


def _choose_times(measured: MeasuredJobs) -> _LognormalTimes | _SampledTimes:
    logs = [math.log(seconds) for seconds in measured.seconds if seconds > 0]
    if len(logs) == len(measured.seconds) and is_lognormal(measured.seconds):
        return _LognormalTimes(measured.mean_seconds, min(stdev(logs), MAX_SIGMA), len(logs))
    return _SampledTimes(measured.mean_seconds, measured.seconds)


def _simulate_run(
    times: _JobTimes, measured: MeasuredJobs, jobs: int, cluster: Cluster, random: Random
) -> tuple[float, float]:
    """Return how many seconds one simulated run takes, and the machine-hours that it costs."""
    machines = max(1, min(cluster.machines, MAX_TAIL_SLOTS // cluster.slots))
    scale = cluster.machines / machines
    slots = machines * cluster.slots
    tail = [times.draw() for _ in range(min(round(jobs / scale), TAIL_JOBS * slots))]
    unmeasured = max(0, jobs - measured.count)
    work = min(measured.count, jobs) * measured.mean_seconds + unmeasured * times.mean
    work += random.gauss(0, times.deviation * math.sqrt(unmeasured))
    even_seconds = max(0.0, work / scale - sum(tail)) / slots
    ends = _schedule_jobs(tail, machines, cluster.slots)
    edges = sum(
        seconds * math.exp(random.gauss(0, EDGE_SIGMA)) for seconds in (cluster.startup_seconds, cluster.idle_seconds)
    )
    paid = [edges + even_seconds + end for end in ends]
    return max(paid), scale * sum(paid) / 3600


def _schedule_jobs(lengths: Sequence[float], machines: int, slots: int) -> list[float]:
    """Return when each machine's last job ends if each job starts in the slot that becomes free first."""
    free = [(0.0, place) for place in range(machines * slots)]  # neighboring places are on different machines
    for length in lengths:
        end, place = free[0]
        heapreplace(free, (end + length, place))
    ends = [0.0] * machines
    for end, place in free:
        ends[place % machines] = max(end, ends[place % machines])
    return ends


def _estimate(values: Sequence[float]) -> Estimate:
    """Return the median and p5 to p95 of values in ascending order."""
    low, middle, high = (values[min(len(values) - 1, int(share * len(values)))] for share in (0.05, 0.5, 0.95))
    return Estimate(middle, low, high)
