"""Tasks that run as containers of this computer's own engine."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from distributed_something.localcloud import stop_local_cloud
from distributed_something.localcloud.base.layout import build_layout
from tests.support.engine import build, docker
from tests.support.local_lab import Lab, eventually


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small image of this computer's own engine."""
    folder = tmp_path_factory.mktemp("image")
    script = "trap 'echo asked to stop; exit 7' TERM; echo $MY_NAME at $INSTANCE_ID; sleep 600 & wait"
    command = json.dumps(["bash", "-c", script])
    (folder / "Dockerfile").write_text(f"FROM debian:bookworm-slim\nCMD {command}\n")
    name = build(folder, f"localcloud-test-{uuid.uuid4().hex[:8]}")
    yield name
    docker("rmi", "--force", name)


def containers_of(lab: Lab) -> list[str]:
    """The ids of the containers of the lab's cloud, ended ones too."""
    return docker("ps", "-aq", "--filter", f"label=localcloud={build_layout(lab.project).key}").split()


def test_a_task_runs_as_a_container_with_its_limit_and_its_stop_signal(lab: Lab, image: str) -> None:
    lab.start(containers=True)
    lab.serve(1, memory=64, stop_seconds=20, image=image, MY_NAME="Ada\nByron")
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "Ada Byron at i-" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    (container,) = containers_of(lab)
    assert json.loads(docker("inspect", container))[0]["HostConfig"]["Memory"] == 64 * 1024 * 1024
    lab.want(0)
    eventually(lambda: not containers_of(lab))
    eventually(lambda: lab.tasks("STOPPED")[0]["containers"][0].get("exitCode") == 7)
    assert "asked to stop" in lab.log_of(task)


def test_no_container_survives_stop_nor_a_killed_daemon(own_lab: Lab, image: str) -> None:
    lab = own_lab
    for end in (lambda: stop_local_cloud(lab.project), lambda: os.kill(lab.cloud.state.pid, signal.SIGKILL)):
        lab.start(containers=True)
        lab.serve(1, memory=64, image=image)
        lab.fleet(1)
        eventually(lambda: len(containers_of(lab)) == 1)
        end()
        eventually(lambda: not containers_of(lab))


def test_an_image_that_is_not_there_is_said(lab: Lab, image: str) -> None:
    lab.start(containers=True)
    lab.serve(1, image="nobody/has-this:1")
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks("STOPPED")))
    assert "CannotPullContainerError: the image nobody/has-this:1 is not on this computer" in lab.said()
    assert "nobody/has-this:1" in build_layout(lab.project).log.read_text()
