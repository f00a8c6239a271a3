"""Why a script that exists cannot be started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.program.explanations.script_faults import explain_exit, explain_script
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.program import ProgramSurroundings, run_command

WINDOWS = (
    "run.sh has Windows line ends, so the system looks for the interpreter {!r};"
    " convert the file, for example with: sed -i 's/\\r$//' run.sh"
)
SCRIPTS = [
    (b"#!/bin/sh\r\necho hello\r\n", WINDOWS.format("/bin/sh\r")),
    (b"#!/usr/bin/env python3\r\nprint()\r\n", WINDOWS.format("python3\r")),
    (b"#! /opt/none/bin/perl -w\n", "the first line of run.sh names the interpreter '/opt/none/bin/perl', which does"
     " not exist in this image"),
    (b"#!/usr/bin/env no-such-program\n", "the first line of run.sh names the interpreter 'no-such-program', which this"
     " image does not have"),
    (b"\xef\xbb\xbf#!/bin/sh\n", "run.sh begins with an invisible byte order mark; save it as UTF-8 without one"),
]  # fmt: skip


def write_script(folder: Path, content: bytes) -> Path:
    path = folder / "run.sh"
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("content", "reason"), SCRIPTS)
@pytest.mark.parametrize(
    "command", ["./run.sh", ["./run.sh", "x"], "cd . && exec ./run.sh a > b", "sh run.sh;true", "$(./run.sh)"]
)
def test_what_is_wrong_with_a_scripts_first_line_is_explained(
    tmp_path: Path, content: bytes, reason: str, command: str | list[str]
) -> None:
    write_script(tmp_path, content)
    assert explain_script(command, tmp_path, os.environ) == reason


@pytest.mark.parametrize("content", [b"#!/bin/sh\necho\r\n", b"#!/usr/bin/env -S sh -e\n", b"", b"\x00\xff", b"a\r\n"])
def test_nothing_is_explained_if_the_first_line_is_not_the_cause(tmp_path: Path, content: bytes) -> None:
    write_script(tmp_path, content)
    for command in ("./run.sh", "no-such-program 'unbalanced", ["missing", "\0", "x" * 10_000]):
        assert explain_script(command, tmp_path, os.environ) is None


@pytest.mark.parametrize(("content", "reason"), [SCRIPTS[0], SCRIPTS[2]])
def test_a_script_is_found_in_the_job_folder_and_in_path(
    tmp_path: Path, launcher: LauncherPool, content: bytes, reason: str
) -> None:
    script = write_script(tmp_path, content)
    for word, path in (("./run.sh", os.environ["PATH"]), (str(script), ""), ("run.sh", str(tmp_path))):
        surroundings = ProgramSurroundings(tmp_path, tmp_path / "log", env={"PATH": path})
        with pytest.raises(Failed) as failed:
            run_command(launcher, [word], surroundings, 60)
        assert str(failed.value).endswith(f"; {reason}")
        assert "No such file or directory" in str(failed.value)
        assert failed.value.reason_class == "program"


def test_a_program_for_another_system_is_explained(tmp_path: Path, launcher: LauncherPool) -> None:
    """The program of a 64-bit system names its loader, here one that does not exist."""
    content = bytearray(Path("/bin/sh").read_bytes())
    loader = content.find(b"/ld-")
    if not content.startswith(b"\x7fELF") or loader < 0:
        pytest.skip("/bin/sh does not use a loader")
    content[loader : loader + 4] = b"/no-"
    write_script(tmp_path, bytes(content))
    surroundings = ProgramSurroundings(tmp_path, tmp_path / "log")
    with pytest.raises(
        Failed, match=r"run\.sh exists, but the loader or processor that it was built for does not exist"
    ):
        run_command(launcher, ["./run.sh"], surroundings, 60)


LINE_ENDS = (
    "run.sh has Windows line ends, which a shell takes for parts of its words;"
    " convert the file, for example with: sed -i 's/\\r$//' run.sh"
)


@pytest.mark.parametrize(
    "command",
    [
        "sh run.sh", ["bash", "-eu", "run.sh", "a"], "/bin/dash ./run.sh > a", ". ./run.sh",
        "cd . && bash run.sh | cat", ["sh", "-c", "sh run.sh"], "env X=1 sh run.sh",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"for i in 1\r\ndo\r\ndone\r\n", b"#!/bin/sh\n\nfalse\r\n"])
@pytest.mark.parametrize("exit_code", [1, 2, 127])
def test_a_script_with_windows_line_ends_that_a_shell_reads_is_explained(
    tmp_path: Path, command: str | list[str], content: bytes, exit_code: int
) -> None:
    write_script(tmp_path, content)
    assert explain_exit(exit_code, [["true"], command], tmp_path) == LINE_ENDS


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("run.py", b"print()\r\n", "python3 run.py"), ("run.sh", b"false\n", "sh run.sh"),
        ("data.csv", b"a,b\r\n", "sh -c 'cat data.csv'"), ("data.csv", b"a,b\r\n", ["sort", "data.csv"]),
    ],
)  # fmt: skip
def test_windows_line_ends_do_not_explain_a_failure_if_no_shell_reads_them(
    tmp_path: Path, name: str, content: bytes, command: str | list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert explain_exit(2, [command], tmp_path) is None
