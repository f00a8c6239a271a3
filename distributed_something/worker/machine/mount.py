"""The mounted bucket (MOUNT_S3): s3fs provides the bucket as a folder that programs can read.

The folder is read-only; a job writes its results to `output_dir`, where they are checked. s3fs runs in the foreground
as a child process of the worker and obtains the role's credentials itself. If s3fs dies or hangs, every program
that reads the folder fails or hangs, so the worker checks the mount every few seconds and, if necessary, mounts the
bucket again. After several failures in a row, the container stops.
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

from distributed_something.worker.job.addresses import MOUNT_FOLDER
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.program.launcher import WORKER_HOME, get_loader_command

MOUNT_CHECK_SECONDS = 5.0
# A mount that does not respond within this time counts as hung. The check itself does not make s3fs call S3.
MOUNT_RESPONSE_SECONDS = 15.0
MOUNT_START_SECONDS = 60.0  # time for s3fs to start and access the bucket
ROLE_PATH = "/latest/meta-data/iam/security-credentials/"  # path of the role's name in EC2's instance metadata
MOUNT_STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL
MAX_MOUNT_FAILURES = 3  # in a row
_MNT_DETACH = 2  # umount2(2): detach the folder at once; open files stay usable until they are closed
_CAP_SYS_ADMIN = 21  # capabilities(7)
log = logging.getLogger("worker")


class MountError(Exception):
    """An error that says why the bucket is not mounted."""


@dataclass(frozen=True)
class MountPlan:
    """A bucket and where to mount it.

    `endpoint`: the URL of S3. `scratch`: the folder in which s3fs stores parts of open files.
    """

    bucket: str
    region: str
    endpoint: str
    scratch: Path
    folder: Path = Path(MOUNT_FOLDER)


class MountProcess(Protocol):
    """The methods of subprocess.Popen that are used to control s3fs."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float) -> int: ...


def build_mount_plan(s3: Any, settings: Settings) -> MountPlan:
    """Return the plan for mounting the app's bucket from the same endpoint that the client `s3` uses."""
    return MountPlan(settings.aws_bucket, settings.aws_region, s3.meta.endpoint_url, settings.work_dir)


def format_mount_obstacle(
    home: Path = WORKER_HOME, fuse: Path = Path("/dev/fuse"), status: Path = Path("/proc/self/status")
) -> str:
    """Return one line that says why this container cannot mount the bucket, or an empty string if it can."""
    if not (home / "bin" / "s3fs").exists():
        return (
            "MOUNT_S3 is 'True', but this container image does not contain s3fs; set MOUNT_S3 in the config and run"
            " `make build` (a --local run can mount the bucket only with --containers)"
        )
    if not fuse.exists():
        return (
            "MOUNT_S3 is 'True', but /dev/fuse does not exist; run `setup` again, or add --device /dev/fuse to"
            " `docker run`"
        )
    if not _can_mount(status):
        return (
            "MOUNT_S3 is 'True', but the container has no permission to mount: its user must be root and have the"
            " SYS_ADMIN capability; run `setup` again, or add --cap-add SYS_ADMIN to `docker run`"
        )
    return ""


def build_mount_command(plan: MountPlan, credentials: list[str]) -> list[str]:
    """Return the s3fs command, which is run with the worker's own loader."""
    options = [
        "ro", "allow_other", "umask=0222",  # any user may read every object, whatever its file mode
        f"url={plan.endpoint}", f"endpoint={plan.region}",
        "use_path_request_style",  # required for a bucket with dots in its name
        f"tmpdir={plan.scratch}",
    ]  # fmt: skip
    program = [str(WORKER_HOME / "bin" / "s3fs"), plan.bucket, str(plan.folder), "-f"]
    return [*get_loader_command(), *program, "-o", ",".join(options + credentials)]


def build_credential_options(env: Mapping[str, str], metadata: InstanceMetadata) -> list[str]:
    """Return the s3fs options for the credentials that boto3 would use: environment keys or a role.

    A task's role takes precedence over the machine's role. The options contain the name of the machine's role, because
    s3fs 1.90 requests the name without a token, and machines that require IMDSv2 reject such requests. Raise MountError
    if there is no role.
    """
    if env.get("AWS_ACCESS_KEY_ID"):
        return []
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return ["ecs"]
    role = (metadata.get(ROLE_PATH) or "").strip()
    if not role:
        raise MountError("the bucket cannot be mounted: this machine has no IAM role that could read it")
    return [f"iam_role={role}".replace(",", "\\,")]


