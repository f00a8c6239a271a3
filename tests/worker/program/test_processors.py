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

from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.processors import (
    _ALL_PROCESSORS,
    _ONE_PROCESSOR,
    run_on_all_processors,
    use_one_processor,
)
from distributed_something.worker.program.program import run_command
from distributed_something.worker.transfer import s3_file
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import _ResultUpload, upload_results
from distributed_something.worker.transfer.s3_file import upload_whole_file
from tests.support.emulator import KEYS

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
    assert in_a_slot(mine) == in_a_slot(mine) == _ONE_PROCESSOR
    assert len(_ONE_PROCESSOR) == 1
    assert mine() == _ALL_PROCESSORS


def test_a_hook_and_the_programs_that_it_starts_have_all() -> None:
    def hook() -> tuple[str, Set[int]]:
        with run_on_all_processors():
            told = subprocess.run(TELL, capture_output=True, text=True, check=True).stdout
        return told.strip(), mine()

    assert in_a_slot(hook) == (str(len(_ALL_PROCESSORS)), _ONE_PROCESSOR)


def test_a_program_has_all_also_where_a_slots_thread_had_to_replace_its_launcher(tmp_path: Path) -> None:
    def ran() -> str:
        launcher = LauncherPool(1)
        run_command(launcher, TELL, shell=False, folder=tmp_path, log=tmp_path / "log", timeout_seconds=60,
            should_stop=lambda: False)  # fmt: skip
        launcher.end()
        return (tmp_path / "log").read_text().strip()

    assert in_a_slot(ran) == str(len(_ALL_PROCESSORS))


def test_files_are_moved_on_all_and_a_single_small_one_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    seen: list[Set[int]] = []
    for name in ("get", "put"):
        plain = getattr(s3_file, name)

        def spy(*words: Any, plain: Any = plain, **named: Any) -> Any:
            seen.append(mine())
            return plain(*words, **named)

        monkeypatch.setattr(s3_file, name, spy)
    monkeypatch.setattr(_ResultUpload._put, "__defaults__", (upload_whole_file,))
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="ours")
        for count, expected in ((1, _ONE_PROCESSOR), (2, _ALL_PROCESSORS)):
            folder = tmp_path / str(count)
            folder.mkdir()
            for number in range(count):
                (folder / str(number)).touch()
            in_a_slot(lambda folder=folder: upload_results(s3, folder, "ours", folder.name))
            assert set(map(frozenset, seen)) == {frozenset(expected)}
            seen.clear()
        (tmp_path / "in").mkdir()
        in_a_slot(lambda: fetch_inputs(s3, ["1/0"], "ours", tmp_path / "in"))
        assert seen == [_ALL_PROCESSORS]
