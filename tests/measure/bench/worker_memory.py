"""Measures the memory of a worker that is waiting for jobs, with 1 slot and with 16 slots."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.measure.bench.report import Measurement
from tests.support.emulator import WorkerLab, run_ministack

SETTLED_SECONDS = 8.0  # long enough for each slot to create its clients and poll once
MANY_SLOTS = 16
MAX_MB = 75  # the goal for a worker with one slot


def measure_idle_worker(folder: Path) -> list[Measurement]:
    """Measure the resident memory with 1 slot and with 16 slots."""
    with run_ministack(folder) as url:
        one, many = (_measure_worker(url, folder / str(slots), slots) for slots in (1, MANY_SLOTS))
    return [
        Measurement("idle worker's memory, 1 slot", f"{one} MB", f"<= {MAX_MB} MB", one <= MAX_MB),
        Measurement(f"idle worker's memory, {MANY_SLOTS} slots", f"{many} MB"),
    ]


def _measure_worker(url: str, folder: Path, slots: int) -> int:
    """Start a worker and return its memory in MB once it is idle."""
    folder.mkdir()
    lab = WorkerLab(url, folder)
    worker = lab.start_worker(DOCKER_CORES=str(slots))
    try:
        time.sleep(SETTLED_SECONDS)
        assert worker.poll() is None, lab.read_log()
        return _sum_memory(worker.pid)
    finally:
        lab.kill_workers()


def _sum_memory(process_id: int) -> int:
    """Return the memory of the worker and its launchers, in MB.

    On Linux, shared memory is counted only once. On other systems, it is counted for each process.
    """
    worker = psutil.Process(process_id)
    return round(sum(map(_get_memory, [worker, *worker.children(recursive=True)])) / 1e6)


def _get_memory(process: psutil.Process) -> int:
    """Return a process's proportional set size in bytes (Pss in proc(5)), or its full resident memory if this is not
    Linux.
    """
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.rss))
