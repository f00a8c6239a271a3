"""A new project on this computer: created, and run from its wheel with the commands in its README."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from tests.support.engine import require_engine, run_docker
from tests.support.offline import run_command
from tests.support.paths import ROOT
from tests.support.project import Project

SORTED = {"one.txt": "apple\nplum\n", "two.txt": "fig\npear\n", "three.txt": "lemon\nquince\n"}


def create_project(folder: Path, *options: str) -> Path:
    outcome = run_command("newProject", str(folder), "--image", "tests/mine:1", *options)
    assert outcome.code == 0, outcome.err
    return folder


def run(project: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project, and check that it succeeds."""
    variables = Project.build_environment(env)
    completed = subprocess.run(
        words, cwd=project, env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert completed.returncode == 0, f"{words}: {completed.stdout}{completed.stderr}"
    return completed


def read_commands(project: Path) -> list[list[str]]:
    """Return the four commands and `stop` as the README of the project lists them."""
    lines = re.findall(r"^ {4}python (run\.py --local .*)$", (project / "README.md").read_text(), flags=re.M)
    commands = [shlex.split(line) for line in lines if "makeJobs" not in line and "runJob" not in line]
    assert [command[2] for command in commands] == ["setup", "submitJob", "startCluster", "monitor", "stop"]
    return commands


def run_readme_commands(project: Path, python: str, *options: str, **env: str) -> str:
    """Run the commands of the README, stop the local cloud, and return the summary."""
    summary = ""
    try:
        for command in read_commands(project)[:-1]:
            summary = run(project, python, *command[:2], *options, *command[2:], **env).stdout
    finally:
        run(project, python, "run.py", "--local", "stop", **env)
    return summary


def read_results(project: Path) -> dict[str, str]:
    results = project / "local" / "your-bucket-name" / "mine" / "results"
    return {path.name: path.read_text() for path in results.rglob("*.txt")}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a Python environment with the packages that run.py needs, but without this package."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (find_site_packages(folder) / "packages.pth").write_text(str(Path(click.__file__).parents[1]))
    return folder


def find_site_packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*")) / "site-packages"


@pytest.mark.long
def test_the_wheel_alone_runs_a_project_and_creates_another_one(tmp_path: Path, environment: Path) -> None:
    """`.ci/new-project` does the same with `make venv`, in a container that has nothing else."""
    project, second = create_project(tmp_path / "mine"), tmp_path / "second"
    (wheel,) = (project / "vendor").iterdir()
    zipfile.ZipFile(wheel).extractall(find_site_packages(environment))
    python = str(environment / "bin" / "python")
    location = run(project, python, "-c", "import distributed_something; print(distributed_something.__path__[0])")
    assert location.stdout.startswith(str(environment))
    assert "jobs done       3\njobs failed     0\n" in run_readme_commands(project, python)
    assert read_results(project) == SORTED
    assert run(project, "git", "status", "--short").stdout == ""
    run(project, python, "run.py", "newProject", str(second))
    assert [path.name for path in (second / "vendor").iterdir()] == [wheel.name]
    assert "already has this version" in run(project, python, "run.py", "--project", str(second), "upgrade").stdout


@pytest.mark.long
def test_a_project_from_an_example_runs_its_four_commands(tmp_path: Path) -> None:
    project = create_project(tmp_path / "mine", "--from", "helloworld")
    summary = run_readme_commands(project, sys.executable, PYTHONPATH=str(ROOT))
    assert "jobs done       2\njobs failed     0\n" in summary


@pytest.mark.long
@pytest.mark.containers
def test_a_project_runs_in_containers_of_the_image_that_it_builds(tmp_path: Path) -> None:
    require_engine()
    project = create_project(tmp_path / "mine")
    env = {"PYTHONPATH": str(ROOT), "DOCKER_BUILD": "docker build --network host"}
    run(project, sys.executable, "run.py", "buildImage", **env)
    summary = run_readme_commands(project, sys.executable, "--containers", PYTHONPATH=str(ROOT))
    assert "jobs done       3\njobs failed     0\n" in summary
    assert read_results(project) == SORTED
    assert "tests/mine" not in run_docker("ps", "--all", "--format", "{{.Image}}")
