"""The two ways to run a task's worker: as a process or as a container.

A process needs only Python and starts immediately. It gets the stop signal but has no memory limit, because a limit on
address space would stop Python programs that use little memory. A container gets the signal, has the limit, and
tests the real container image. It shares the host's network, because the emulators listen only on the loopback
interface. With Docker Desktop, this requires "Enable host networking" in the settings.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from distributed_something.localcloud.base.container_engine import (
    CONTAINER_LABEL,
    build_engine_environment,
    get_image_digest,
    inspect_image,
)
from distributed_something.localcloud.base.endpoints import build_certificate_variables
from distributed_something.localcloud.base.layout import IMPORT_ROOT, CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, TASK_MARK, kill_marked_processes

# Of `docker run` if the engine reports an error, or if the command cannot be executed or does not exist. A container's
# program may end with the same codes, but it does not print the engine's message first.
ENGINE_EXIT_CODES = (125, 126, 127)
ENGINE_ERROR_PREFIXES = ("docker: Error", "docker: failed", "Error: ")
MAX_ERROR_BYTES = 8192


@dataclass(frozen=True)
class WorkOrder:
    """One task to run. `memory` is the hard limit in MiB; `environment` contains the container's variables."""

    task_id: str
    image: str
    environment: Mapping[str, str]
    cpu: int = 0
    memory: int | None = None
    command: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    """Devices as HOST:CONTAINER:PERMISSIONS. A process ignores devices and capabilities."""


class TaskStartError(Exception):
    """Failure to start a task. The message looks like an ECS stopped reason and says what to do."""


class TaskWorker(Protocol):
    """A started task."""

    def poll_exit_code(self) -> int | None:
        """Return the exit code (128 + N for a signal N), or None if the worker is still running."""

    def stop(self, seconds: int) -> None:
        """Send the worker the stop signal. The caller kills it after `seconds`."""

    def kill(self) -> None:
        """Kill the worker and everything that it started."""


class TaskRunner(Protocol):
    """A way to run tasks."""

    def start_task(self, order: WorkOrder) -> TaskWorker:
        """Start a worker. Raise TaskStartError if that fails."""


