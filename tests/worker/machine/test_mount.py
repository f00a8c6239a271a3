"""The mounted bucket: the s3fs command and how the worker keeps the bucket mounted, tested with a fake s3fs."""

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
from tests.support.metadata_server import run_metadata_server

ENDPOINT = "https://s3.eu-west-1.amazonaws.com"
PLAN = MountPlan("my.bucket", "eu-west-1", ENDPOINT, Path("/s"), Path("/b"))
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}


class FakeS3fs:
    """A fake s3fs process. If `ignores_sigterm`, only SIGKILL ends it."""

    def __init__(self, code: int | None = None, ignores_sigterm: bool = False) -> None:
        self.code, self.ignores_sigterm = code, ignores_sigterm

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        if not self.ignores_sigterm and self.code is None:
            self.code = 0

    def kill(self) -> None:
        self.code = -9

    def wait(self, timeout: float) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("s3fs", timeout)
        return self.code


class MountHarness:
    """A mount that uses a fake s3fs, and a list of the actions taken.

    `can_start`: whether s3fs starts; `is_responsive`: whether the mount responds; `recovers`: whether a restart
    makes the mount respond again.
    """

    def __init__(self, folder: Path) -> None:
        self.time, self.can_start, self.is_responsive, self.recovers = FakeTime(), True, True, False
        self.processes: list[FakeS3fs] = []
        self.actions: list[str] = []
        self.loss_reasons: list[str] = []
        plan = MountPlan("plates", "eu-west-1", ENDPOINT, Path("/scratch"), folder / "home" / "bucket")
        system = MountSystem(self.start_process, self.check, self.unmount, self.time.now, self.time.sleep)
        self.mount = BucketMount(plan, self.loss_reasons.append, system)

    def start_process(self, plan: MountPlan) -> FakeS3fs:
        assert plan.bucket == "plates"
        self.actions.append("start")
        self.processes.append(FakeS3fs(code=None if self.can_start else 1))
        self.is_responsive = self.is_responsive or self.recovers
        return self.processes[-1]

    def unmount(self, _: Path) -> None:
        """Record the unmount, with the exit code of s3fs if it ignored SIGTERM."""
        killed = [f", s3fs {process.code}" for process in self.processes[-1:] if process.ignores_sigterm]
        self.actions.append("".join(["unmount", *killed]))

    def check(self, folder: Path) -> bool:
        assert folder.is_dir()
        return self.is_responsive and self.processes[-1].code is None


@pytest.fixture
def harness(tmp_path: Path) -> MountHarness:
    return MountHarness(tmp_path)


def test_a_responsive_mount_is_left_alone(harness: MountHarness) -> None:
    harness.mount.start()
    harness.mount.tick()
    harness.mount.tick()
    assert harness.actions.count("start") == 1


def test_a_dead_mount_is_unmounted_and_mounted_again(harness: MountHarness) -> None:
    harness.mount.start()
    harness.processes[0].code = -9
    del harness.actions[:]
    harness.mount.tick()
    assert harness.actions == ["unmount", "start"]
    assert harness.loss_reasons == []


def test_s3fs_is_killed_before_a_hung_mount_is_unmounted(harness: MountHarness) -> None:
    harness.mount.start()
    harness.processes[0].ignores_sigterm, harness.is_responsive, harness.recovers = True, False, True
    del harness.actions[:]
    harness.mount.tick()
    assert harness.actions == ["unmount, s3fs -9", "start"]


def test_too_many_failures_in_a_row_are_reported_once(harness: MountHarness) -> None:
    harness.mount.start()
    harness.processes[0].code, harness.can_start = 1, False
    for _ in range(MAX_MOUNT_FAILURES + 3):
        harness.mount.tick()
    assert harness.actions.count("start") == 1 + MAX_MOUNT_FAILURES
    (reason,) = harness.loss_reasons
    assert "plates" in reason


def test_failures_that_are_not_in_a_row_do_not_add_up(harness: MountHarness) -> None:
    harness.mount.start()
    for _ in range(4):
        harness.processes[-1].code, harness.can_start = 1, False
        for _ in range(MAX_MOUNT_FAILURES - 1):
            harness.mount.tick()
        harness.can_start = True
        harness.mount.tick()
    assert harness.loss_reasons == []


def test_a_failed_start_is_reported_with_the_exit_code_of_s3fs(harness: MountHarness) -> None:
    harness.can_start = False
    with pytest.raises(MountError, match=r"plates.*exit code 1"):
        harness.mount.start()


