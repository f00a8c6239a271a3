"""Tasks that run as containers in this computer's container engine."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from distributed_something.localcloud import stop_local_cloud
from distributed_something.localcloud.base.layout import build_layout
from tests.support.engine import build_image, run_docker
from tests.support.local_lab import Lab, wait_until


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small container image on this computer."""
    folder = tmp_path_factory.mktemp("image")
    script = "trap 'echo received SIGTERM; exit 7' TERM; echo $MY_NAME at $INSTANCE_ID; sleep 600 & wait"
    command = json.dumps(["bash", "-c", script])
    (folder / "Dockerfile").write_text(f"FROM debian:bookworm-slim\nCMD {command}\n")
    name = build_image(folder, f"localcloud-test-{uuid.uuid4().hex[:8]}")
    yield name
    run_docker("rmi", "--force", name)


def list_containers(lab: Lab) -> list[str]:
    """Return the IDs of all containers in the lab's local cloud, including stopped ones."""
    return run_docker("ps", "-aq", "--filter", f"label=localcloud={build_layout(lab.project).key}").split()


def test_a_container_has_a_memory_limit_and_gets_the_stop_signal(lab: Lab, image: str) -> None:
    lab.start_cloud(containers=True)
    lab.create_service(1, memory=64, stop_seconds=20, image=image, MY_NAME="Ada\nByron")
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and "Ada Byron at i-" in lab.read_task_log(lab.list_tasks()[0]))
    (task,) = lab.list_tasks()
    (container,) = list_containers(lab)
    assert json.loads(run_docker("inspect", container))[0]["HostConfig"]["Memory"] == 64 * 1024 * 1024
    lab.set_desired_count(0)
    wait_until(lambda: not list_containers(lab))
    wait_until(lambda: lab.list_tasks("STOPPED")[0]["containers"][0].get("exitCode") == 7)
    assert "received SIGTERM" in lab.read_task_log(task)


def test_containers_end_when_the_local_cloud_is_stopped_or_killed(own_lab: Lab, image: str) -> None:
    lab = own_lab
    for end in (lambda: stop_local_cloud(lab.project), lambda: os.kill(lab.cloud.state.pid, signal.SIGKILL)):
        lab.start_cloud(containers=True)
        lab.create_service(1, memory=64, image=image)
        lab.request_fleet(1)
        wait_until(lambda: len(list_containers(lab)) == 1)
        end()
        wait_until(lambda: not list_containers(lab))


def test_a_missing_image_is_reported_in_the_service_events_and_the_log(lab: Lab, image: str) -> None:
    lab.start_cloud(containers=True)
    lab.create_service(1, image="nobody/has-this:1")
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks("STOPPED")))
    assert "CannotPullContainerError: the image nobody/has-this:1 is not on this computer" in lab.read_service_events()
    assert "nobody/has-this:1" in build_layout(lab.project).log.read_text()


def test_a_command_that_the_image_does_not_have_is_reported_with_the_engines_message(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("without-worker")
    (folder / "Dockerfile").write_text('FROM debian:bookworm-slim\nCMD ["no-such-worker"]\n')
    name = build_image(folder, f"localcloud-test-{uuid.uuid4().hex[:8]}")
    try:
        lab.start_cloud(containers=True)
        lab.create_service(1, image=name)
        lab.request_fleet(1)
        wait_until(lambda: bool(lab.list_tasks("STOPPED")))
        task = lab.list_tasks("STOPPED")[0]
        assert task["stoppedReason"].startswith("CannotStartContainerError: Error response from daemon")
        assert "no-such-worker" in task["stoppedReason"]
        assert task["containers"][0]["exitCode"] == 127
    finally:
        run_docker("rmi", "--force", name)
