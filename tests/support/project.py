"""A project in a temporary folder, in which tests run `run.py` as a user would."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed_something.localcloud import LocalCloud, start_local_cloud, stop_local_cloud
from tests.support import offline
from tests.support.paths import ROOT
from tests.support.processes import list_processes_with

CONFIG = offline.CONFIG | {
    "DOCKER_CORES": 2,
    "SQS_MESSAGE_VISIBILITY": 10,
    "JOB_RETRIES": 3,
    "EXPECTED_NUMBER_FILES": 1,
}
MONITOR_FILE = "files/TryoutSpotFleetRequestId.json"


class Project:
    """A folder with config.py, files/, and worker/. Its local cloud is stopped at the end of the test.

    `command_seconds`: after this time, a command that has not ended fails the test.
    """

    command_seconds = 120

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "worker").mkdir()
        # The path of this copy distinguishes this project's workers from all others.
        shutil.copy(ROOT / "worker" / "generic-worker.py", folder / "worker")
        shutil.copy(ROOT / "files" / "exampleFleet.json", folder / "files" / "fleet.json")
        constants = CONFIG | config
        (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in constants.items()))

    def write_job_file(self, **content: object) -> Path:
        path = self.folder / "files" / "job.json"
        path.write_text(json.dumps(content))
        return path

    def run(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `python run.py --local …` and wait until it ends."""
        result = subprocess.run(
            self.build_command(*arguments), cwd=self.folder, env=self.build_environment(env),
            capture_output=True, text=True, timeout=self.command_seconds, check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, (
            f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
        return result

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python run.py --local …` without waiting for it to end."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.build_command(*arguments),
            cwd=self.folder,
            env=self.build_environment({}),
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def build_command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "run.py"), "--local", "--project", str(self.folder), *arguments]

    @staticmethod
    def build_environment(more: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(more)

    def get_local_cloud(self) -> LocalCloud:
        """Return this project's local cloud; start it if necessary."""
        return start_local_cloud(self.folder, region="us-east-1", default_worker=ROOT / "worker")

    def build_client(self, service: str) -> Any:
        """Return a client for this project's local cloud."""
        return self.get_local_cloud().build_client(service)

    def list_workers(self) -> list[int]:
        """Return the process IDs of this project's workers."""
        return list_processes_with(str(self.folder / "worker" / "generic-worker.py"))

    def kill_worker(self) -> int:
        """Wait until a worker is running, and kill it with SIGKILL. Return its process ID."""
        wait_until(lambda: bool(self.list_workers()))
        pid = self.list_workers()[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def read_results(self, prefix: str = "results") -> dict[str, str]:
        """Return the text of each exported result file below `prefix`, keyed by path."""
        folder = self.folder / "local" / "tryout-bucket" / prefix
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

    def read_records(self) -> list[dict[str, Any]]:
        """Return the exported records of all runs."""
        folder = self.folder / "local" / "tryout-bucket" / "runs"
        return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/jobs/*.json"))]

    def copy_to(self, folder: Path) -> Project:
        """Copy the project's folder as a user would, and return the copy, which the caller must stop."""
        subprocess.run(["cp", "-r", str(self.folder), str(folder)], check=True)
        project = copy.copy(self)
        project.folder = folder
        return project

    def stop(self) -> None:
        stop_local_cloud(self.folder)


def list_project_processes(folder: Path) -> list[int]:
    """Return the IDs of the processes with this folder in their arguments."""
    return list_processes_with(str(folder))


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition that depends on other processes is true. Fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {seconds} s"
        time.sleep(0.05)


@contextmanager
def create_project(folder: Path, **config: object) -> Iterator[Project]:
    """Yield a new project. Stop its local cloud at the end, even if the test fails."""
    new_project = Project(folder, **config)
    try:
        yield new_project
    finally:
        new_project.stop()


def join_commands(text: str) -> str:
    """Return the text with each command on one line. Commands that are too long for a terminal are broken."""
    return re.sub(r" \\\n *", " ", text)
