"""Projects that the version before this one made: refused at once, whatever is typed, and left as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError
from distributed_something.project.older_version import check_project_version, is_older_project
from tests.support.offline import no_way_out, type_command, write_project

OLDER_WORKER = '''"""Uses from machinery import Job."""

import sys
from machinery import Job, serve
from machinery.checks import usual_failure

sys.exit(serve())
'''


@pytest.fixture(autouse=True)
def _nothing_is_sent() -> Iterator[None]:
    with no_way_out():
        yield


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A project in the shape that newProject of that version gave it."""
    project = write_project(tmp_path / "older")
    for name, text in {
        "run.py": "", "control/jobs.py": "", "localcloud/__init__.py": "", "worker/machinery/__init__.py": "",
        "worker/generic-worker.py": OLDER_WORKER, "worker/Dockerfile": "FROM debian AS program\n",
    }.items():  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return project


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("local", [(), ("--local",)], ids=["aws", "local"])
@pytest.mark.parametrize(
    "words",
    [
        ("setup",), ("submitJob", "files/job.json"), ("startCluster", "files/fleet.json"), ("cleanup",), ("check",),
        ("monitor", "files/monitor.json"), ("why",), ("runJob", "files/job.json", "--index", "1"), ("setupAWS",),
    ],
)  # fmt: skip
def test_a_command_of_this_version_is_refused_with_one_line(
    older: Path, monkeypatch: pytest.MonkeyPatch, local: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(older)
    before = contents(older)
    outcome = type_command(*local, "--project", ".", *words)
    assert (outcome.code, outcome.out) == (ExitCode.INPUT, "")
    assert outcome.err == (
        "run.py: worker/generic-worker.py: line 4: it imports `machinery`, the worker's package in an older version;"
        " use the project's own run.py: python run.py\n"
    )
    assert contents(older) == before


@pytest.mark.parametrize("words", [("upgrade",), ("upgrade", "--dry-run"), ("upgrade", "--force")])
def test_it_is_not_upgraded_either(older: Path, words: tuple[str, ...]) -> None:
    before = contents(older)
    outcome = type_command("--project", str(older), *words)
    assert (outcome.code, outcome.out) == (ExitCode.INPUT, "")
    assert outcome.err == (
        f"run.py: {older}: an older version made this project; this version cannot upgrade it; use the project's own"
        " run.py\n"
    )
    assert contents(older) == before


def test_a_project_that_was_converted_halfway_is_not_upgraded(older: Path) -> None:
    (older / "distributed_something").mkdir()
    (older / "worker" / "machinery" / "__init__.py").unlink()
    outcome = type_command("--project", str(older), "upgrade", "--force")
    assert (outcome.code, "it imports `machinery`" in outcome.err) == (ExitCode.INPUT, True)


def test_a_folder_without_a_run_py_of_its_own_is_told_what_to_import(older: Path) -> None:
    (older / "run.py").unlink()
    with pytest.raises(InputError) as caught:
        check_project_version(older)
    assert caught.value.remedy == "import what it needs from distributed_something.worker"


@pytest.mark.parametrize("line", ["import machinery", "import os, machinery.checks as m", "from machinery import *"])
def test_a_file_beside_the_worker_counts_too_wherever_the_import_stands(tmp_path: Path, line: str) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "naming.py").write_text(f"def name():\n    {line}\n")
    with pytest.raises(InputError, match=r"naming\.py: line 2: "):
        check_project_version(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "from . import machinery\n",
        "'''from machinery import Job'''\n",
        "import machinery_of_mine\n",
        "import (\n",
        "\0",
    ],
)
def test_whatever_else_a_worker_says_is_no_older_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "worker" / "machinery" / "__pycache__").mkdir(parents=True)  # as `git pull` leaves it
    (tmp_path / "worker" / "generic-worker.py").write_text(text)
    check_project_version(tmp_path)
    assert not is_older_project(tmp_path)