@dataclass(frozen=True)
class ProcessRunner:
    """Starts workers as processes, with this computer's Python."""

    layout: CloudLayout
    default_worker: Path

    def start_task(self, order: WorkOrder) -> TaskWorker:
        project_script = self.layout.generic_worker
        script = project_script if project_script.exists() else self.default_worker / "generic-worker.py"
        if not script.exists():
            raise TaskStartError(f"CannotStartContainerError: neither {project_script} nor {script} exists")
        folder = self.layout.tasks / order.task_id
        folder.mkdir()  # without its parents, which do not exist if the project was moved a moment ago
        (folder / "tmp").mkdir()
        with open_task_log(self.layout, order) as log:
            process = subprocess.Popen(
                [sys.executable, str(script), *order.command],
                cwd=folder,
                env=self._build_environment(order, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return ProcessWorker(process, order.task_id, folder)

    def _build_environment(self, order: WorkOrder, folder: Path) -> dict[str, str]:
        """Return only a few user variables, as in a container. The marks are last, so that nothing overrides them."""
        return {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "HOME": os.environ.get("HOME", str(folder)),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PYTHONPATH": str(IMPORT_ROOT),
            "PYTHONUNBUFFERED": "1",
            **build_certificate_variables(os.environ),
            **order.environment,
            "TMPDIR": str(folder / "tmp"),
            "WORKER_SCRIPTS_DIR": str(self._find_scripts_folder()),
            CLOUD_MARK: self.layout.key,
            TASK_MARK: order.task_id,
        }

    def _find_scripts_folder(self) -> Path:
        """Return the project's own scripts folder if it exists, even if the project has no generic-worker.py."""
        project_folder = self.layout.project / "worker" / "scripts"
        return project_folder if project_folder.is_dir() else self.default_worker / "scripts"


@dataclass
class ProcessWorker:
    """A worker that runs as a process.

    `stop` sends SIGTERM only to the worker, as Docker does with a container's first process. `kill` sends SIGKILL to
    everything that the worker started.
    """

    process: subprocess.Popen[bytes]
    task_id: str
    folder: Path

    def poll_exit_code(self) -> int | None:
        was_running = self.process.returncode is None
        code = self.process.poll()
        if was_running and code is not None:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
        return None if code is None else convert_exit_code(code)

    def stop(self, seconds: int) -> None:
        self.process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        kill_marked_processes(TASK_MARK, self.task_id, seconds=1)


@dataclass(frozen=True)
class ContainerRunner:
    """Starts workers as containers. The container image must be on this computer; it is never pulled."""

    layout: CloudLayout
    engine: Mapping[str, str]

    def start_task(self, order: WorkOrder) -> TaskWorker:
        try:
            image = inspect_image(order.image, self.engine)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"the container engine does not respond: {error}"
            raise TaskStartError(f"CannotStartContainerError: {reason}; start Docker") from error
        if image is None:
            reason = f"the image {order.image} is not on this computer"
            raise TaskStartError(f"CannotPullContainerError: {reason}; build it, or run without containers")
        # On AWS, the worker asks the ECS agent for the digest.
        order = replace(order, environment={**order.environment, "IMAGE_DIGEST": get_image_digest(image)})
        name = f"localcloud-{order.task_id}"
        with open_task_log(self.layout, order) as log:
            client = subprocess.Popen(
                ["docker", "run", *self._build_run_options(name, order), order.image, *order.command],
                env={**build_engine_environment(self.engine), **order.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return ContainerWorker(client, name, self.engine, self.layout.task_logs / f"{order.task_id}.log")

    def _build_run_options(self, name: str, order: WorkOrder) -> list[str]:
        """Return the options of `docker run`.

        They contain only the names of the environment variables. The values are in the client's environment, so that no
        process list shows them.
        """
        options = ["--rm", "--pull", "never", "--name", name, "--label", f"{CONTAINER_LABEL}={self.layout.key}"]
        options += ["--network", "host", "--cpu-shares", str(max(order.cpu, 2))]
        if order.memory:
            options += ["--memory", f"{order.memory}m"]
        options += [word for name in order.capabilities for word in ("--cap-add", name)]
        options += [word for path in order.devices for word in ("--device", path)]
        return options + [word for variable in order.environment for word in ("--env", variable)]


@dataclass
class ContainerWorker:
    """A worker that runs as a container. Its `docker run` process, `client`, exits with the container's exit code."""

    client: subprocess.Popen[bytes]
    name: str
    engine: Mapping[str, str]
    log: Path

    def poll_exit_code(self) -> int | None:
        code = self.client.poll()
        return None if code is None else convert_exit_code(code)

    def find_start_error(self) -> str:
        """Return the container engine's message if it could not start the container; otherwise ""."""
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[:MAX_ERROR_BYTES].decode(errors="replace").splitlines()
            errors = (line for line in lines if line.startswith(ENGINE_ERROR_PREFIXES))
            return next(errors, "").removeprefix("docker: ").strip()
        return ""

    def stop(self, seconds: int) -> None:
        self._run_docker("stop", "--time", str(seconds), self.name)

    def kill(self) -> None:
        self._run_docker("rm", "--force", "--volumes", self.name)

    def _run_docker(self, *arguments: str) -> None:
        """Start a `docker` command without waiting for it, because it can take as long as the container does."""
        _docker_clients[:] = [client for client in _docker_clients if client.poll() is None]
        no_stream = subprocess.DEVNULL
        environment = build_engine_environment(self.engine)
        client = subprocess.Popen(
            ["docker", *arguments], env=environment, stdin=no_stream, stdout=no_stream, stderr=no_stream
        )
        _docker_clients.append(client)


def explain_end(worker: TaskWorker, code: int) -> tuple[str, str]:
    """Return the stopped reason and the stop code that ECS reports about a container that ended by itself."""
    if isinstance(worker, ContainerWorker) and code in ENGINE_EXIT_CODES and (error := worker.find_start_error()):
        return f"CannotStartContainerError: {error}", "TaskFailedToStart"
    return "Essential container in task exited", "EssentialContainerExited"


_docker_clients: list[subprocess.Popen[bytes]] = []  # commands that may still be running


def open_task_log(layout: CloudLayout, order: WorkOrder) -> BinaryIO:
    return open(layout.task_logs / f"{order.task_id}.log", "ab")


def convert_exit_code(returncode: int) -> int:
    """Convert Popen's return code to the exit code that shells and Docker use: 128 + N, not -N, for a signal N."""
    return 128 - returncode if returncode < 0 else returncode
