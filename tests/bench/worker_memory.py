"""Memory of a worker process that waits for jobs, with one slot and with many."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.bench.report import Line
from tests.emulator import Lab, ministack

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
    """MB, as `ps` tells it on Linux and macOS."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, check=True, text=True)
    return round(int(told.stdout) * 1024 / 1e6)
