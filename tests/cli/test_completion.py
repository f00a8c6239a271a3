"""Completion: real shells, with the scripts that `run.py completion` prints, complete the words of a command line."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributed_something.cli.completion.values import save_failures
from distributed_something.cli.context import Context
from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import FailedJob
from distributed_something.worker import VERSION
from tests.support.missing import skip_or_fail
from tests.support.offline import run_command
from tests.support.paths import ROOT

FAILURES = {"run": "20261123T104500Z", "failures": [{"id": "Fa5d543", "cause": "exit code 3: no", "jobs": 4},
                                                    {"id": "F00beef", "cause": "timed out", "jobs": 1}]}  # fmt: skip
BASH = """
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_run_py_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
MAX_SECONDS = 30  # on a busy machine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project in a folder whose name has a space, with a Job file, a Fleet file, and a monitor file."""
    project = tmp_path / "my project"
    ignored = shutil.ignore_patterns("requirements*", ".*", "*SpotFleetRequestId.json")
    shutil.copytree(ROOT / "files", project / "files", ignore=ignored)
    shutil.copy(ROOT / "run.py", project)
    shutil.copy(ROOT / "config.py", project)
    (project / "distributed_something").symlink_to(ROOT / "distributed_something")
    (project / "files" / "AppSpotFleetRequestId.json").write_text('{"MONITOR_FLEET_ID": "sfr-1"}')
    (project / "files" / "table.json").write_text("[]")
    (project / "files" / ".App.failures").write_text(json.dumps(FAILURES))
    return project


def build_environment(tmp_path: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path), "TERM": "dumb"}


def write_script(shell: str, folder: Path) -> Path:
    """Return the path of the shell's script."""
    if shutil.which(shell) is None:
        skip_or_fail(f"{shell} is not installed")
    script = folder / f"script.{shell}"
    script.write_text(run_command("completion", shell).out)
    return script


def complete(shell: str, folder: Path, line: str, tmp_path: Path) -> list[str]:
    """Return what bash or fish offers for the last word of the command line."""
    program = f"source {write_script(shell, tmp_path)}"
    words = re.findall(r"(?:'[^']*'|\"[^\"]*\"|\\.|[^\s\\])+", line) + [""] * (line[-1] == " ")  # as they are typed
    program += (
        f"; complete -C {quote_for_fish(line)}" if shell == "fish"
        else BASH.format(words=" ".join(map(shlex.quote, words)))
    )  # fmt: skip
    completed = subprocess.run(
        [shell, "-c", program], cwd=folder, env=build_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert not completed.stderr
    return [line.partition("\t")[0] for line in completed.stdout.splitlines() if line]


def quote_for_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


READ_SCRIPT = {"zsh": "autoload -Uz compinit; compinit -u -D; source {}", "bash": "source {}"}
WITHOUT_STARTUP_FILES = {"zsh": "-f", "bash": "--norc"}


@contextmanager
def open_shell(shell: str, folder: Path, tmp_path: Path) -> Iterator[int]:
    """Start zsh or bash in a terminal: without one, zsh completes nothing, and bash no files. Yield the terminal."""
    script, (parent, child) = write_script(shell, tmp_path), pty.openpty()
    env, command = build_environment(tmp_path), [shell, WITHOUT_STARTUP_FILES[shell], "-i"]
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=child, stdout=child, stderr=child)
    os.close(child)
    try:
        lines = f"stty cols 300; {READ_SCRIPT[shell].format(script)}; PS1='rea''dy '\n"
        os.write(parent, lines.encode())
        read_screen(parent, "ready")
        yield parent
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def read_screen(terminal: int, *wanted: str) -> str:
    """Return what a terminal shows, as soon as it has shown these words or has shown nothing new for MAX_SECONDS."""
    text = ""
    while any(word not in text for word in wanted) and select.select([terminal], [], [], MAX_SECONDS)[0]:
        text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x07\x08\r]", "", os.read(terminal, 4096).decode())
    return text


