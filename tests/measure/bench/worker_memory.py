"""Memory of a worker that waits for jobs, with one slot and with many."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

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
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, check=True, text=True)
    rows = [tuple(map(int, line.split())) for line in told.stdout.splitlines()]
    family = {process}
    for _ in range(2):  # the launchers' own parent is the worker's child
        family |= {pid for pid, parent, _ in rows if parent in family}
    return round(sum(_kilobytes(pid, rss) for pid, _, rss in rows if pid in family) * 1024 / 1e6)


def _kilobytes(process: int, resident: int) -> int:
    """Its share of the memory that it has (proc(5): Pss)."""
    try:
        told = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return resident
    return int(told.partition("Pss:")[2].split()[0])
