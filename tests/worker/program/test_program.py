"""Tests for running the wrapped program: starting, ending, and measuring it, and cleaning up its processes."""

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
from distributed_something.worker.program.program import ProgramSurroundings, read_last_lines, run_command, run_commands
from tests.support.emulator import wait_until
from tests.support.paths import ROOT

MB = 1024 * 1024
RunProgram = Callable[..., Result]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the launcher finds processes in /proc")


@pytest.fixture
def run_program(launcher: LauncherPool, tmp_path: Path) -> RunProgram:
    """Return a function that runs a command in the test's folder, with a default time limit of one minute."""

    def run(
        command: Any, *, pool: LauncherPool = launcher, folder: Path = tmp_path, log: Path = tmp_path / "log",
        timeout_seconds: float = 60, should_stop: Callable[[], bool] = lambda: False,
    ) -> Result:  # fmt: skip
        surroundings = ProgramSurroundings(folder, log, shell=isinstance(command, str))
        return run_command(pool, command, surroundings, timeout_seconds, should_stop)

    return run


def find_sleep_processes(seconds: int) -> list[psutil.Process]:
    """Return the processes that run `sleep SECONDS`, excluding zombies."""
    command = ["sleep", str(seconds)]
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command]


def test_a_program_that_ignores_the_time_limit_is_killed(
    run_program: RunProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.2)
    result = run_program("trap '' TERM; while :; do sleep 1; done", timeout_seconds=0.2)
    assert (result.exit_code, result.timed_out, result.stopped) == (-9, True, False)


def test_a_program_is_ended_when_the_worker_must_stop(run_program: RunProgram) -> None:
    start = time.monotonic()
    result = run_program(["sleep", "60"], should_stop=lambda: time.monotonic() > start + 0.1)
    assert (result.exit_code, result.timed_out, result.stopped) == (-15, False, True)


def test_programs_run_in_parallel_with_separate_exit_codes_and_logs(run_program: RunProgram, tmp_path: Path) -> None:
    def run_numbered(number: int) -> tuple[int, list[str]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        result = run_program(f"echo {number}; exit {number}", folder=folder, log=folder / "log")
        return result.exit_code, read_last_lines(folder / "log")

    with ThreadPoolExecutor(8) as pool:  # twice as many programs as the launchers can run at a time
        assert list(pool.map(run_numbered, range(20))) == [(number, [str(number)]) for number in range(20)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program"], "the program 'no-such-program' cannot be started: .*No such file or directory"),
        (["echo", "a\0b"], "the program 'echo' cannot be started: embedded null byte"),
        (["echo", "x" * 3 * MB], "the program 'echo' cannot be started: .*Argument list too long"),
    ],
)
def test_a_program_that_cannot_be_started_is_reported_with_the_reason(
    run_program: RunProgram, command: list[str], reason: str
) -> None:
    with pytest.raises(Failed, match=reason):
        run_program(command)
    assert run_program("true").exit_code == 0  # the launcher still works


def test_the_peak_memory_does_not_include_the_workers_memory(run_program: RunProgram) -> None:
    ballast = bytearray(os.urandom(100 * MB))  # memory that only this process uses
    small = run_program(["sh", "-c", ":"]).peak_memory_bytes
    large = run_program([sys.executable, "-c", f"bytearray({50 * MB})"]).peak_memory_bytes
    assert len(ballast) > 4 * small
    assert 50 * MB < large < 100 * MB


USE_MEMORY = "{python} -c \"import time; b = bytearray(b'x' * {megabytes} * 1024 * 1024); time.sleep({seconds})\""


def build_memory_command(megabytes: int, seconds: float) -> str:
    """Return a shell command for a process that uses this much memory for this long."""
    return USE_MEMORY.format(python=sys.executable, megabytes=megabytes, seconds=seconds)


@needs_linux
def test_the_peak_memory_is_the_sum_of_the_programs_processes(run_program: RunProgram) -> None:
    child = build_memory_command(50, 2.5)
    for command in (f"{child} & {child} & wait", f"(setsid {child} &); {child}"):
        assert 100 * MB < run_program(command).peak_memory_bytes < 200 * MB


@needs_linux
def test_signals_and_the_end_of_a_program_do_not_wait_for_the_next_memory_sample(run_program: RunProgram) -> None:
    start = time.monotonic()
    result = run_program(["sleep", "60"], should_stop=lambda: time.monotonic() > start + 1.2)
    assert (result.exit_code, result.stopped) == (-15, True)
    assert time.monotonic() - start < 1.9  # a sample is due after 1 s and after 2 s


def test_a_result_says_when_its_first_command_started_and_its_last_one_ended(
    launcher: LauncherPool, tmp_path: Path
) -> None:
    times = iter([100.0, 103.0, 104.0, 109.0])
    surroundings = ProgramSurroundings(tmp_path, tmp_path / "log", now=lambda: next(times))
    result = run_commands(launcher, [["true"], ["true"]], surroundings, 60)
    assert (result.started, result.ended) == (100.0, 109.0)


