"""A new project on this computer: it is created, run with the four commands of its own run.py, and stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.offline import run_command
from tests.support.project import Project


def run_local_command(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the project's own run.py with --local, and check that it succeeds."""
    command = [sys.executable, "run.py", "--local", *words]
    completed = subprocess.run(
        command,
        cwd=project,
        env=Project.build_environment({}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed


@pytest.mark.parametrize(
    ("options", "jobs", "results"),
    [
        ((), 3, {"one.txt": "apple\nplum\n", "two.txt": "fig\npear\n", "three.txt": "lemon\nquince\n"}),
        (("--from", "helloworld"), 2, {}),
    ],
    ids=["template", "helloworld"],
)
def test_a_new_project_runs_its_four_commands(
    tmp_path: Path, options: tuple[str, ...], jobs: int, results: dict[str, str]
) -> None:
    project = tmp_path / "mine"
    assert run_command("newProject", str(project), "--image", "ada/mine:1", *options).code == 0
    try:
        for words in (
            ("setup",), ("submitJob", "files/exampleJob.json"), ("startCluster", "files/exampleFleet.json"),
        ):  # fmt: skip
            run_local_command(project, *words)
        completed = run_local_command(project, "monitor", "files/mineSpotFleetRequestId.json")
        assert f"jobs done       {jobs}\njobs failed     0\n" in completed.stdout
        bucket = project / "local" / "your-bucket-name"
        actual = {path.name: path.read_text() for path in (bucket / "mine" / "results").rglob("*.txt")}
        assert actual.items() >= results.items()
    finally:
        assert "the local cloud is stopped" in run_local_command(project, "stop").stderr
