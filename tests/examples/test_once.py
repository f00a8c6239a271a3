"""examples/once.py: files are fetched completely and only once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import ROOT, wait_until


class Cache:
    """An empty cache, and a script that fills a folder in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "get.sh"
        self.write_script("echo complete >> log; echo to the user")

    def write_script(self, text: str) -> None:
        self.script.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        self.script.chmod(0o755)

    def start_once(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "examples" / "once.py"), "tool/program", str(self.script), *arguments]
        env = {"XDG_CACHE_HOME": str(self.folder / "cache"), "PATH": "/usr/bin:/bin"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read_log(self) -> list[str]:
        """Return the words that the script wrote to its log in the current folder."""
        return (self.folder / "cache" / "distributed-something" / "tool" / "program" / "log").read_text().split()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_a_folder_is_filled_once_and_standard_output_contains_only_its_path(cache: Cache) -> None:
    outputs = [cache.start_once().communicate(timeout=20) for _ in range(2)]
    folder = cache.folder / "cache" / "distributed-something" / "tool" / "program"
    assert [out for out, _ in outputs] == [f"{folder}\n"] * 2
    assert [err for _, err in outputs] == ["to the user\n", ""]
    assert cache.read_log() == ["complete"]


def test_a_simultaneous_second_call_waits_for_the_first_call(cache: Cache) -> None:
    cache.write_script("echo started >> log; sleep 0.5; echo complete >> log")
    processes = [cache.start_once(), cache.start_once()]
    assert [process.wait(timeout=20) for process in processes] == [0, 0]
    assert cache.read_log() == ["started", "complete"]


def test_after_an_interruption_the_next_call_starts_with_an_empty_folder(cache: Cache) -> None:
    cache.write_script("echo incomplete >> log; echo started > started; exec sleep 60")
    process = cache.start_once()
    file = cache.folder / "cache" / "distributed-something" / "tool" / "program" / "started"
    wait_until(file.exists)
    process.kill()
    process.wait()
    cache.write_script("echo complete >> log")
    assert cache.start_once().wait(timeout=20) == 0
    assert cache.read_log() == ["complete"]
    assert not file.exists()


def test_the_exit_code_of_a_failed_script_is_returned_and_the_next_call_runs_it_again(cache: Cache) -> None:
    cache.write_script("echo incomplete >> log; echo no network >&2; exit 7")
    process = cache.start_once()
    assert "no network" in process.communicate(timeout=20)[1]
    assert process.returncode == 7
    cache.write_script("echo complete >> log")
    assert cache.start_once().wait(timeout=20) == 0
    assert cache.read_log() == ["complete"]


@pytest.mark.parametrize("change", ["script", "arguments"])
def test_the_folder_is_filled_again_if_the_script_or_its_arguments_change(cache: Cache, change: str) -> None:
    assert cache.start_once().wait(timeout=20) == 0
    if change == "script":
        cache.write_script("echo newer >> log")
    assert cache.start_once(*(["1.2"] if change == "arguments" else [])).wait(timeout=20) == 0
    assert cache.read_log() == (["newer"] if change == "script" else ["complete"])


def test_a_second_call_is_fast(cache: Cache) -> None:
    cache.write_script("sleep 1.5; echo complete >> log")
    cache.start_once().wait(timeout=20)
    start = time.monotonic()
    assert cache.start_once().wait(timeout=20) == 0
    assert time.monotonic() - start < 1.5


def test_a_script_that_differs_only_in_the_path_of_its_helpers_does_not_run_again(cache: Cache) -> None:
    cache.write_script('true "$here/../once.py"; echo complete >> log')
    assert cache.start_once().wait(timeout=20) == 0
    cache.write_script('true "$here/once.py"; echo complete >> log')  # in the form in which newProject copies it
    assert cache.start_once().wait(timeout=20) == 0
    assert cache.read_log() == ["complete"]
