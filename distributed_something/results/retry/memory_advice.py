"""Estimates which MEMORY would have been enough for jobs that ran out of memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from distributed_something.results.retry.retry_jobs import RetryJob

MIB = 1024 * 1024
STEP_MIB = 64
RESERVE = 0.15  # added to the measured peak, which is sampled only once a second
NEAR_LIMIT = 0.9  # from this part of the limit on, the peak shows only that the program needs more than the limit
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class MemoryEstimate:
    """An estimate of the memory that a container needs, in MiB.

    `jobs`: how many jobs ran out of memory. `peak` and `limit`: the largest that were measured; None if unknown.
    `enough`: what would probably have been enough. `is_guess`: whether it is only twice the limit, because the peak
    cannot show how much more than the limit the program needs.
    """

    jobs: int
    peak: int | None
    limit: int | None
    enough: int
    is_guess: bool


def estimate_memory(jobs: Iterable[RetryJob], slots: int, memory: int) -> MemoryEstimate | None:
    """Return an estimate from the jobs that ran out of memory; None if there are none.

    `slots`: how many programs share a container's memory. `memory`: the config's MEMORY in MiB, which is used if the
    records do not contain the limit.
    """
    killed = [job for job in jobs if job.failed.reason_class == OUT_OF_MEMORY]
    if not killed:
        return None
    peak = max((job.peak_memory for job in killed if job.peak_memory), default=None)
    limit = max((job.memory_limit for job in killed if job.memory_limit), default=None)
    limit_mib = memory if limit is None else round(limit / MIB)
    needed = 0 if peak is None else peak * slots * (1 + RESERVE) / MIB
    is_guess = peak is None or peak / MIB >= NEAR_LIMIT * limit_mib or needed <= limit_mib
    enough = 2 * limit_mib if is_guess else _round_up(needed)
    return MemoryEstimate(
        len(killed),
        None if peak is None else math.ceil(peak / MIB),
        None if limit is None else limit_mib,
        enough,
        is_guess,
    )


def _round_up(mib: float) -> int:
    return math.ceil(mib / STEP_MIB) * STEP_MIB