def test_a_start_fails_if_s3fs_never_responds(harness: MountHarness) -> None:
    harness.is_responsive = False
    with pytest.raises(MountError, match="60 s"):
        harness.mount.start()
    assert MOUNT_START_SECONDS <= sum(harness.time.slept) < MOUNT_START_SECONDS + 1


def test_ending_the_mount_stops_s3fs_and_unmounts_the_folder(harness: MountHarness) -> None:
    harness.mount.start()
    del harness.actions[:]
    harness.mount.end()
    assert harness.processes[0].code == 0
    assert harness.actions == ["unmount"]


def test_the_loop_ends_when_its_event_is_set(harness: MountHarness) -> None:
    ended = threading.Event()
    ended.set()
    harness.mount.run(ended)
    assert harness.actions == []


def test_a_hung_mount_counts_as_unresponsive_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(mount.os, "statvfs", lambda _: released.wait(30))
    start = time.monotonic()
    assert not is_mount_responsive(tmp_path, seconds=0.05)
    assert time.monotonic() - start < 10
    released.set()


def test_a_plain_or_missing_folder_does_not_count_as_a_mount(tmp_path: Path) -> None:
    assert not is_mount_responsive(tmp_path)
    assert not is_mount_responsive(tmp_path / "none")
    assert is_mount_responsive(Path("/"))


def build_options(*credentials: str) -> list[str]:
    return build_mount_command(PLAN, list(credentials))[-1].split(",")


def test_the_mount_is_read_only_for_every_user_and_uses_the_regional_endpoint() -> None:
    mount_options = build_options("iam_role=r")
    assert {"ro", "allow_other", f"url={ENDPOINT}", "endpoint=eu-west-1", "tmpdir=/s", "iam_role=r"} <= set(
        mount_options
    )


@pytest.mark.parametrize(
    ("env", "option"),
    [
        ({}, ["iam_role=plate-reader"]),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, ["ecs"]),
        (KEYS | {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, []),
    ],
)
def test_s3fs_uses_the_same_credentials_as_boto3_and_its_command_contains_no_key(
    env: Mapping[str, str], option: list[str]
) -> None:
    with run_metadata_server() as server:
        server.texts[ROLE_PATH] = "plate-reader"
        assert build_credential_options(env, InstanceMetadata(server.env)) == option


def test_a_machine_without_a_role_cannot_mount() -> None:
    with run_metadata_server() as server, pytest.raises(MountError, match="no IAM role"):
        build_credential_options({}, InstanceMetadata(server.env))


def test_s3fs_gets_certificates_but_not_the_programs_loader_variables() -> None:
    env = build_mount_environment({"LD_PRELOAD": "/x.so", "LD_LIBRARY_PATH": "/x", "A": "b"}, "/own/cacert.pem")
    assert env == {"A": "b", "CURL_CA_BUNDLE": "/own/cacert.pem"}
    # In the local cloud, the session token is empty.
    assert "AWS_SESSION_TOKEN" not in build_mount_environment({"AWS_SESSION_TOKEN": ""}, "/c.pem")
    assert build_mount_environment({"AWS_SESSION_TOKEN": "t"}, "/c.pem")["AWS_SESSION_TOKEN"] == "t"
    assert build_mount_environment({"AWS_CA_BUNDLE": "/lab.pem"}, "/own/cacert.pem")["CURL_CA_BUNDLE"] == "/lab.pem"


class TestMountObstacle:
    """A missing requirement is reported in one line before anything is mounted."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        (tmp_path / "bin").mkdir()
        for path, text in (("bin/s3fs", ""), ("fuse", ""), ("status", "Name:\tx\nCapEff:\t0000000000200000\n")):
            (tmp_path / path).write_text(text)
        return tmp_path

    def find_obstacle(self, image: Path) -> str:
        return format_mount_obstacle(image, image / "fuse", image / "status")

    def test_a_container_with_all_requirements_can_mount(self, image: Path) -> None:
        assert self.find_obstacle(image) == ""

    @pytest.mark.parametrize(("path", "remedy"), [("bin/s3fs", "make build"), ("fuse", "--device /dev/fuse")])
    def test_a_missing_requirement_is_reported_with_its_remedy(self, image: Path, path: str, remedy: str) -> None:
        (image / path).unlink()
        assert remedy in self.find_obstacle(image)
        assert "\n" not in self.find_obstacle(image)

    @pytest.mark.parametrize("status", ["CapEff:\t00000000a80425fb\n", "Name:\tx\n"])
    def test_a_missing_permission_is_reported(self, image: Path, status: str) -> None:
        (image / "status").write_text(status)
        assert "SYS_ADMIN" in self.find_obstacle(image)