LINES = (
    ("python run.py sub", ["submitJob"]),
    ("python3 run.py --local start", ["startCluster"]),
    ("python run.py submitJob --re", ["--resume", "--replace"]),
    ("python run.py submitJob ", ["files/exampleJob.json"]),
    ("python run.py startCluster files/e", ["files/exampleFleet.json"]),
    ("python run.py --local status ", ["files/AppSpotFleetRequestId.json"]),
    ("python run.py retry --only ", ["Fa5d543", "F00beef"]),
)
IN_BASH_AND_FISH = pytest.mark.parametrize("shell", ["bash", "fish"])


@IN_BASH_AND_FISH
@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_shell_completes_commands_options_files_and_failures(
    project: Path, tmp_path: Path, shell: str, line: str, expected: list[str]
) -> None:
    assert complete(shell, project, line, tmp_path) == expected


QUOTED_PATHS = ("'my project/run.py'", '"my project/run.py"', r"my\ project/run.py")


@pytest.mark.parametrize("path", QUOTED_PATHS)
@IN_BASH_AND_FISH
def test_the_path_of_run_py_may_be_quoted(project: Path, tmp_path: Path, shell: str, path: str) -> None:
    assert complete(shell, tmp_path, f"python {path} moni", tmp_path) == ["monitor"]


def test_in_zsh_the_path_of_run_py_may_be_quoted(project: Path, tmp_path: Path) -> None:
    with open_shell("zsh", tmp_path, tmp_path) as terminal:
        for path in QUOTED_PATHS:
            os.write(terminal, f"python {path} moni\t".encode())
            assert f"{path} monitor" in read_screen(terminal, "monitor")
            os.write(terminal, b"\x15")


def test_zsh_completes_the_same(project: Path, tmp_path: Path) -> None:
    with open_shell("zsh", project, tmp_path) as terminal:
        for line, expected in LINES[::2]:
            os.write(terminal, (line + "\t" * len(expected)).encode())  # the second Tab lists what the first did not
            screen = read_screen(terminal, *expected)
            assert [word for word in expected if word not in screen] == [], screen
            os.write(terminal, b"\x15")  # Ctrl-U empties the line


@pytest.mark.parametrize(
    ("line", "offers_files"),
    [
        ("python run.py retry --only ", False),
        ("python run.py runJob files/exampleJob.json --index ", False),
        ("python run.py makeJobs --table files/", True),
        ("python run.py completion bash > files/", True),
        ("python other.py files/", True),
    ],
)
def test_bash_offers_files_only_where_a_path_fits(
    project: Path, tmp_path: Path, line: str, *, offers_files: bool
) -> None:
    (project / "files" / ".App.failures").unlink()
    with open_shell("bash", project, tmp_path) as terminal:
        os.write(terminal, f"{line}\t\t\x15printf '%s\\n' do''ne\n".encode())
        shown = read_screen(terminal, "done")
    assert ("table.json" in shown or "config.py" in shown) is offers_files, shown


@pytest.mark.parametrize("python", ["python", "python3"])
@pytest.mark.parametrize("times_read", [1, 2])
def test_after_run_py_fish_offers_no_options_of_python_and_elsewhere_it_still_does(
    project: Path, tmp_path: Path, python: str, times_read: int
) -> None:
    script = write_script("fish", tmp_path)
    others = project.parent / "others"
    others.mkdir()
    (others / "tool.py").touch()

    def offer(line: str, folder: Path, *, with_script: bool = True) -> list[str]:
        program = f"source {script}; " * (times_read if with_script else 0) + f"complete -C '{line}'"
        return subprocess.run(
            ["fish", "-c", program], cwd=folder, env=build_environment(tmp_path), capture_output=True, text=True
        ).stdout.splitlines()

    options = [line.partition("\t")[0] for line in offer(f"{python} run.py stop -", project)]
    assert options == ["--yes", "--local", "--containers", "--config", "--project", "--debug", "-h", "--help"]
    for line in (f"{python} ", f"{python} -", f"{python} -W ", f"{python} tool.py -", f"{python} tool.py "):
        assert offer(line, others) == offer(line, others, with_script=False) != [], line


