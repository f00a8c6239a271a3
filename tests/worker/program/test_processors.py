"""The worker's own threads share one processor; programs, hooks, and threads that move files have all."""

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
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads cannot be kept to a processor"),
    pytest.mark.skipif(os.cpu_count() == 1, reason="one processor is all there is"),
]
TELL = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]


def mine() -> Set[int]:
    return os.sched_getaffinity(0)


def in_a_slot(work: Callable[[], Any]) -> Any:
    """What `work` returns in a thread of the worker's own."""
    with ThreadPoolExecutor(1, initializer=use_one_processor) as pool:
        return pool.submit(work).result()


def test_all_threads_that_keep_to_one_share_the_same_and_others_have_all() -> None:
    before = mine()
    assert in_a_slot(mine) == in_a_slot(mine)
    assert len(in_a_slot(mine)) == 1
    assert mine() == before
    assert len(before) > 1


def test_a_hook_and_the_programs_that_it_starts_have_all() -> None:
    def hook() -> tuple[str, Set[int]]:
        with run_on_all_processors():
            told = subprocess.run(TELL, capture_output=True, text=True, check=True).stdout
        return told.strip(), mine()

    assert in_a_slot(hook) == (str(len(mine())), in_a_slot(mine))


def test_a_program_has_all_also_where_a_slots_thread_had_to_replace_its_launcher(tmp_path: Path) -> None:
    def ran() -> str:
        launcher = LauncherPool(1)
        run_command(launcher, TELL, ProgramSurroundings(tmp_path, tmp_path / "log"), 60)
        launcher.end()
        return (tmp_path / "log").read_text().strip()

    assert in_a_slot(ran) == str(len(mine()))


def test_files_are_moved_on_all_and_a_single_small_one_without_a_thread(s3: Any, tmp_path: Path) -> None:
    seen: set[frozenset[int]] = set()  # by the threads that send or fetch a file's bytes
    for operation in ("PutObject", "GetObject"):
        s3.meta.events.register(f"before-call.s3.{operation}", lambda **_: seen.add(frozenset(mine())))
    everywhere, one = frozenset(mine()), frozenset(in_a_slot(mine))
    for count, expected in ((1, one), (2, everywhere)):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / str(number)).touch()
        destination = ResultDestination("ours", folder.name)
        in_a_slot(lambda folder=folder, place=destination: upload_results(s3, folder, place))
        assert seen == {expected}
        seen.clear()
    (tmp_path / "in").mkdir()
    in_a_slot(lambda: fetch_inputs(s3, ["1/0"], "ours", tmp_path / "in"))
    assert seen == {everywhere}
