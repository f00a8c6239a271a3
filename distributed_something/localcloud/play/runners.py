"""How one task's worker really runs: as a process, or as a container.

A process needs nothing but Python and starts at once, but only the stop signal is kept, not the memory limit (a limit
on address space would stop Python programs that use little of it). A container keeps both, and is the rehearsal of the
real image; it shares the host's network, because the emulators listen on loopback only (Docker Desktop has this only
where "host networking" is switched on in its settings).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from distributed_something.localcloud.base.container_engine import CONTAINER_LABEL, build_engine_environment, has_image
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, TASK_MARK, kill_marked_processes


@dataclass(frozen=True)
class WorkOrder:
    """One task to run. `memory` is the hard limit in MiB, `environment` what its container would get."""

    task_id: str
    image: str
    environment: Mapping[str, str]
    cpu: int = 0
    memory: int | None = None
    command: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    """HOST:CONTAINER:RIGHTS each. A process has neither: it keeps the rights of whoever started it."""


class TaskStartError(Exception):
    """A task that cannot start; the message is ECS's kind of reason and what to do."""


class TaskWorker(Protocol):
    """A started task."""

    def exit_code(self) -> int | None:
        """None while it runs; 128 plus the number for a signal, as a shell and Docker count. Never waits."""

    def stop(self, seconds: int) -> None:
        """Asks it to end; the caller kills it after `seconds`."""

    def kill(self) -> None:
        """Ends it and everything that it started."""


class TaskRunner(Protocol):
    def start_task(self, order: WorkOrder) -> TaskWorker:
        """Starts a worker. Raises TaskStartError."""


@dataclass(frozen=True)
class ProcessRunner:
    """Workers as processes of this computer's own Python."""

    layout: CloudLayout
    worker_root: Path

    def start_task(self, order: WorkOrder) -> TaskWorker:
        own = self.layout.generic_worker
        script = own if own.exists() else self.worker_root / "worker" / "generic-worker.py"
        if not script.exists():
            raise TaskStartError(f"CannotStartContainerError: there is no worker at {own} nor at {script}")
        folder = self.layout.tasks / order.task_id
        (folder / "tmp").mkdir(parents=True)
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
        """Little of the user's shell, as in a container; the marks come last, so that nothing can hide a worker."""
        return {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "HOME": os.environ.get("HOME", str(folder)),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PYTHONPATH": str(self.worker_root),
            "PYTHONUNBUFFERED": "1",
            **order.environment,
            "TMPDIR": str(folder / "tmp"),
            "WORKER_SCRIPTS_DIR": str(self._find_scripts_folder()),
            CLOUD_MARK: self.layout.key,
            TASK_MARK: order.task_id,
        }

    def _find_scripts_folder(self) -> Path:
        """As in an image, a project's own scripts count, whether or not it has a generic-worker.py of its own."""
        own = self.layout.project / "worker" / "scripts"
        return own if own.is_dir() else self.worker_root / "worker" / "scripts"


@dataclass
class ProcessWorker:
    """SIGTERM goes to the worker alone, as to a container's first process; SIGKILL to all that it started."""

    process: subprocess.Popen[bytes]
    task_id: str
    folder: Path

    def exit_code(self) -> int | None:
        running = self.process.returncode is None
        code = self.process.poll()
        if running and code is not None:
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
    """Workers as containers of the registered image, which must be on this computer: nothing is pulled."""

    layout: CloudLayout
    engine: Mapping[str, str]

    def start_task(self, order: WorkOrder) -> TaskWorker:
        try:
            found = has_image(order.image, self.engine)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TaskStartError(f"CannotStartContainerError: the container engine does not answer: {error}") from error
        if not found:
            reason = f"the image {order.image} is not on this computer"
            raise TaskStartError(f"CannotPullContainerError: {reason}; build it, or run without containers")
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
        return ContainerWorker(client, name, self.engine)

    def _build_run_options(self, name: str, order: WorkOrder) -> list[str]:
        """Values of variables travel in the client's environment: no process list and no file shows them."""
        options = ["--rm", "--pull", "never", "--name", name, "--label", f"{CONTAINER_LABEL}={self.layout.key}"]
        options += ["--network", "host", "--cpu-shares", str(max(order.cpu, 2))]
        if order.memory:
            options += ["--memory", f"{order.memory}m"]
        options += [word for name in order.capabilities for word in ("--cap-add", name)]
        options += [word for path in order.devices for word in ("--device", path)]
        return options + [word for variable in order.environment for word in ("--env", variable)]


@dataclass
class ContainerWorker:
    """The engine's client stands for the container: it ends with it, and with its exit code."""

    client: subprocess.Popen[bytes]
    name: str
    engine: Mapping[str, str]

    def exit_code(self) -> int | None:
        code = self.client.poll()
        return None if code is None else convert_exit_code(code)

    def stop(self, seconds: int) -> None:
        self._run_docker("stop", "--time", str(seconds), self.name)

    def kill(self) -> None:
        self._run_docker("rm", "--force", "--volumes", self.name)

    def _run_docker(self, *arguments: str) -> None:
        """Without waiting: the engine may take as long as the container does."""
        _docker_clients[:] = [client for client in _docker_clients if client.poll() is None]
        quiet = subprocess.DEVNULL
        environment = build_engine_environment(self.engine)
        client = subprocess.Popen(["docker", *arguments], env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
        _docker_clients.append(client)


_docker_clients: list[subprocess.Popen[bytes]] = []  # commands under way; kept to be reaped


def open_task_log(layout: CloudLayout, order: WorkOrder) -> BinaryIO:
    return open(layout.task_logs / f"{order.task_id}.log", "ab")


def convert_exit_code(returncode: int) -> int:
    """128 plus the signal's number, where Popen gives it negative."""
    return 128 - returncode if returncode < 0 else returncode
