"""The mounted bucket: its command, and how it is kept up, with an s3fs and a clock that the tests step."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.aws.ecs import ensure_task_definition
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.runners import ContainerRunner
from distributed_something.localcloud.play.services import build_work_order
from distributed_something.worker.machine import mount
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.mount import (
    MAX_MOUNT_FAILURES,
    MOUNT_START_SECONDS,
    ROLE_PATH,
    BucketMount,
    MountError,
    build_credential_options,
    build_mount_command,
    build_mount_environment,
    format_mount_obstacle,
    is_mount_responsive,
)
from tests.support.fakes import DEAD_URL, QUEUE_URL, SETTINGS, FakeTime, exact
from tests.support.metadata_server import metadata_server

ENDPOINT = "https://s3.eu-west-1.amazonaws.com"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}


class S3fs:
    """One s3fs process: it runs until it is told to end or dies."""

    def __init__(self, code: int | None = None, deaf: bool = False) -> None:
        self.code, self.deaf = code, deaf

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        if not self.deaf and self.code is None:
            self.code = 0

    def kill(self) -> None:
        self.code = -9

    def wait(self, timeout: float) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("s3fs", timeout)
        return self.code


class World:
    """Whether s3fs can start and what it mounts; notes what was done, in order."""

    def __init__(self, folder: Path) -> None:
        self.time, self.starts, self.answering = FakeTime(), True, True
        self.processes: list[S3fs] = []
        self.done: list[str] = []
        self.lost: list[str] = []
        self.mount = BucketMount(
            "plates", "eu-west-1", ENDPOINT, Path("/scratch"), self.lost.append, folder / "home" / "bucket",
            spawn=self.spawn, answers=self.answers, unmount=lambda _: self.done.append("unmount"),
            clock=self.time.now, sleep=self.time.sleep,
        )  # fmt: skip

    def spawn(self, *_: object) -> S3fs:
        self.done.append("spawn")
        self.processes.append(S3fs(code=None if self.starts else 1))
        return self.processes[-1]

    def answers(self, folder: Path) -> bool:
        assert folder.is_dir()
        return self.answering and self.processes[-1].code is None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_mount_that_answers_is_left_alone(world: World) -> None:
    world.mount.start()
    world.mount.tick()
    world.mount.tick()
    assert world.done.count("spawn") == 1


def test_a_dead_mount_is_taken_away_and_mounted_again(world: World) -> None:
    world.mount.start()
    world.processes[0].code = -9
    del world.done[:]
    world.mount.tick()
    assert world.done == ["unmount", "spawn"]
    assert world.lost == []


def test_a_mount_that_hangs_is_ended_before_it_is_taken_away(world: World) -> None:
    world.mount.start()
    hanging = world.processes[0]
    hanging.deaf, world.answering = True, False
    world.mount._unmount = lambda _: world.done.append(f"unmount, s3fs {hanging.code}")
    spawn = world.spawn
    world.mount._spawn = lambda: (setattr(world, "answering", True), spawn())[1]
    del world.done[:]
    world.mount.tick()
    assert world.done == ["unmount, s3fs -9", "spawn"]


def test_after_several_failures_in_a_row_the_container_is_told_once(world: World) -> None:
    world.mount.start()
    world.processes[0].code, world.starts = 1, False
    for _ in range(MAX_MOUNT_FAILURES + 3):
        world.mount.tick()
    assert world.done.count("spawn") == 1 + MAX_MOUNT_FAILURES
    (reason,) = world.lost
    assert "plates" in reason


def test_failures_between_which_it_worked_do_not_add_up(world: World) -> None:
    world.mount.start()
    for _ in range(4):
        world.processes[-1].code, world.starts = 1, False
        for _ in range(MAX_MOUNT_FAILURES - 1):
            world.mount.tick()
        world.starts = True
        world.mount.tick()
    assert world.lost == []


def test_a_start_fails_with_the_code_of_an_s3fs_that_ended(world: World) -> None:
    world.starts = False
    with pytest.raises(MountError, match=r"plates.*exit code 1"):
        world.mount.start()


def test_a_start_gives_up_on_an_s3fs_that_never_answers(world: World) -> None:
    world.answering = False
    with pytest.raises(MountError, match="60 s"):
        world.mount.start()
    assert MOUNT_START_SECONDS <= sum(world.time.slept) < MOUNT_START_SECONDS + 1


def test_the_end_ends_s3fs_and_unmounts(world: World) -> None:
    world.mount.start()
    del world.done[:]
    world.mount.end()
    assert world.processes[0].code == 0
    assert world.done == ["unmount"]


def test_running_ends_when_told(world: World) -> None:
    ended = threading.Event()
    ended.set()
    world.mount.run(ended)
    assert world.done == []


def test_a_mount_that_never_replies_counts_as_none_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(mount.os, "statvfs", lambda _: released.wait(30))
    asked = time.monotonic()
    assert not is_mount_responsive(tmp_path, seconds=0.05)
    assert time.monotonic() - asked < 10
    released.set()


def test_a_plain_folder_or_none_is_no_mount(tmp_path: Path) -> None:
    assert not is_mount_responsive(tmp_path)
    assert not is_mount_responsive(tmp_path / "none")
    assert is_mount_responsive(Path("/"))


def options(*credentials: str) -> list[str]:
    return build_mount_command("my.bucket", "eu-west-1", ENDPOINT, Path("/b"), Path("/s"), list(credentials))[-1].split(
        ","
    )


def test_the_mount_is_read_only_for_every_user_and_at_the_regions_address() -> None:
    said = options("iam_role=r")
    assert {"ro", "allow_other", f"url={ENDPOINT}", "endpoint=eu-west-1", "tmpdir=/s", "iam_role=r"} <= set(said)


@pytest.mark.parametrize(
    ("env", "option"),
    [
        ({}, ["iam_role=plate-reader"]),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, ["ecs"]),
        (KEYS | {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, []),
    ],
)
def test_s3fs_finds_the_credentials_that_boto3_finds_and_no_key_is_in_its_command(
    env: Mapping[str, str], option: list[str]
) -> None:
    with metadata_server() as server:
        server.texts[ROLE_PATH] = "plate-reader"
        assert build_credential_options(env, InstanceMetadata(server.env)) == option


def test_a_machine_without_a_role_cannot_mount() -> None:
    with metadata_server() as server, pytest.raises(MountError, match="no role"):
        build_credential_options({}, InstanceMetadata(server.env))


def test_s3fs_gets_certificates_and_not_the_programs_libraries() -> None:
    env = build_mount_environment({"LD_PRELOAD": "/x.so", "LD_LIBRARY_PATH": "/x", "A": "b"}, "/own/cacert.pem")
    assert env == {"A": "b", "CURL_CA_BUNDLE": "/own/cacert.pem"}
    assert "AWS_SESSION_TOKEN" not in build_mount_environment(
        {"AWS_SESSION_TOKEN": ""}, "/c.pem"
    )  # as the local cloud says it
    assert build_mount_environment({"AWS_SESSION_TOKEN": "t"}, "/c.pem")["AWS_SESSION_TOKEN"] == "t"
    assert build_mount_environment({"AWS_CA_BUNDLE": "/lab.pem"}, "/own/cacert.pem")["CURL_CA_BUNDLE"] == "/lab.pem"


class TestUnusable:
    """What a container lacks is told in one line, before anything is tried."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        (tmp_path / "bin").mkdir()
        for path, text in (("bin/s3fs", ""), ("fuse", ""), ("status", "Name:\tx\nCapEff:\t0000000000200000\n")):
            (tmp_path / path).write_text(text)
        return tmp_path

    def unusable(self, image: Path) -> str:
        return format_mount_obstacle(image, image / "fuse", image / "status")

    def test_a_container_with_all_it_needs_can_mount(self, image: Path) -> None:
        assert self.unusable(image) == ""

    @pytest.mark.parametrize(("path", "word"), [("bin/s3fs", "make build"), ("fuse", "--device /dev/fuse")])
    def test_what_is_missing_is_named_with_what_to_do(self, image: Path, path: str, word: str) -> None:
        (image / path).unlink()
        assert word in self.unusable(image)
        assert "\n" not in self.unusable(image)

    @pytest.mark.parametrize("status", ["CapEff:\t00000000a80425fb\n", "Name:\tx\n"])
    def test_a_user_without_the_right_to_mount_is_told_which(self, image: Path, status: str) -> None:
        (image / "status").write_text(status)
        assert "SYS_ADMIN" in self.unusable(image)


