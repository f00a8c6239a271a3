"""A worker in a local container learns the digest of its image, which is part of each record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.runners import ContainerRunner, TaskStartError, WorkOrder
from tests.support.project import wait_until

IMAGE_ID, REPOSITORY_DIGEST = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
# Answers `docker image inspect` with the file `description`, and prints the environment of `docker run`.
FAKE_DOCKER = """#!/bin/sh
case "$1" in
image) cat "$(dirname "$0")/description" ;;
run) env; printf '%s\\n' "$@" ;;
esac
"""


def run_task(folder: Path, description: str | None) -> str:
    """Start a task with a fake `docker` that describes its image like this, and return the task's log."""
    layout, docker = build_layout(folder), folder / "bin" / "docker"
    layout.make_folders()
    docker.parent.mkdir()
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    if description is not None:
        (docker.parent / "description").write_text(description)
    engine = {"PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}"}
    worker = ContainerRunner(layout, engine).start_task(WorkOrder("t", "me/plum:1", {"IMAGE_DIGEST": "the user's"}))
    wait_until(lambda: worker.poll_exit_code() is not None)
    return (layout.task_logs / "t.log").read_text()


@pytest.mark.parametrize(
    ("description", "digest"),
    [
        ({"Id": IMAGE_ID, "RepoDigests": [f"me/plum@{REPOSITORY_DIGEST}"]}, REPOSITORY_DIGEST),
        ({"Id": IMAGE_ID, "RepoDigests": []}, IMAGE_ID),
        ({"Id": IMAGE_ID, "RepoDigests": None}, IMAGE_ID),
        ({}, ""),
    ],
)
def test_a_container_gets_the_digest_of_its_image(tmp_path: Path, description: Any, digest: str) -> None:
    lines = run_task(tmp_path, json.dumps([description])).splitlines()
    assert f"IMAGE_DIGEST={digest}" in lines
    assert lines[lines.index("IMAGE_DIGEST") - 1] == "--env"


def test_a_container_also_starts_if_docker_describes_its_image_in_an_unknown_way(tmp_path: Path) -> None:
    assert "IMAGE_DIGEST=\n" in run_task(tmp_path, "nothing")


def test_a_task_whose_image_is_missing_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(TaskStartError, match="me/plum:1 is not on this computer"):
        run_task(tmp_path, None)
