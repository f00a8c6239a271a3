"""Tests for detecting out-of-memory kills, which the kernel counts in the container's control group."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distributed_something.worker.program.memory import OOM_VICTIM_SCORE, OomKills, mark_oom_victim

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"


class Cgroup:
    """A control group (version 1 or 2) whose kill count is set by the tests."""

    def __init__(self, folder: Path, file: str, text: str) -> None:
        self.folder, self._file, self._text = folder, folder / file, text
        self._file.parent.mkdir(exist_ok=True)
        self.set_kill_count(0)

    def set_kill_count(self, kills: int) -> None:
        self._file.write_text(self._text.format(kills))


@pytest.fixture(params=[("memory.events", V2), ("memory/memory.oom_control", V1)], ids=["v2", "v1"])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path) -> Cgroup:
    return Cgroup(tmp_path, *request.param)


def test_a_kill_is_claimed_once(cgroup: Cgroup) -> None:
    kills = OomKills(cgroup.folder)
    assert not kills.claim_kill(kills.count_kills(), -9, runs_alone=False)
    cgroup.set_kill_count(2)
    assert [kills.claim_kill(0, -9, runs_alone=False) for _ in range(4)] == [True, True, False, False]
    cgroup.set_kill_count(3)
    assert kills.claim_kill(0, -9, runs_alone=False)


def test_kills_before_a_program_starts_are_not_claimed_for_it(cgroup: Cgroup) -> None:
    """Such kills can belong to another job's program, which may still be running or may claim them itself."""
    kills = OomKills(cgroup.folder)
    cgroup.set_kill_count(5)
    before = kills.count_kills()
    assert not kills.claim_kill(before, -9, runs_alone=False)
    cgroup.set_kill_count(6)
    assert [kills.claim_kill(before, -9, runs_alone=False), kills.claim_kill(before, -9, runs_alone=False)] == [
        True,
        False,
    ]


def test_no_kill_is_claimed_twice_when_many_slots_claim_at_the_same_time(cgroup: Cgroup) -> None:
    kills = OomKills(cgroup.folder)
    cgroup.set_kill_count(20)
    with ThreadPoolExecutor(16) as slots:
        claims = list(slots.map(lambda _: kills.claim_kill(0, -9, runs_alone=False), range(200)))
    assert sum(claims) == 20


@pytest.mark.parametrize("text", [None, "", "oom 7\n", "oom_kill many\n", "oom_group_kill 4\n"])
def test_no_kill_is_claimed_without_a_readable_count(tmp_path: Path, text: str | None) -> None:
    kills = OomKills(tmp_path)
    if text is not None:
        (tmp_path / "memory.events").write_text(text)
    assert not kills.claim_kill(0, -9, runs_alone=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_the_kernel_kills_a_program_and_its_children_before_the_worker() -> None:
    shell = ["sh", "-c", "read go; cat /proc/self/oom_score_adj"]
    program = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    mark_oom_victim(program.pid)
    output, _ = program.communicate("go\n", timeout=60)
    assert int(output) == OOM_VICTIM_SCORE > int(Path("/proc/self/oom_score_adj").read_text())


def test_marking_a_victim_succeeds_even_if_its_score_file_does_not_exist(tmp_path: Path) -> None:
    mark_oom_victim(1, tmp_path)
