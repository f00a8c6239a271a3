"""The wrapped program: how it is started, ended and measured, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.emulator import until
from worker.machinery import sweep
from worker.machinery.failures import Failed, Interrupted
from worker.machinery.launcher import Launcher
from worker.machinery.program import Result, last_lines, run

MB = 1024 * 1024
Run = Callable[..., Result]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    made = Launcher(4)
    yield made
    made.end()


@pytest.fixture
def ran(launcher: Launcher, tmp_path: Path) -> Run:
    """Runs a command in a folder of its own, for at most a minute if the test does not say otherwise."""

    def start(command: Any, **how: Any) -> Result:
        usual: dict[str, Any] = {
            "shell": isinstance(command, str), "folder": tmp_path, "log": tmp_path / "log", "timeout_seconds": 60,
            "should_stop": lambda: False,
        }  # fmt: skip
        return run(how.pop("by", launcher), command, **(usual | how))

    return start


def processes(word: str) -> list[str]:
    """The process ids of those that have this word in their command line."""
    return subprocess.run(["pgrep", "-f", word], capture_output=True, text=True, check=False).stdout.split()


def test_a_program_that_ignores_the_time_limit_is_killed(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.machinery.program.GRACE_SECONDS", 0.2)
    result = ran("trap '' TERM; while :; do sleep 1; done", timeout_seconds=0.2)
    assert (result.exit_code, result.timed_out, result.stopped) == (-9, True, False)


def test_a_program_is_ended_when_it_must_stop(ran: Run) -> None:
    begun = time.monotonic()
    result = ran(["sleep", "60"], should_stop=lambda: time.monotonic() > begun + 0.1)
    assert (result.exit_code, result.timed_out, result.stopped) == (-15, False, True)


def test_programs_run_beside_each_other_and_each_has_its_own_end_and_log(ran: Run, tmp_path: Path) -> None:
    def one(number: int) -> tuple[int, list[str]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        result = ran(f"echo {number}; exit {number}", folder=folder, log=folder / "log")
        return result.exit_code, last_lines(folder / "log")

    with ThreadPoolExecutor(8) as pool:  # twice as many as may run at a time
        assert list(pool.map(one, range(20))) == [(number, [str(number)]) for number in range(20)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program"], "the program 'no-such-program' cannot be started: .*No such file or directory"),
        (["echo", "a\0b"], "the program 'echo' cannot be started: embedded null byte"),
        (["echo", "x" * 3 * MB], "the program 'echo' cannot be started: .*Argument list too long"),
    ],
)
def test_a_program_that_cannot_be_started_is_named_with_the_reason(ran: Run, command: list[str], reason: str) -> None:
    with pytest.raises(Failed, match=reason):
        ran(command)
    assert ran("true").exit_code == 0  # the next one can


def test_the_peak_memory_is_the_programs_own_and_not_that_of_the_worker(ran: Run) -> None:
    ballast = bytearray(os.urandom(100 * MB))  # what this process holds
    small = ran(["sh", "-c", ":"]).peak_memory_bytes
    large = ran([sys.executable, "-c", f"bytearray({50 * MB})"]).peak_memory_bytes
    assert len(ballast) > 4 * small
    assert 50 * MB < large < 100 * MB


@needs_linux
def test_what_a_program_leaves_behind_is_ended_also_in_a_session_of_its_own(ran: Run) -> None:
    ran(["sh", "-c", "sleep 4321 & setsid sleep 4321 & sleep 0.1"])
    assert processes("sleep 4321") == []


@needs_linux
def test_what_an_ended_program_left_is_found_among_many_and_among_few_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for few in (sweep.FEW, 0):
        monkeypatch.setattr(sweep, "FEW", few)
        first = subprocess.Popen(["true"], start_new_session=True)
        first.wait()
        left = subprocess.Popen(["sleep", "60"], env={**os.environ, sweep.VARIABLE: str(tmp_path)})
        assert sweep.sweep(str(tmp_path), first.pid) == [left.pid]
        assert left.wait() == -signal.SIGKILL


@pytest.mark.parametrize("is_program", [True, False])
def test_a_process_that_just_becomes_another_program_is_asked_again_and_one_of_the_kernel_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_program: bool
) -> None:
    process = tmp_path / "1"
    process.mkdir()
    (process / "environ").touch()
    if is_program:
        (process / "exe").symlink_to("/bin/sleep")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 20:
            (process / "environ").write_bytes(b"A=1\0B=2\0")

    monkeypatch.setattr(sweep.time, "sleep", sleep)
    assert sweep._environment(1, str(tmp_path)) == ([b"A=1", b"B=2", b""] if is_program else [])
    assert len(slept) == (20 if is_program else 0)


@needs_linux
def test_a_worker_that_is_killed_leaves_no_launcher_and_no_program(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from worker.machinery.launcher import Launcher\n"
        "from worker.machinery.program import run\n"
        f"here = Path({str(tmp_path)!r})\n"
        "run(Launcher(1), ['sh', '-c', 'sleep 5432 & setsid sleep 5432 & wait'], shell=False, folder=here,\n"
        "    log=here / 'log', timeout_seconds=60, should_stop=lambda: False)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: len(processes("^sleep 5432")) == 2, 10)
    (launcher,) = subprocess.run(["pgrep", "-P", str(worker.pid)], capture_output=True, text=True).stdout.split()
    worker.kill()
    worker.wait()
    until(lambda: not processes("^sleep 5432") and not Path("/proc", launcher).exists(), 10)


@needs_linux
def test_when_the_launcher_is_killed_the_job_is_interrupted_its_program_ended_and_the_container_told(
    ran: Run,
) -> None:
    lost: list[str] = []
    launcher = Launcher(1, lambda: lost.append("lost"))
    process = launcher._process

    def kill() -> bool:
        process.kill()
        return False

    with pytest.raises(Interrupted):
        ran(["sleep", "6543"], by=launcher, should_stop=kill)
    assert processes("^sleep 6543") == []
    with pytest.raises(Interrupted):
        ran("true", by=launcher)
    assert lost == ["lost", "lost"]
    launcher.end()
