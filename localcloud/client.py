"""What a command sees of the local cloud: start or find it, use it, stop it.

The cloud outlives the command that started it, so that `setup`, `submitJob`, `startCluster` and `monitor` meet the
same one. It is a daemon of its own session; a state file says where it listens, and only its answer proves that it
lives.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import engine
from .endpoints import command_environment, worker_environment
from .errors import LocalCloudError
from .layout import Layout, State, layout_of, locked, read_state
from .leftovers import clear
from .processes import CLOUD_MARK, TASK_MARK, wait_until

START_SECONDS = 60
"""A cold disk can make the first import of the emulators slow; a warm start takes two."""

CONTROL_PATH = "/_localcloud/"

_daemons: list[subprocess.Popen[bytes]] = []  # kept, or Python warns that a child still runs


@dataclass(frozen=True)
class Cloud:
    """A running local cloud, as one command uses it."""

    layout: Layout
    state: State
    region: str

    def environment(self) -> dict[str, str]:
        """Variables to set for boto3, here or in a child: the cloud's addresses, and nothing of the user's AWS."""
        config_file = self.layout.root / "aws-config"
        draft = config_file.with_name(f"{config_file.name}.{uuid.uuid4().hex}")
        draft.write_text("[default]\n")
        draft.replace(config_file)  # other commands may be reading it
        return command_environment(self.state.moto, self.state.ministack, self.region, config_file, os.environ)

    def worker_environment(self) -> dict[str, str]:
        """Variables for a worker that starts with an empty environment: the cloud's addresses and credentials."""
        return worker_environment(self.state.moto, self.state.ministack, self.region)

    def make_buckets(self, names: Iterable[str]) -> None:
        """Makes the buckets that do not exist yet."""
        from .account import make_buckets  # boto3 is slow to import, and attaching needs none

        make_buckets(self, names)

    def buckets(self) -> list[str]:
        """The names of all buckets."""
        from .session import client

        return [bucket["Name"] for bucket in client(self, "s3").list_buckets()["Buckets"]]

    def fill_in(self, fleet: dict[str, Any]) -> dict[str, Any]:
        """A copy of a fleet file with what this account has in place of roles, images and networks that it lacks."""
        from .account import fill_in

        return fill_in(self, fleet)

    def export(self, buckets: Iterable[str]) -> Path:
        """Copies all objects to PROJECT/local/BUCKET/KEY, unchanged ones skipped, and returns PROJECT/local."""
        from .export import export

        with locked(self.layout, "export.lock"):  # two monitors may end at once
            return export(self, buckets)

    def interrupt(self, instance_id: str | None = None, notice_seconds: float = 120) -> str:
        """Takes one machine away as EC2 takes spot machines, and returns its id at once.

        Its tasks get SIGTERM now; what is left after `notice_seconds` is killed with the machine.
        Raises LocalCloudError if no such machine runs.
        """
        answer = call(self.state, "interrupt", instance_id=instance_id, notice_seconds=notice_seconds)
        return str(answer["instance_id"])


def start(project: Path, *, containers: bool = False, region: str = "us-east-1", worker_root: Path) -> Cloud:
    """Finds the project's running cloud, or starts it.

    `worker_root` is the folder whose `worker/` is used where the project has none of its own. With `containers`,
    tasks that start from now on are containers, until the cloud is stopped; without, they stay what they are, at first
    processes: a command that lacks the flag must not change a run. Raises LocalCloudError with the reason in one line.
    """
    layout = layout_of(project)
    engine_variables = engine.require() if containers else {}
    with locked(layout):
        state = living(layout) or launch(layout, worker_root.resolve())
        if containers:
            call(state, "containers", engine=engine_variables)
    return Cloud(layout, state, region)


def stop(project: Path) -> bool:
    """Ends the project's cloud and all of its workers; results and logs stay. False if none ran."""
    layout = layout_of(project)
    if not layout.root.exists():
        return False
    with locked(layout):
        state = living(layout)
        if state:
            with contextlib.suppress(LocalCloudError):  # it may be gone before it has answered
                call(state, "stop")
            wait_until(lambda: not answers(state), 5)
        clear(layout)
        layout.state.unlink(missing_ok=True)
    return state is not None


def living(layout: Layout) -> State | None:
    """The state of a cloud that answers. A stale file's port may by now belong to another project's cloud."""
    state = read_state(layout)
    return state if state and answers(state) else None


def answers(state: State) -> bool:
    try:
        return bool(call(state, "ping")["pid"] == state.pid)
    except LocalCloudError:
        return False


def launch(layout: Layout, worker_root: Path) -> State:
    """Clears what an earlier cloud may have left, starts the daemon and waits until it answers."""
    clear(layout)
    layout.state.unlink(missing_ok=True)
    daemon = spawn(layout, worker_root)
    _daemons.append(daemon)

    def settled() -> bool:
        return daemon.poll() is not None or living(layout) is not None

    in_time = wait_until(settled, START_SECONDS)
    state = living(layout)
    if state:
        return state
    daemon.kill()
    why = f"ended with code {daemon.returncode}" if in_time else f"did not answer within {START_SECONDS} s"
    raise LocalCloudError(f"the local cloud {why}: {layout.last_log_line() or 'it said nothing'} (see {layout.log})")


def spawn(layout: Layout, worker_root: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment.pop(TASK_MARK, None)
    environment |= {CLOUD_MARK: layout.key, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with open(layout.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "localcloud", str(layout.project), str(worker_root)],
            cwd=layout.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def call(state: State, action: str, **arguments: object) -> dict[str, Any]:
    """Asks the daemon to do something. Raises LocalCloudError with its refusal, or if it does not answer."""
    request = urllib.request.Request(
        f"{state.moto}{CONTROL_PATH}{action}",
        data=json.dumps(arguments).encode(),
        headers={"Content-Type": "application/json", "X-Token": state.token},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalCloudError(f"the local cloud does not answer: {error}") from error
    if refusal := answer.get("error"):
        raise LocalCloudError(str(refusal))
    return answer
