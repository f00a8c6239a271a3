"""MOUNT_S3: the bucket as a folder that programs read, kept up by s3fs.

Read-only: what a job writes goes through `output_dir`, where it is checked. s3fs runs in the foreground, as a child
of the worker, with the role's credentials, which it asks for itself. It may die or hang, and then every program that
reads the folder hangs or fails; so it is asked every few seconds, ended and mounted again, and when that fails several
times in a row the container is told to end.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.program.launcher import WORKER_HOME, get_loader_command

MOUNT_FOLDER = Path("/home/ubuntu/bucket")  # where the published worker mounts it
MOUNT_CHECK_SECONDS = 5.0
MOUNT_ANSWER_SECONDS = 15.0  # a mount that says nothing for so long hangs; s3fs answers this question without asking S3
MOUNT_START_SECONDS = 60.0  # from the start of s3fs until it has asked for the bucket
ROLE_PATH = "/latest/meta-data/iam/security-credentials/"  # in EC2's instance metadata: the role's name
MOUNT_STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL
MAX_MOUNT_FAILURES = 3  # mounts in a row
_MNT_DETACH = 2  # umount2(2): now for new files; the open ones end on their own
_CAP_SYS_ADMIN = 21  # capabilities(7)
log = logging.getLogger("worker")


class MountError(Exception):
    """The bucket is not mounted; the text says why."""


@dataclass(frozen=True)
class MountPlan:
    """What is mounted where. `endpoint`: S3's address; `scratch`: the folder for the parts of files that are open."""

    bucket: str
    region: str
    endpoint: str
    scratch: Path
    folder: Path = MOUNT_FOLDER


class MountProcess(Protocol):
    """What is asked of s3fs; subprocess.Popen has it all."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float) -> int: ...


def build_mount_plan(settings: Settings, s3: Any) -> MountPlan:
    """Return the plan for the app's bucket, which is read from where `s3`, boto3's client, reads it."""
    return MountPlan(settings.aws_bucket, settings.aws_region, s3.meta.endpoint_url, settings.work_dir)


def format_mount_obstacle(
    home: Path = WORKER_HOME, fuse: Path = Path("/dev/fuse"), status: Path = Path("/proc/self/status")
) -> str:
    """Why this container cannot mount anything, in one line; empty where it can."""
    if not (home / "bin" / "s3fs").exists():
        return (
            "MOUNT_S3 is 'True', but this is no container of an image with s3fs: `make build` makes one if the config"
            " says MOUNT_S3 (a --local run mounts only with --containers)"
        )
    if not fuse.exists():
        return "MOUNT_S3 is 'True', but there is no /dev/fuse: run `setup` again, or docker's --device /dev/fuse"
    if not _can_mount(status):
        return (
            "MOUNT_S3 is 'True', but the container may not mount: its user must be root and have the capability"
            " SYS_ADMIN: run `setup` again, or docker's --cap-add SYS_ADMIN"
        )
    return ""


def build_mount_command(plan: MountPlan, credentials: list[str]) -> list[str]:
    """s3fs through the worker's own loader."""
    options = [
        "ro", "allow_other", "umask=0222",  # whatever user the program is, and whatever tool wrote the object
        f"url={plan.endpoint}", f"endpoint={plan.region}",
        "use_path_request_style",  # that serves a bucket with dots in its name
        f"tmpdir={plan.scratch}",
    ]  # fmt: skip
    program = [str(WORKER_HOME / "bin" / "s3fs"), plan.bucket, str(plan.folder), "-f"]
    return [*get_loader_command(), *program, "-o", ",".join(options + credentials)]


def build_credential_options(env: Mapping[str, str], metadata: InstanceMetadata) -> list[str]:
    """The option by which s3fs finds what boto3 finds: keys of the environment, a task's role, the machine's role.

    The machine's role by its name: s3fs 1.90 asks for the name without a token, which machines refuse that require
    IMDSv2, but for the credentials with one. Raises MountError where there is no role.
    """
    if env.get("AWS_ACCESS_KEY_ID"):
        return []
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return ["ecs"]
    role = (metadata.get(ROLE_PATH) or "").strip()
    if not role:
        raise MountError("the bucket cannot be mounted: this machine has no role to read it with")
    return [f"iam_role={role}".replace(",", "\\,")]