@IN_BASH_AND_FISH
def test_files_are_completed_in_another_folder(project: Path, tmp_path: Path, shell: str) -> None:
    project = project.rename(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    line = "python ../project/run.py submitJob "
    assert complete(shell, tmp_path / "elsewhere", line, tmp_path) == [f"{project}/files/exampleJob.json"]
    line += "../project/files/e"
    assert complete(shell, tmp_path / "elsewhere", line, tmp_path) == ["../project/files/exampleJob.json"]


def test_fish_also_offers_files_of_a_project_beside_the_current_folder(project: Path, tmp_path: Path) -> None:
    """fish hides words that begin with a dot until the user types one."""
    (tmp_path / "elsewhere").mkdir()
    for typed, folder in (("", f"{project}"), ("..", "../my project")):
        line = f"python '{project}/run.py' --project '../my project' submitJob {typed}"
        assert complete("fish", tmp_path / "elsewhere", line, tmp_path) == [f"{folder}/files/exampleJob.json"]


@IN_BASH_AND_FISH
def test_the_run_py_of_another_program_is_not_started(tmp_path: Path, shell: str) -> None:
    (tmp_path / "run.py").write_text("open('started', 'w')")
    complete(shell, tmp_path, "python run.py s", tmp_path)
    assert not (tmp_path / "started").exists()


def complete_words(project: Path, *words: str) -> list[str]:
    """Return the answer of run.py to a shell that completes the last word."""
    env = build_environment(project.parent) | {
        "RUN_PY_WORDS": "\n".join(("run.py", *words)), "RUN_PY_WORD_INDEX": str(len(words)),
        "_RUN_PY_COMPLETE": "words_complete",
    }  # fmt: skip
    command = [sys.executable, "run.py"]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_status_and_monitor_save_the_failures_that_completion_offers(project: Path) -> None:
    job = FailedJob("A1-0123456789", 0.0, "exit code 3", "program", 3, 3, ("no such picture",), None, "no such picture")
    context, (group,) = Context(project=project, local=True), group_failures([job])
    for groups, offered in (([group], [f"plain\t{group.id}\t1 job: {group.cause}"]), ([], [""])):
        save_failures(context, "20261123T104500Z", groups)
        assert complete_words(project, "retry", "--only", "") == offered
    (project / "files" / ".DistributedSomething.failures").unlink()
    save_failures(context, "20261123T104500Z", [])
    assert [path.name for path in (project / "files").glob(".*.failures")] == [".App.failures"]


def test_a_value_after_an_equals_sign_is_completed(project: Path) -> None:
    assert complete_words(project, "retry", "--only=F0") == ["plain\t--only=F00beef\t1 job: timed out"]
    assert complete_words(project, "retry", "--only", "=", "F0") == ["plain\tF00beef\t1 job: timed out"]


def test_the_config_is_not_run_and_a_damaged_file_completes_nothing(project: Path) -> None:
    (project / "config.py").write_text("raise SystemExit(9)")
    assert len(complete_words(project, "retry", "--only", "")) == 2
    (project / "files" / ".App.failures").write_text('{"run"')
    assert complete_words(project, "retry", "--only", "") == [""]


def test_large_files_count_as_job_files_and_without_any_the_shell_completes_paths(project: Path) -> None:
    (project / "files" / "large.json").write_text('{"groups": [' + '{"well": "A01"},' * 10_000)
    offered = [line.split("\t")[1] for line in complete_words(project, "submitJob", "files/")]
    assert offered == ["files/exampleJob.json", "files/large.json"]
    assert complete_words(project, "submitJob", "../") == ["file\t../\t"]


def test_the_version_is_printed_without_a_config(tmp_path: Path) -> None:
    outcome = run_command("--version", "--project", str(tmp_path))
    assert (outcome.code, outcome.out) == (0, f"distributed-something {VERSION}\n")
