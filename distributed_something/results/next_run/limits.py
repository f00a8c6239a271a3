"""Which limits the next run of a Job file would probably hit, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist, fmean, stdev

from distributed_something.results.next_run.forecast import MIN_JOBS, RunForecast, is_lognormal
from distributed_something.results.next_run.measured_jobs import MeasuredJobs

MIN_EXPECTED_JOBS = 0.5  # with fewer jobs over a limit, probably none is
MIB, GIB = 1 << 20, 1 << 30


class LimitKind(Enum):
    """A limit of jobs, or of the whole run."""

    TIME = "time limit"
    MEMORY = "MEMORY"
    DISK = "EBS_VOL_SIZE"
    COST = "MAX_COST"
    HOURS = "MAX_RUN_HOURS"


@dataclass(frozen=True)
class RunLimits:
    """The limits in a config; 0 if there is none or if it is unknown.

    `memory_mib`: of a container, which runs `jobs_per_container` jobs at once. `disk_gib`: of a machine, which runs
    `slots` jobs at once. `max_cost`: USD.
    """

    jobs_per_container: int = 1
    slots: int = 1
    memory_mib: float = 0.0
    disk_gib: float = 0.0
    max_cost: float = 0.0
    max_hours: float = 0.0


@dataclass(frozen=True)
class LimitRisk:
    """A limit that would probably be hit, with its value: seconds, bytes of one job, USD, or hours.

    `jobs`: about how many jobs would hit it; 0 for limits of the whole run. `is_certain`: for a limit of the run,
    whether it is below p5 rather than between p5 and p95.
    """

    kind: LimitKind
    limit: float
    jobs: int = 0
    is_certain: bool = False


def find_limit_risks(
    measured: MeasuredJobs, jobs: int, limits: RunLimits, forecast: RunForecast | None
) -> list[LimitRisk]:
    """Return the limits that a run of `jobs` jobs would probably hit.

    A job that shares its container or machine with others may use its share of the memory or disk: more only if they
    use less. Temporary files are not measured. How many jobs exceed a limit follows from the normal distribution of the
    logarithms, with the error of their mean, or from the measured jobs if the logarithms are not normal.
    """
    shares = (
        (LimitKind.TIME, measured.program_seconds, measured.time_limit or 0.0, "time-out"),
        (LimitKind.MEMORY, measured.peak_memory, limits.memory_mib * MIB / limits.jobs_per_container, "out of memory"),
        (LimitKind.DISK, measured.file_bytes, limits.disk_gib * GIB / limits.slots, "disk"),
    )
    risks: list[LimitRisk] = []
    for kind, values, limit, reason in shares:
        failed = measured.failures.get(reason, 0)
        share = max(_estimate_share(values, limit), failed / max(1, measured.count + failed))
        if (failed or limit) and jobs * share >= MIN_EXPECTED_JOBS:
            risks.append(LimitRisk(kind, limit, max(1, round(jobs * share))))
    if forecast is not None:
        hours = (forecast.seconds.low / 3600, forecast.seconds.high / 3600)
        risks += _judge_run(LimitKind.COST, limits.max_cost, forecast.usd.low, forecast.usd.high)
        risks += _judge_run(LimitKind.HOURS, limits.max_hours, *hours)
    return risks


def _judge_run(kind: LimitKind, limit: float, low: float, high: float) -> list[LimitRisk]:
    return [LimitRisk(kind, limit, is_certain=limit < low)] if limit and limit < high else []


def _estimate_share(values: Sequence[float], limit: float) -> float:
    """Return the share of jobs, from 0 to 1, whose value exceeds the limit; 0 without a limit or enough values."""
    known = [value for value in values if value > 0]
    if not limit or len(known) < MIN_JOBS:
        return 0.0
    over = sum(value > limit for value in known) / len(known)
    logs = [math.log(value) for value in known]
    if not is_lognormal(known) or not (sigma := stdev(logs)):
        return over
    error = sigma * math.sqrt(1 + 1 / len(logs))
    return max(over, 1 - NormalDist(fmean(logs), error).cdf(math.log(limit)))
