"""Projects created by the previous version: every command rejects them and leaves them unchanged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError
from distributed_something.project.older_version import check_project_version
from tests.support.offline import block_requests, run_command, write_project

OLDER_WORKER = '''"""Uses from machinery import Job."""

import sys
from machinery import Job, serve
from machinery.checks import usual_failure

sys.exit(serve())
'''


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    with block_requests():
        yield


@pytest.fixture
def older_project(tmp_path: Path) -> Path:
    """Return a project in the form that newProject of the previous version created."""
    project = write_project(tmp_path / "older")
    for name, text in {
        "run.py": "", "control/jobs.py": "", "localcloud/__init__.py": "", "worker/machinery/__init__.py": "",
        "worker/generic-worker.py": OLDER_WORKER, "worker/Dockerfile": "FROM debian AS program\n",
    }.items():  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return project


def read_contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("local", [(), ("--local",)], ids=["aws", "local"])
@pytest.mark.parametrize(
    "words",
    [
        ("setup",), ("submitJob", "files/job.json"), ("startCluster", "files/fleet.json"), ("cleanup",), ("check",),
        ("monitor", "files/monitor.json"), ("why",), ("runJob", "files/job.json", "--index", "1"), ("setupAWS",),
    ],
)  # fmt: skip
def test_commands_reject_an_older_project_with_one_line_of_error(
    older_project: Path, monkeypatch: pytest.MonkeyPatch, local: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(older_project)
    before = read_contents(older_project)
    outcome = run_command(*local, "--project", ".", *words)
    assert (outcome.code, outcome.out) == (ExitCode.INPUT, "")
    assert outcome.err == (
        "run.py: worker/generic-worker.py: line 4: imports `machinery`, the worker package of an older version;"
        " use the project's own run.py, or convert the project:\n  python run.py --project . upgrade\n"
    )
    assert read_contents(older_project) == before


def test_in_a_converted_project_the_error_names_the_package_to_import(older_project: Path) -> None:
    shutil.rmtree(older_project / "worker" / "machinery")
    with pytest.raises(InputError) as caught:
        check_project_version(older_project, "python run.py upgrade")
    assert caught.value.remedy == "import from distributed_something.worker instead"


@pytest.mark.parametrize("line", ["import machinery", "import os, machinery.checks as m", "from machinery import *"])
def test_imports_are_found_in_all_python_files_of_the_worker_and_inside_functions(tmp_path: Path, line: str) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "naming.py").write_text(f"def name():\n    {line}\n")
    with pytest.raises(InputError, match=r"naming\.py: line 2: "):
        check_project_version(tmp_path, "")


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
def test_similar_names_and_invalid_files_are_not_taken_for_an_older_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "worker" / "machinery" / "__pycache__").mkdir(parents=True)  # as `git pull` leaves it
    (tmp_path / "worker" / "generic-worker.py").write_text(text)
    check_project_version(tmp_path, "")
