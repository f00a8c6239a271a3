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
# The memory of the worker, which is not in the peaks of programs. Measured (docs/jobs.md): idle, 60 MB, or 80 MB with
# 16 slots; 210 MB while the jobs of 16 slots download and upload. Fewer slots need less, but how much is not known.
WORKER_MIB = 210
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


def estimate_container_memory(program_bytes: float) -> int:
    """Return the MEMORY in MiB for a container whose programs together use this much, with reserve and the worker."""
    return math.ceil((program_bytes * (1 + RESERVE) / MIB + WORKER_MIB) / STEP_MIB) * STEP_MIB


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
    is_guess = peak is None or peak / MIB >= NEAR_LIMIT * limit_mib or peak * slots * (1 + RESERVE) / MIB <= limit_mib
    enough = 2 * limit_mib if peak is None or is_guess else estimate_container_memory(peak * slots)
    return MemoryEstimate(
        len(killed),
        None if peak is None else math.ceil(peak / MIB),
        None if limit is None else limit_mib,
        enough,
        is_guess,
    )
