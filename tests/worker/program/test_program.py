"""The wrapped program: how it is started, ended and measured, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.program import launcher, program
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.program import ProgramSurroundings, read_last_lines, run_command
from tests.support.emulator import until
from tests.support.paths import ROOT

MB = 1024 * 1024
Run = Callable[..., Result]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture
def ran(launcher: LauncherPool, tmp_path: Path) -> Run:
    """Runs a command in a folder of its own, for at most a minute if the test does not say otherwise."""

    def start(
        command: Any, *, by: LauncherPool = launcher, folder: Path = tmp_path, log: Path = tmp_path / "log",
        timeout_seconds: float = 60, should_stop: Callable[[], bool] = lambda: False,
    ) -> Result:  # fmt: skip
        surroundings = ProgramSurroundings(folder, log, shell=isinstance(command, str))
        return run_command(by, command, surroundings, timeout_seconds, should_stop)

    return start


def sleepers(seconds: int) -> list[psutil.Process]:
    """The processes `sleep SECONDS`, zombies apart."""
    command = ["sleep", str(seconds)]
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command]


def test_a_program_that_ignores_the_time_limit_is_killed(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.2)
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
        return result.exit_code, read_last_lines(folder / "log")

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
@pytest.mark.parametrize(
    "left",
    [
        "sleep 4321 & sleep 0.1",
        "setsid sleep 4321 & sleep 0.1",
        "env -i setsid sleep 4321 & sleep 0.1",
        "(setsid sh -c 'sleep 4321 & sleep 4321' &) ; sleep 0.1",
        "trap '' TERM; (trap '' TERM HUP; setsid sleep 4321) & sleep 0.1",
    ],
)
def test_what_a_program_leaves_behind_is_ended_wherever_it_went(ran: Run, left: str) -> None:
    ran(["sh", "-c", left])
    assert sleepers(4321) == []


@needs_linux
def test_no_zombie_is_left_of_what_ended_by_itself(ran: Run, tmp_path: Path) -> None:
    ran("(setsid sh -c 'echo $$ > left; exec sleep 0.05' &); until [ -s left ]; do sleep 0.01; done; sleep 0.2")
    assert not psutil.pid_exists(int((tmp_path / "left").read_text()))


@needs_linux
def test_a_worker_that_is_killed_leaves_no_launcher_and_no_program(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from distributed_something.worker.program.launcher import LauncherPool\n"
        "from distributed_something.worker.program.program import ProgramSurroundings, run_command\n"
        f"here = Path({str(tmp_path)!r})\n"
        "words = ['sh', '-c', 'sleep 5432 & setsid sleep 5432 & wait']\n"
        "run_command(LauncherPool(2), words, ProgramSurroundings(here, here / 'log'), 60)\n"
    )
    worker = psutil.Popen([sys.executable, "-c", code], cwd=ROOT)
    until(lambda: len(sleepers(5432)) == 2, "the program does not start")
    (launcher,) = worker.children()
    worker.kill()
    worker.wait()
    until(lambda: not sleepers(5432), "its program is left")
    until(lambda: not launcher.is_running(), "its launcher is left")


@needs_linux
@pytest.mark.parametrize("deed", ["kill -9 $PPID", "kill -STOP $PPID"])
def test_a_program_that_does_away_with_its_launcher_costs_its_own_attempt_alone(
    ran: Run, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    monkeypatch.setattr(launcher, "KILL_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.2)
    pool = LauncherPool(2)
    with ThreadPoolExecutor(1) as other:
        beside = other.submit(ran, ["sleep", "1.5"], by=pool)
        with pytest.raises(Failed, match="was killed or hangs") as caught:
            ran(f"{deed}; exec sleep 6543", by=pool, timeout_seconds=0.3)
        assert caught.value.reason_class == "crash"
        assert beside.result().exit_code == 0
    assert ran("exit 7", by=pool).exit_code == 7
    until(lambda: sleepers(6543) == [], "the program is left")
    pool.end()


@needs_linux
def test_a_launcher_that_is_killed_before_a_program_is_replaced(ran: Run) -> None:
    before = set(psutil.Process().children())
    pool = LauncherPool(1)
    (started,) = set(psutil.Process().children()) - before
    os.killpg(started.pid, signal.SIGKILL)
    until(lambda: started.status() == psutil.STATUS_ZOMBIE, "the launchers go on")
    with pytest.raises(Failed):
        ran("true", by=pool)
    assert ran("true", by=pool).exit_code == 0
    pool.end()


@needs_linux
def test_a_lost_launcher_that_cannot_be_replaced_now_is_replaced_when_the_machine_can(
    ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("Cannot allocate memory")

    pool = LauncherPool(1)
    with pytest.raises(Failed, match="was killed or hangs"):
        ran("kill -9 $PPID", by=pool)
    monkeypatch.setattr(launcher.subprocess, "Popen", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="allocate"):
            ran("true", by=pool)
    monkeypatch.undo()
    assert ran("exit 3", by=pool).exit_code == 3
    pool.end()


def test_a_log_that_cannot_be_written_is_the_machines_fault(ran: Run, tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        ran("true", log=tmp_path / "none" / "log")
    assert caught.value.reason_class == "machine"
