"""A project of its own in a temporary folder, and run.py typed in it as a user would."""

from __future__ import annotations

import json
import os
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
    """A folder with config.py, files/ and worker/, whose local cloud is stopped when the test is over."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "worker").mkdir()
        # A copy of its own: its path tells this project's workers from all others.
        shutil.copy(ROOT / "worker" / "generic-worker.py", folder / "worker")
        shutil.copy(ROOT / "files" / "exampleFleet.json", folder / "files" / "fleet.json")
        constants = CONFIG | config
        (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in constants.items()))

    def job_file(self, **content: object) -> Path:
        path = self.folder / "files" / "job.json"
        path.write_text(json.dumps(content))
        return path

    def run(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """`python run.py --local …` to its end, at most two minutes."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment(env), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`python run.py --local …`, left running."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.environment({}), stdout=pipe, stderr=pipe, text=True
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "run.py"), "--local", "--project", str(self.folder), *arguments]

    @staticmethod
    def environment(more: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(more)

    def cloud(self) -> LocalCloud:
        """This project's local cloud, started if need be."""
        return start_local_cloud(self.folder, region="us-east-1", worker_root=ROOT)

    def client(self, service: str) -> Any:
        """A client of this project's local cloud."""
        return self.cloud().build_client(service)

    def workers(self) -> list[int]:
        """The process ids of this project's workers."""
        return list_processes_with(str(self.folder / "worker" / "generic-worker.py"))

    def kill_a_worker(self) -> int:
        """SIGKILL to one of them, which is waited for."""
        wait_for(lambda: bool(self.workers()))
        victim = self.workers()[0]
        os.kill(victim, signal.SIGKILL)
        return victim

    def results(self, prefix: str = "results") -> dict[str, str]:
        """Each result file under local/, below `prefix`, with its text."""
        folder = self.folder / "local" / "tryout-bucket" / prefix
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

    def records(self) -> list[dict[str, Any]]:
        """The records of all runs, from the files under local/."""
        folder = self.folder / "local" / "tryout-bucket" / "runs"
        return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/jobs/*.json"))]

    def stop(self) -> None:
        stop_local_cloud(self.folder)


def processes_of(folder: Path) -> list[int]:
    """Every process with this folder in its arguments."""
    return list_processes_with(str(folder))


def wait_for(true: Callable[[], bool], seconds: float = 120) -> None:
    """Waits for what other processes do; fails after `seconds`."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "this did not happen in time"
        time.sleep(0.05)


@contextmanager
def project(folder: Path, **config: object) -> Iterator[Project]:
    """A project whose local cloud is stopped at the end, whatever happened."""
    made = Project(folder, **config)
    try:
        yield made
    finally:
        made.stop()