def build_mount_environment(env: Mapping[str, str], certificates: str) -> dict[str, str]:
    """For s3fs: nothing that the program's image says to its own libraries; the base may have no certificates. An empty
    session token, which boto3 takes for none, is a wrong one to s3fs."""
    kept = {name: value for name, value in env.items() if not name.startswith("LD_")}
    if not kept.get("AWS_SESSION_TOKEN"):
        kept.pop("AWS_SESSION_TOKEN", None)
    return kept | {"CURL_CA_BUNDLE": env.get("AWS_CA_BUNDLE") or certificates}


def start_mount_process(plan: MountPlan) -> MountProcess:
    """Starts s3fs, in a session of its own: no signal reaches it by chance. It speaks to the container's log."""
    import botocore

    words = build_mount_command(plan, build_credential_options(os.environ, InstanceMetadata()))
    env = build_mount_environment(os.environ, str(Path(botocore.__file__).parent / "cacert.pem"))
    return subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)


def is_mount_responsive(folder: Path, seconds: float = MOUNT_ANSWER_SECONDS) -> bool:
    """Whether something is mounted at `folder` and says so in time. Asked in a thread: a mount that hangs holds it."""
    said: list[bool] = []

    def ask() -> None:
        with suppress(OSError):
            os.statvfs(folder)  # through s3fs, which ismount() of a mount alone is not
            said.append(os.path.ismount(folder))

    thread = threading.Thread(target=ask, name="mount-answers", daemon=True)
    thread.start()
    thread.join(seconds)
    return said == [True]


def unmount_folder(folder: Path) -> None:
    """Takes away what is mounted at `folder`, if anything; by the C library, since a base may have no `umount`."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)


@dataclass(frozen=True)
class MountSystem:
    """How a mount acts on this machine: s3fs's process, the kernel, and a clock in seconds that only goes forward."""

    start_process: Callable[[MountPlan], MountProcess] = start_mount_process
    is_responsive: Callable[[Path], bool] = is_mount_responsive
    unmount: Callable[[Path], None] = unmount_folder
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class BucketMount:
    """Mounts a bucket as planned and keeps it there. `on_lost(reason)` is called once, when it cannot be kept."""

    def __init__(self, plan: MountPlan, on_lost: Callable[[str], None], system: MountSystem | None = None) -> None:
        self._plan, self._on_lost, self._system = plan, on_lost, system or MountSystem()
        self._process: MountProcess | None = None
        self._failures, self._lost = 0, False

    def start(self) -> None:
        """Returns when the bucket can be read. Raises MountError."""
        self.end()  # what a try before this one left
        bucket, folder, system = self._plan.bucket, self._plan.folder, self._system
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._process = system.start_process(self._plan)
        except OSError as error:
            raise MountError(f"s3fs cannot be started for {folder}: {error}") from None
        until = system.clock() + MOUNT_START_SECONDS
        while not system.is_responsive(folder):
            code = self._process.poll()
            if code is not None:
                raise MountError(f"s3fs cannot mount {bucket} (exit code {code}; its words are in this log)")
            if system.clock() > until:
                raise MountError(f"s3fs has not mounted {bucket} after {MOUNT_START_SECONDS:.0f} s")
            system.sleep(0.1)
        log.info("mounted %s at %s", bucket, folder)

    def tick(self) -> None:
        """One look at the mount; a lost one is mounted again."""
        if self._lost or self._is_mounted():
            return
        log.warning("the mount of %s does not answer: mounting it again", self._plan.bucket)
        try:
            self.start()
            self._failures = 0
        except MountError as error:
            self._failures += 1
            log.warning("%s", error)
            if self._failures >= MAX_MOUNT_FAILURES:
                self._lost = True
                self._on_lost(f"the bucket cannot be mounted: {error}")

    def run(self, ended: threading.Event) -> None:
        """Ticks until `ended`."""
        while not ended.wait(MOUNT_CHECK_SECONDS):
            try:
                self.tick()
            except Exception:  # the loop's edge: nobody else would notice a mount that is lost
                log.exception("the worker's own code failed while it looked at the mount")

    def end(self) -> None:
        """Ends s3fs and unmounts. s3fs first: whoever waits for a mount that hangs gets an error then."""
        if self._process is not None:
            _stop_process(self._process)
            self._process = None
        self._system.unmount(self._plan.folder)

    def _is_mounted(self) -> bool:
        alive = self._process is not None and self._process.poll() is None
        return alive and self._system.is_responsive(self._plan.folder)


def _stop_process(process: MountProcess) -> None:
    process.terminate()
    try:
        process.wait(MOUNT_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(MOUNT_STOP_SECONDS)


def _can_mount(status: Path) -> bool:
    lines = status.read_text().splitlines()
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
