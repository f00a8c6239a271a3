"""A new project's whole life on this computer: made, run with its own run.py by the four commands, and stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.offline import type_command
from tests.support.project import Project


def type_in(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python run.py --local WORDS` in the project, with its own code and this Python."""
    command = [sys.executable, "run.py", "--local", *words]
    done = subprocess.run(
        command, cwd=project, env=Project.environment({}), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


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
    assert type_command("newProject", str(project), "--image", "ada/mine:1", *options).code == 0
    try:
        for words in (
            ("setup",), ("submitJob", "files/exampleJob.json"), ("startCluster", "files/exampleFleet.json"),
        ):  # fmt: skip
            type_in(project, *words)
        done = type_in(project, "monitor", "files/mineSpotFleetRequestId.json")
        assert f"jobs done       {jobs}\njobs failed     0\n" in done.stdout
        bucket = project / "local" / "your-bucket-name"
        written = {path.name: path.read_text() for path in (bucket / "mine" / "results").rglob("*.txt")}
        assert written.items() >= results.items()
    finally:
        assert "the local cloud is stopped" in type_in(project, "stop").stderr
