"""Tests that the worker's threads share one processor, while programs, hooks, and transfers use all processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from distributed_something.worker.hooks.hook_calls import HookThreads
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.processors import use_one_processor
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.program import ProgramSurroundings, run_command
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from tests.support.emulator import KEYS
from tests.support.object_server import run_object_server

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can restrict a thread to a processor"),
    pytest.mark.skipif(os.cpu_count() == 1, reason="this computer has only one processor"),
]
PRINT_PROCESSOR_COUNT = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]


def get_processors(thread: int = 0) -> Set[int]:
    """Return the processors that a thread may use; 0 stands for the calling thread."""
    return os.sched_getaffinity(thread)


def list_event_loops() -> set[int]:
    """Return the IDs of awscrt's threads that transfer data."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended in the meantime
            if "EventLoop" in (task / "comm").read_text():
                found.add(int(task.name))
    return found


def run_in_slot(function: Callable[[], Any]) -> Any:
    """Return the result of `function`, called in a thread that is restricted like a slot's thread."""
    with ThreadPoolExecutor(1, initializer=use_one_processor) as pool:
        return pool.submit(function).result()


def test_a_hook_and_its_programs_use_all_processors() -> None:
    threads, found = HookThreads(), Future[str]()

    def run_hook() -> None:
        found.set_result(subprocess.run(PRINT_PROCESSOR_COUNT, capture_output=True, text=True, check=True).stdout)

    run_in_slot(lambda: threads.start(run_hook))
    assert int(found.result()) == len(get_processors())
    threads.end()


def test_a_program_uses_all_processors_even_if_a_slot_replaced_its_launcher(tmp_path: Path) -> None:
    def run_program() -> str:
        launcher = LauncherPool(1)
        run_command(launcher, PRINT_PROCESSOR_COUNT, ProgramSurroundings(tmp_path, tmp_path / "log"), 60)
        launcher.end()
        return (tmp_path / "log").read_text().strip()

    assert run_in_slot(run_program) == str(len(get_processors()))


def test_transfers_use_all_processors_but_a_single_small_upload_stays_in_the_slots_thread(
    s3: Any, tmp_path: Path
) -> None:
    seen: SimpleQueue[frozenset[int]] = SimpleQueue()  # of all threads that send or receive file content
    for operation in ("PutObject", "GetObject"):
        s3.meta.events.register(f"before-call.s3.{operation}", lambda **_: seen.put(frozenset(get_processors())))

    def read_seen() -> set[frozenset[int]]:
        return {seen.get() for _ in range(seen.qsize())}

    everywhere, slot = frozenset(get_processors()), frozenset(run_in_slot(get_processors))
    for count, expected in ((1, slot), (2, everywhere)):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / str(number)).touch()
        destination = ResultDestination("ours", folder.name)
        run_in_slot(lambda folder=folder, target=destination: upload_results(s3, folder, target))
        assert read_seen() == {expected}
    (tmp_path / "in").mkdir()
    run_in_slot(lambda: fetch_inputs(InputSource(s3, "ours"), ["1/0"], tmp_path / "in"))
    assert read_seen() == {everywhere}


def test_awscrts_threads_use_all_processors_even_if_a_slot_starts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("awscrt")
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
    with run_object_server() as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        clients = Clients(1, "us-east-1")
        s3 = clients("s3")

        def upload() -> None:
            upload_results(s3, tmp_path, ResultDestination("ours", "p"), transfers=clients.create_transfers(s3))

        before = list_event_loops()
        run_in_slot(upload)
        started = list_event_loops() - before
        assert started
        assert {len(get_processors(thread)) for thread in started} == {len(get_processors())}
