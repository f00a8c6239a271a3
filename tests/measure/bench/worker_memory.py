"""Memory of a worker that waits for jobs, with one slot and with many."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.measure.bench.report import Line
from tests.support.emulator import Lab, ministack

SETTLED_SECONDS = 8.0  # a poll of each slot, and the clients that it makes
MANY_SLOTS = 16


def lines(folder: Path) -> list[Line]:
    """Resident memory with 1 slot and with 16."""
    with ministack(folder) as url:
        return [
            Line(
                f"idle worker's memory, {slots} slot{'s' * (slots > 1)}", f"{_idle(url, folder / str(slots), slots)} MB"
            )
            for slots in (1, MANY_SLOTS)
        ]


def _idle(url: str, folder: Path, slots: int) -> int:
    folder.mkdir()
    lab = Lab(url, folder)
    worker = lab.worker(DOCKER_CORES=str(slots))
    try:
        time.sleep(SETTLED_SECONDS)
        assert worker.poll() is None, lab.log()
        return _resident(worker.pid)
    finally:
        lab.end()


def _resident(process: int) -> int:
    """MB of the worker and its launchers; on Linux what several share counts once, elsewhere for each."""
    worker = psutil.Process(process)
    return round(sum(map(_bytes, [worker, *worker.children(recursive=True)])) / 1e6)


def _bytes(process: psutil.Process) -> int:
    """Its share of the memory that it has (proc(5): Pss), where the system tells it."""
    told = process.memory_full_info()
    return int(getattr(told, "pss", told.rss))
