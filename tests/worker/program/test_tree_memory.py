"""Tests for the memory of a process tree, sampled once a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import pytest

from distributed_something.worker.program.tree_memory import TreeMemory, measure_descendants
from tests.support.fakes import FakeTime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
PAGE = os.sysconf("SC_PAGE_SIZE")


def add_process(proc: Path, process: int, pages: int, **children: str) -> None:
    """Add a process with `pages` of resident memory to a copy of /proc. `children`: each thread's children."""
    for thread, text in ({f"t{process}": ""} | children).items():
        (proc / str(process) / "task" / thread[1:]).mkdir(parents=True)
        (proc / str(process) / "task" / thread[1:] / "children").write_text(text)
    (proc / str(process) / "statm").write_text(f"{9 * pages} {pages} 1 1 0 1 0\n")


def test_the_children_of_all_threads_and_their_children_are_added_up(tmp_path: Path) -> None:
    add_process(tmp_path, 1, 1000, t1="2 3 ")
    add_process(tmp_path, 2, 5, t2="", t7="4 ")
    add_process(tmp_path, 3, 6)
    add_process(tmp_path, 4, 7)
    add_process(tmp_path, 5, 9999)  # not a descendant
    assert measure_descendants(1, tmp_path) == 18 * PAGE


def test_processes_that_end_during_a_sample_count_as_nothing(tmp_path: Path) -> None:
    add_process(tmp_path, 1, 1000, t1="2 3 ")
    add_process(tmp_path, 3, 6)
    (tmp_path / "3" / "task" / "8").mkdir()  # a thread that ended after it was listed
    assert measure_descendants(1, tmp_path) == 6 * PAGE
    assert measure_descendants(77, tmp_path) == 0


def test_a_real_child_and_its_child_are_measured() -> None:
    code = "import sys; b = bytearray(b'x' * 20_000_000); print('ready', flush=True); sys.stdin.read()"
    shell = subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" -c "{code}"; :'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout
    shell.stdout.readline()
    assert 20_000_000 < measure_descendants(shell.pid) < 60_000_000
    shell.communicate(timeout=60)


def test_the_highest_of_the_samples_counts_and_at_most_one_is_taken_per_second(tmp_path: Path) -> None:
    time = FakeTime(0.0)
    memory = TreeMemory(1, time.now, tmp_path)
    add_process(tmp_path, 1, 0, t1="2 ")
    add_process(tmp_path, 2, 0)
    peaks = []
    for time.time, pages in ((0.9, 500), (1.0, 30), (1.9, 700), (2.0, 20), (3.5, 40)):
        (tmp_path / "2" / "statm").write_text(f"900 {pages} 1\n")
        memory.sample_if_due()
        peaks.append(memory.peak_bytes // PAGE)
    assert peaks == [0, 30, 30, 30, 40]
    assert memory.seconds_to_sample == 1.0


def test_the_kernels_peak_of_a_single_process_counts_even_without_a_sample(tmp_path: Path) -> None:
    memory, usage = TreeMemory(1, lambda: 0.0, tmp_path), getrusage(RUSAGE_SELF)
    memory.add_usage(usage)
    assert memory.peak_bytes == usage.ru_maxrss * 1024
