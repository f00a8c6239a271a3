"""The worker's own threads share one processor; programs, hooks, and threads that move files have all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.emulator import KEYS
from worker.machinery import processors, staging, transfer
from worker.machinery.launcher import Launcher
from worker.machinery.program import run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads cannot be kept to a processor"),
    pytest.mark.skipif(os.cpu_count() == 1, reason="one processor is all there is"),
]
TELL = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]


def mine() -> Set[int]:
    return os.sched_getaffinity(0)


def in_a_slot(work: Callable[[], Any]) -> Any:
    """What `work` returns in a thread of the worker's own."""
    with ThreadPoolExecutor(1, initializer=processors.keep_to_one) as pool:
        return pool.submit(work).result()


def test_all_threads_that_keep_to_one_share_the_same_and_others_have_all() -> None:
    assert in_a_slot(mine) == in_a_slot(mine) == processors._ONE
    assert len(processors._ONE) == 1
    assert mine() == processors._ALL


def test_a_hook_and_the_programs_that_it_starts_have_all() -> None:
    def hook() -> tuple[str, Set[int]]:
        with processors.all_of_them():
            told = subprocess.run(TELL, capture_output=True, text=True, check=True).stdout
        return told.strip(), mine()

    assert in_a_slot(hook) == (str(len(processors._ALL)), processors._ONE)


def test_a_program_has_all_also_where_a_slots_thread_had_to_replace_its_launcher(tmp_path: Path) -> None:
    def ran() -> str:
        launcher = Launcher(1)
        run(launcher, TELL, shell=False, folder=tmp_path, log=tmp_path / "log", timeout_seconds=60,
            should_stop=lambda: False)  # fmt: skip
        launcher.end()
        return (tmp_path / "log").read_text().strip()

    assert in_a_slot(ran) == str(len(processors._ALL))


def test_files_are_moved_on_all_and_a_single_small_one_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    seen: list[Set[int]] = []
    for name in ("get", "put"):
        plain = getattr(transfer, name)

        def spy(*words: Any, plain: Any = plain, **named: Any) -> Any:
            seen.append(mine())
            return plain(*words, **named)

        monkeypatch.setattr(transfer, name, spy)
    monkeypatch.setattr(staging._Publishing._put, "__defaults__", (transfer.put,))
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="ours")
        for count, expected in ((1, processors._ONE), (2, processors._ALL)):
            folder = tmp_path / str(count)
            folder.mkdir()
            for number in range(count):
                (folder / str(number)).touch()
            in_a_slot(lambda folder=folder: staging.publish(s3, folder, "ours", folder.name))
            assert set(map(frozenset, seen)) == {frozenset(expected)}
            seen.clear()
        (tmp_path / "in").mkdir()
        in_a_slot(lambda: staging.fetch(s3, ["1/0"], "ours", tmp_path / "in"))
        assert seen == [processors._ALL]