def test_no_further_command_runs_after_a_check_gives_a_reason(launcher: LauncherPool, tmp_path: Path) -> None:
    surroundings, checked = ProgramSurroundings(tmp_path, tmp_path / "log"), list[int]()

    def check(index: int) -> str | None:
        checked.append(index)
        return "b does not exist" if index == 1 else None

    commands = [["touch", name] for name in "abc"]
    result = run_commands(launcher, commands, surroundings, 60, check_command=check)
    assert (result.exit_code, result.failed_check, checked) == (0, "b does not exist", [0, 1])
    assert not (tmp_path / "c").exists()


def test_a_command_that_fails_is_not_checked(launcher: LauncherPool, tmp_path: Path) -> None:
    surroundings = ProgramSurroundings(tmp_path, tmp_path / "log")
    result = run_commands(launcher, [["false"], ["true"]], surroundings, 60, check_command=lambda _: "unused")
    assert (result.exit_code, result.failed_check) == (1, None)


@needs_linux
@pytest.mark.parametrize(
    "command",
    [
        "sleep 4321 & sleep 0.1",
        "setsid sleep 4321 & sleep 0.1",
        "env -i setsid sleep 4321 & sleep 0.1",
        "(setsid sh -c 'sleep 4321 & sleep 4321' &) ; sleep 0.1",
        "trap '' TERM; (trap '' TERM HUP; setsid sleep 4321) & sleep 0.1",
    ],
)
def test_all_processes_that_a_program_leaves_behind_are_killed(run_program: RunProgram, command: str) -> None:
    run_program(["sh", "-c", command])
    assert find_sleep_processes(4321) == []


@needs_linux
def test_a_process_left_behind_that_ends_by_itself_is_reaped(run_program: RunProgram, tmp_path: Path) -> None:
    run_program("(setsid sh -c 'echo $$ > left; exec sleep 0.05' &); until [ -s left ]; do sleep 0.01; done; sleep 0.2")
    assert not psutil.pid_exists(int((tmp_path / "left").read_text()))


@needs_linux
def test_launchers_and_programs_end_when_the_worker_is_killed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from distributed_something.worker.program.launcher import LauncherPool\n"
        "from distributed_something.worker.program.program import ProgramSurroundings, run_command\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "words = ['sh', '-c', 'sleep 5432 & setsid sleep 5432 & wait']\n"
        "run_command(LauncherPool(2), words, ProgramSurroundings(folder, folder / 'log'), 60)\n"
    )
    worker = psutil.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_until(lambda: len(find_sleep_processes(5432)) == 2, "the program did not start")
    (launcher,) = worker.children()
    worker.kill()
    worker.wait()
    wait_until(lambda: not find_sleep_processes(5432), "the program is still running")
    wait_until(lambda: not launcher.is_running(), "the launcher is still running")


@needs_linux
@pytest.mark.parametrize("action", ["kill -9 $PPID", "kill -STOP $PPID"])
def test_a_program_that_kills_or_stops_its_launcher_fails_only_its_own_attempt(
    run_program: RunProgram, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(launcher, "KILL_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(program, "GRACE_SECONDS", 0.2)
    pool = LauncherPool(2)
    with ThreadPoolExecutor(1) as executor:
        other_program = executor.submit(run_program, ["sleep", "1.5"], pool=pool)
        with pytest.raises(Failed, match="was killed or hangs") as caught:
            run_program(f"{action}; exec sleep 6543", pool=pool, timeout_seconds=0.3)
        assert caught.value.reason_class == "crash"
        assert other_program.result().exit_code == 0
    assert run_program("exit 7", pool=pool).exit_code == 7
    wait_until(lambda: find_sleep_processes(6543) == [], "the program is still running")
    pool.end()


@needs_linux
def test_a_launcher_that_was_killed_between_programs_is_replaced(run_program: RunProgram) -> None:
    before = set(psutil.Process().children())
    pool = LauncherPool(1)
    (started,) = set(psutil.Process().children()) - before
    os.killpg(started.pid, signal.SIGKILL)
    wait_until(lambda: started.status() == psutil.STATUS_ZOMBIE, "the launchers are still running")
    with pytest.raises(Failed):
        run_program("true", pool=pool)
    assert run_program("true", pool=pool).exit_code == 0
    pool.end()


@needs_linux
def test_a_lost_launcher_is_replaced_as_soon_as_the_machine_allows_it(
    run_program: RunProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_start(*_: Any, **__: Any) -> Any:
        raise OSError("Cannot allocate memory")

    pool = LauncherPool(1)
    with pytest.raises(Failed, match="was killed or hangs"):
        run_program("kill -9 $PPID", pool=pool)
    monkeypatch.setattr(launcher.subprocess, "Popen", fail_to_start)
    for _ in range(2):
        with pytest.raises(OSError, match="allocate"):
            run_program("true", pool=pool)
    monkeypatch.undo()
    assert run_program("exit 3", pool=pool).exit_code == 3
    pool.end()


def test_a_log_that_cannot_be_written_gives_the_reason_class_machine(run_program: RunProgram, tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        run_program("true", log=tmp_path / "none" / "log")
    assert caught.value.reason_class == "machine"
