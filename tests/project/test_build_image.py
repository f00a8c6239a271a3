"""buildImage: it checks everything that it reads before docker runs, and reports what is wrong in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from tests.repository.test_makefile import FAKE_DOCKER
from tests.support.offline import write_project
from tests.support.paths import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with a Dockerfile; beside it, in `bin`, the fake `docker`."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    project = write_project(tmp_path / "mine")
    (project / "worker").mkdir()
    (project / "worker" / "Dockerfile").write_text("FROM debian\n")
    return project


def build(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), "--project", str(project), "buildImage"]
    path = f"{project.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "NOTES": str(project.parent / "notes")} | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def read_docker_calls(project: Path) -> list[str]:
    notes = project.parent / "notes"
    return notes.read_text().splitlines() if notes.exists() else []


def test_an_open_quote_in_the_build_command_is_reported_before_docker_runs(project: Path) -> None:
    outcome = build(project, DOCKER_BUILD="docker 'build")
    problem = 'DOCKER_BUILD: "docker \'build" is not a command (No closing quotation); close the quote'
    assert (outcome.returncode, outcome.stderr) == (ExitCode.INPUT, f"run.py: {problem}\n")
    assert read_docker_calls(project) == []


@pytest.mark.parametrize("command", ["", " "])
def test_an_empty_build_command_is_the_usual_one(project: Path, command: str) -> None:
    outcome = build(project, DOCKER_BUILD=command)
    assert outcome.returncode == ExitCode.DONE, outcome.stderr
    assert [call.split()[:2] for call in read_docker_calls(project)] == [["build", "--platform"]] * 2


def test_links_in_the_worker_folder_are_followed_and_dangling_ones_are_left_out(project: Path) -> None:
    """An editor marks a file that is open with a dangling link."""
    (project / "tools").mkdir()
    (project / "tools" / "count.sh").write_text("count")
    worker = project / "worker"
    (worker / "tools").symlink_to("../tools")
    (worker / "count.sh").symlink_to("tools/count.sh")
    (worker / ".#generic-worker.py").symlink_to("ada@laptop.4711")
    (worker / "loop").symlink_to("loop")
    outcome = build(project)
    assert (outcome.returncode, outcome.stderr) == (ExitCode.DONE, "")
    context = project.parent / "notes.2"
    assert [(context / name).read_text() for name in ("tools/count.sh", "count.sh")] == ["count", "count"]
    assert {"loop", ".#generic-worker.py"}.isdisjoint(os.listdir(context))


def test_a_link_to_a_folder_that_contains_it_is_reported_before_docker_runs(project: Path) -> None:
    link = project / "worker" / "scripts"
    link.symlink_to("../worker")
    outcome = build(project)
    problem = f"{link}: this link leads to a folder that contains it; remove it"
    assert (outcome.returncode, outcome.stderr) == (ExitCode.INPUT, f"run.py: {problem}\n")
    assert read_docker_calls(project) == []


def test_a_file_of_the_worker_that_cannot_be_copied_is_reported_before_docker_runs(project: Path) -> None:
    pipe = project / "worker" / "pipe"
    os.mkfifo(pipe)
    outcome = build(project)
    problem = f"{pipe}: this is not a file or folder that can be read; remove it, or make it readable"
    assert (outcome.returncode, outcome.stderr) == (ExitCode.INPUT, f"run.py: {problem}\n")
    assert read_docker_calls(project) == []


@pytest.mark.parametrize("name", ["requirements-own.txt", "distributed_something/worker"])
def test_a_folder_in_the_place_of_a_shipped_file_is_reported_in_one_line_before_docker_runs(
    project: Path, name: str
) -> None:
    (project / "worker" / name).mkdir(parents=True)
    outcome = build(project)
    assert outcome.returncode == ExitCode.CLOUD
    assert outcome.stderr.startswith(f"run.py: while copying {project / 'worker'} for the image: ")
    assert "File exists" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert read_docker_calls(project) == []
