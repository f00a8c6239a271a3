"""With MOUNT_S3, a local container gets exactly the permissions in its task definition."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.runners import ContainerRunner
from distributed_something.localcloud.play.services import build_work_order
from tests.support.fakes import DEAD_URL, QUEUE_URL, SETTINGS
from tests.support.project import wait_until

RECORDING_DOCKER = '#!/bin/sh\ntest "$1" = run && printf "%s\\n" "$@" > "$0.arguments"\nexit 0\n'


def record_docker_arguments(settings: Settings, folder: Path) -> set[str]:
    """Start a task with a `docker` command that only records its arguments. Return the arguments of `docker run`."""
    layout, docker = build_layout(folder), folder / "bin" / "docker"
    layout.make_folders()
    docker.parent.mkdir()
    docker.write_text(RECORDING_DOCKER)
    docker.chmod(0o755)
    definition = build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), None)["containerDefinitions"][0]
    task, machine = SimpleNamespace(id="task"), SimpleNamespace(instance_id="i-1")
    order = build_work_order(task, definition, {}, machine)  # type: ignore[arg-type]
    engine = {"PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}"}
    worker = ContainerRunner(layout, engine).start_task(order)
    wait_until(lambda: worker.poll_exit_code() is not None)
    return set(Path(f"{docker}.arguments").read_text().splitlines())


def test_a_local_container_gets_exactly_the_permissions_in_its_task_definition(tmp_path: Path) -> None:
    mount_settings = Settings.model_validate(SETTINGS.model_dump() | {"MOUNT_S3": True})
    default_arguments, mount_arguments = (
        record_docker_arguments(settings, tmp_path / name)
        for name, settings in (("a", SETTINGS), ("b", mount_settings))
    )
    added_arguments = mount_arguments - default_arguments
    assert {argument for argument in added_arguments if not argument.startswith("localcloud=")} == {
        "--cap-add", "SYS_ADMIN", "--device", "/dev/fuse:/dev/fuse:rw",
    }  # fmt: skip
