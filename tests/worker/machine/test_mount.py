"""The mounted bucket: its command, and how it is kept up, with an s3fs and a clock that the tests step."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from distributed_something.worker.machine import mount
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.mount import (
    MAX_MOUNT_FAILURES,
    MOUNT_START_SECONDS,
    ROLE_PATH,
    BucketMount,
    MountError,
    MountPlan,
    MountSystem,
    build_credential_options,
    build_mount_command,
    build_mount_environment,
    format_mount_obstacle,
    is_mount_responsive,
)
from tests.support.fakes import FakeTime
from tests.support.metadata_server import metadata_server

ENDPOINT = "https://s3.eu-west-1.amazonaws.com"
PLAN = MountPlan("my.bucket", "eu-west-1", ENDPOINT, Path("/s"), Path("/b"))
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
    """Whether s3fs can start, and answers, or answers again once it is started anew; notes what was done, in order."""

    def __init__(self, folder: Path) -> None:
        self.time, self.starts, self.answering, self.answers_again = FakeTime(), True, True, False
        self.processes: list[S3fs] = []
        self.done: list[str] = []
        self.lost: list[str] = []
        plan = MountPlan("plates", "eu-west-1", ENDPOINT, Path("/scratch"), folder / "home" / "bucket")
        system = MountSystem(self.spawn, self.answers, self.unmount, self.time.now, self.time.sleep)
        self.mount = BucketMount(plan, self.lost.append, system)

    def spawn(self, plan: MountPlan) -> S3fs:
        assert plan.bucket == "plates"
        self.done.append("spawn")
        self.processes.append(S3fs(code=None if self.starts else 1))
        self.answering = self.answering or self.answers_again
        return self.processes[-1]

    def unmount(self, _: Path) -> None:
        """Notes it, with the exit code of an s3fs that was deaf to a request to end."""
        deaf = [f", s3fs {process.code}" for process in self.processes[-1:] if process.deaf]
        self.done.append("".join(["unmount", *deaf]))

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
    world.processes[0].deaf, world.answering, world.answers_again = True, False, True
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
    return build_mount_command(PLAN, list(credentials))[-1].split(",")


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
