"""Tests that the worker's threads share one processor, while programs, hooks, and transfers use all processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.processors import run_on_all_processors, use_one_processor
from distributed_something.worker.program.program import ProgramSurroundings, run_command
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can restrict a thread to a processor"),
    pytest.mark.skipif(os.cpu_count() == 1, reason="this computer has only one processor"),
]
PRINT_PROCESSOR_COUNT = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]


def get_own_processors() -> Set[int]:
    """Return the processors that the calling thread may use."""
    return os.sched_getaffinity(0)


def run_in_slot(function: Callable[[], Any]) -> Any:
    """Return the result of `function`, called in a thread that is set up like a slot's thread."""
    with ThreadPoolExecutor(1, initializer=use_one_processor) as pool:
        return pool.submit(function).result()


def test_slot_threads_share_one_processor_and_other_threads_use_all_processors() -> None:
    before = get_own_processors()
    assert run_in_slot(get_own_processors) == run_in_slot(get_own_processors)
    assert len(run_in_slot(get_own_processors)) == 1
    assert get_own_processors() == before
    assert len(before) > 1


def test_a_hook_and_its_programs_use_all_processors() -> None:
    def run_hook() -> tuple[str, Set[int]]:
        with run_on_all_processors():
            output = subprocess.run(PRINT_PROCESSOR_COUNT, capture_output=True, text=True, check=True).stdout
        return output.strip(), get_own_processors()

    assert run_in_slot(run_hook) == (str(len(get_own_processors())), run_in_slot(get_own_processors))


def test_a_program_uses_all_processors_even_if_a_slot_thread_started_its_launcher(tmp_path: Path) -> None:
    def run_program() -> str:
        launcher = LauncherPool(1)
        run_command(launcher, PRINT_PROCESSOR_COUNT, ProgramSurroundings(tmp_path, tmp_path / "log"), 60)
        launcher.end()
        return (tmp_path / "log").read_text().strip()

    assert run_in_slot(run_program) == str(len(get_own_processors()))


def test_transfers_use_all_processors_but_a_single_small_upload_runs_in_the_slot_thread(
    s3: Any, tmp_path: Path
) -> None:
    processor_sets: set[frozenset[int]] = set()  # of all threads that send or receive file content
    for operation in ("PutObject", "GetObject"):
        s3.meta.events.register(
            f"before-call.s3.{operation}", lambda **_: processor_sets.add(frozenset(get_own_processors()))
        )
    all_processors, slot_processor = frozenset(get_own_processors()), frozenset(run_in_slot(get_own_processors))
    for count, expected in ((1, slot_processor), (2, all_processors)):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / str(number)).touch()
        destination = ResultDestination("ours", folder.name)
        run_in_slot(lambda folder=folder, target=destination: upload_results(s3, folder, target))
        assert processor_sets == {expected}
        processor_sets.clear()
    (tmp_path / "in").mkdir()
    run_in_slot(lambda: fetch_inputs(InputSource(s3, "ours"), ["1/0"], tmp_path / "in"))
    assert processor_sets == {all_processors}
