"""examples/once.py: what is fetched is fetched once, and is whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import ROOT, wait_for


class Cache:
    """A cache of its own, and a script that fills a folder in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "get.sh"
        self.says("echo made >> log; echo to the user")

    def says(self, text: str) -> None:
        self.script.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        self.script.chmod(0o755)

    def ask(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "examples" / "once.py"), "tool/program", str(self.script), *words]
        env = {"XDG_CACHE_HOME": str(self.folder / "cache"), "PATH": "/usr/bin:/bin"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def log(self) -> list[str]:
        """What the script noted in the folder that is there now."""
        return (self.folder / "cache" / "distributed-something" / "tool" / "program" / "log").read_text().split()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_a_folder_is_made_once_and_standard_output_names_nothing_else(cache: Cache) -> None:
    asked = [cache.ask().communicate(timeout=20) for _ in range(2)]
    folder = cache.folder / "cache" / "distributed-something" / "tool" / "program"
    assert [out for out, _ in asked] == [f"{folder}\n"] * 2
    assert [err for _, err in asked] == ["to the user\n", ""]
    assert cache.log() == ["made"]


def test_who_asks_at_the_same_time_waits_for_the_first(cache: Cache) -> None:
    cache.says("echo made >> log; sleep 0.5; echo whole >> log")
    both = [cache.ask(), cache.ask()]
    assert [one.wait(timeout=20) for one in both] == [0, 0]
    assert cache.log() == ["made", "whole"]


def test_what_was_killed_is_begun_again_from_nothing(cache: Cache) -> None:
    cache.says("echo half >> log; echo begun > begun; exec sleep 60")
    first = cache.ask()
    half = cache.folder / "cache" / "distributed-something" / "tool" / "program" / "begun"
    wait_for(half.exists)
    first.kill()
    first.wait()
    cache.says("echo made >> log")
    assert cache.ask().wait(timeout=20) == 0
    assert cache.log() == ["made"]
    assert not half.exists()


def test_what_failed_fails_and_is_tried_again(cache: Cache) -> None:
    cache.says("echo half >> log; echo no network >&2; exit 7")
    failed = cache.ask()
    assert "no network" in failed.communicate(timeout=20)[1]
    assert failed.returncode == 7
    cache.says("echo made >> log")
    assert cache.ask().wait(timeout=20) == 0
    assert cache.log() == ["made"]


@pytest.mark.parametrize("change", ["script", "arguments"])
def test_what_another_version_of_the_script_made_is_made_anew(cache: Cache, change: str) -> None:
    assert cache.ask().wait(timeout=20) == 0
    if change == "script":
        cache.says("echo newer >> log")
    assert cache.ask(*(["1.2"] if change == "arguments" else [])).wait(timeout=20) == 0
    assert cache.log() == (["newer"] if change == "script" else ["made"])


def test_a_second_ask_is_quick(cache: Cache) -> None:
    cache.says("sleep 1.5; echo made >> log")
    cache.ask().wait(timeout=20)
    start = time.monotonic()
    assert cache.ask().wait(timeout=20) == 0
    assert time.monotonic() - start < 1.5


def test_a_script_whose_helpers_lie_beside_it_makes_nothing_anew(cache: Cache) -> None:
    cache.says('true "$here/../once.py"; echo made >> log')
    assert cache.ask().wait(timeout=20) == 0
    cache.says('true "$here/once.py"; echo made >> log')  # as in a project that newProject made of the example
    assert cache.ask().wait(timeout=20) == 0
    assert cache.log() == ["made"]