def build_mount_environment(env: Mapping[str, str], certificates: str) -> dict[str, str]:
    """Return the environment for s3fs.

    The environment contains none of the container image's loader variables (LD_*), points to the worker's certificates
    because the base image may have none, and omits an empty session token, which boto3 ignores but s3fs would send.
    """
    mount_env = {name: value for name, value in env.items() if not name.startswith("LD_")}
    if not mount_env.get("AWS_SESSION_TOKEN"):
        mount_env.pop("AWS_SESSION_TOKEN", None)
    return mount_env | {"CURL_CA_BUNDLE": env.get("AWS_CA_BUNDLE") or certificates}


def start_mount_process(plan: MountPlan) -> MountProcess:
    """Start s3fs in its own session, so that signals to the worker do not reach it.

    The output of s3fs is written to the container's log.
    """
    import botocore

    words = build_mount_command(plan, build_credential_options(os.environ, InstanceMetadata()))
    env = build_mount_environment(os.environ, str(Path(botocore.__file__).parent / "cacert.pem"))
    return subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)


def is_mount_responsive(folder: Path, seconds: float = MOUNT_RESPONSE_SECONDS) -> bool:
    """Return whether something is mounted at `folder` and responds in time.

    The check runs in a thread, because a call to a hung mount does not return.
    """
    results: list[bool] = []

    def check_mount() -> None:
        with suppress(OSError):
            os.statvfs(folder)  # reaches s3fs; ismount() alone does not
            results.append(os.path.ismount(folder))

    thread = threading.Thread(target=check_mount, name="mount-check", daemon=True)
    thread.start()
    thread.join(seconds)
    return results == [True]


def unmount_folder(folder: Path) -> None:
    """Unmount `folder` if something is mounted there. Call the C library, because the base image may lack `umount`."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)


@dataclass(frozen=True)
class MountSystem:
    """The parts of the system that a mount uses: the s3fs process, the kernel, and a monotonic clock in seconds."""

    start_process: Callable[[MountPlan], MountProcess] = start_mount_process
    is_responsive: Callable[[Path], bool] = is_mount_responsive
    unmount: Callable[[Path], None] = unmount_folder
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class BucketMount:
    """A bucket that is mounted as planned and mounted again when the mount fails.

    `on_lost(reason)` is called once, after mounting again has failed too many times.
    """

    def __init__(self, plan: MountPlan, on_lost: Callable[[str], None], system: MountSystem | None = None) -> None:
        self._plan, self._on_lost, self._system = plan, on_lost, system or MountSystem()
        self._process: MountProcess | None = None
        self._failures, self._lost = 0, False

    def start(self) -> None:
        """Mount the bucket, and return once it can be read. Raise MountError if it cannot be mounted."""
        self.end()  # cleans up after an earlier mount that failed
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
                raise MountError(f"s3fs cannot mount {bucket} (exit code {code}; its messages are in this log)")
            if system.clock() > until:
                raise MountError(f"s3fs has not mounted {bucket} after {MOUNT_START_SECONDS:.0f} s")
            system.sleep(0.1)
        log.info("mounted %s at %s", bucket, folder)

    def tick(self) -> None:
        """Check the mount, and mount the bucket again if it does not respond."""
        if self._lost or self._is_mounted():
            return
        log.warning("the mount of %s does not respond; mounting it again", self._plan.bucket)
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
        """Check the mount every MOUNT_CHECK_SECONDS until `ended`."""
        while not ended.wait(MOUNT_CHECK_SECONDS):
            try:
                self.tick()
            except Exception:  # otherwise this thread would end, and a lost mount would go unnoticed
                log.exception("the worker's own code failed while checking the mount")

    def end(self) -> None:
        """Stop s3fs, then unmount. With s3fs stopped, programs that are waiting for a hung mount get an error."""
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