class TestRights:
    """What a container may do because of MOUNT_S3, in AWS and on this computer."""

    MOUNTING = Settings.model_validate(SETTINGS.model_dump() | {"MOUNT_S3": True})

    def container(self, settings: Settings) -> dict[str, Any]:
        request = build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), None)
        return dict(request["containerDefinitions"][0])

    def test_without_the_mount_a_container_has_no_rights_of_its_own(self) -> None:
        assert {"linuxParameters", "privileged"} & self.container(SETTINGS).keys() == set()

    def test_the_mount_needs_one_capability_and_one_device_and_is_never_privileged(self) -> None:
        container = self.container(self.MOUNTING)
        assert "privileged" not in container
        assert container["linuxParameters"] == {
            "capabilities": {"add": ["SYS_ADMIN"]},
            "devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}],
        }

    def test_a_revision_to_which_ecs_added_its_defaults_is_not_registered_again(self) -> None:
        request = build_task_definition(self.MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
        (asked,) = request["containerDefinitions"]
        rights = asked["linuxParameters"]
        added = rights | {"capabilities": rights["capabilities"] | {"drop": []}, "tmpfs": []}
        registered = {"taskDefinitionArn": "arn:1", "containerDefinitions": [asked | {"linuxParameters": added}]}
        with exact() as aws:
            aws.answer("ecs.describe_task_definition", taskDefinition=registered)
            assert ensure_task_definition(aws.clients.ecs, request) == "arn:1"

    def test_a_revision_without_the_rights_is_registered_anew(self) -> None:
        request = build_task_definition(self.MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
        (asked,) = request["containerDefinitions"]
        less = {name: value for name, value in asked.items() if name != "linuxParameters"}
        with exact() as aws:
            aws.answer("ecs.describe_task_definition", taskDefinition={"containerDefinitions": [less]})
            aws.answer("ecs.register_task_definition", request, taskDefinition={"taskDefinitionArn": "arn:2"})
            assert ensure_task_definition(aws.clients.ecs, request) == "arn:2"

    def test_a_local_container_gets_just_the_rights_of_the_task_definition(self, tmp_path: Path) -> None:
        plain, mounting = (self.options(settings, tmp_path) for settings in (SETTINGS, self.MOUNTING))
        assert mounting - plain == {"--cap-add", "SYS_ADMIN", "--device", "/dev/fuse:/dev/fuse:rw"}

    def options(self, settings: Settings, folder: Path) -> set[str]:
        """The words with which docker runs a task of the settings; a variable more or less is none of them."""
        task, machine = SimpleNamespace(id="task"), SimpleNamespace(instance_id="i-1")
        order = build_work_order(task, self.container(settings), {}, machine)  # type: ignore[arg-type]
        return set(ContainerRunner(build_layout(folder), {}).build_run_options("name", order))
