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
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.localcloud.base.container_engine import check_engine
from distributed_something.localcloud.base.endpoints import (
    CONTROL_PATH,
    build_command_environment,
    build_worker_environment,
)
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import (
    CloudLayout,
    CloudState,
    build_layout,
    lock_cloud,
    read_cloud_state,
)
from distributed_something.localcloud.base.processes import CLOUD_MARK, TASK_MARK, wait_for_condition
from distributed_something.localcloud.base.remaining_processes import delete_remaining_resources

START_TIMEOUT_SECONDS = 60
"""A cold disk can make the first import of the emulators slow; a warm start takes two."""

IMPORT_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds `distributed_something`

_daemons: list[subprocess.Popen[bytes]] = []  # kept, or Python warns that a child still runs


@dataclass(frozen=True)
class LocalCloud:
    """A running local cloud, as one command uses it."""

    layout: CloudLayout
    state: CloudState
    region: str

    def environment(self) -> dict[str, str]:
        """Variables to set for boto3, here or in a child: the cloud's addresses, and nothing of the user's AWS."""
        config_file = self.layout.root / "aws-config"
        draft = config_file.with_name(f"{config_file.name}.{uuid.uuid4().hex}")
        draft.write_text("[default]\n")
        draft.replace(config_file)  # other commands may be reading it
        return build_command_environment(self.state.moto, self.state.ministack, self.region, config_file, os.environ)

    def build_worker_environment(self) -> dict[str, str]:
        """Variables for a worker that starts with an empty environment: the cloud's addresses and credentials."""
        return build_worker_environment(self.state.moto, self.state.ministack, self.region)

    def ensure_buckets(self, names: Iterable[str]) -> None:
        """Create the buckets that do not exist yet."""
        from distributed_something.localcloud.client.fill_in import ensure_buckets

        ensure_buckets(self.build_client("s3"), self.region, names)

    def build_client(self, service: str, *, connections: int = 10) -> Any:
        """Return a boto3 client of this cloud. boto3 is slow to import, so it is imported when it is needed."""
        from distributed_something.localcloud.client.connection import build_client

        return build_client(self.state, self.region, service, connections=connections)

    def list_bucket_names(self) -> list[str]:
        """The names of all buckets."""
        return [bucket["Name"] for bucket in self.build_client("s3").list_buckets()["Buckets"]]

    def adapt_fleet_file(self, fleet: dict[str, Any]) -> dict[str, Any]:
        """A copy of a fleet file with what this account has in place of roles, images and networks that it lacks."""
        from distributed_something.localcloud.client.fill_in import adapt_fleet_file

        return adapt_fleet_file(self.build_client, fleet)

    def export(self, buckets: Iterable[str]) -> Path:
        """Copies all objects to PROJECT/local/BUCKET/KEY, unchanged ones skipped, and returns PROJECT/local."""
        from distributed_something.localcloud.client.export import DOWNLOAD_THREADS, export_buckets

        s3 = self.build_client("s3", connections=DOWNLOAD_THREADS)
        with lock_cloud(self.layout, "export.lock"):  # two monitors may end at once
            return export_buckets(s3, self.layout, buckets)

    def interrupt(self, instance_id: str | None = None, notice_seconds: float = 120) -> str:
        """Takes one machine away as EC2 takes spot machines, and returns its id at once.

        Its tasks get SIGTERM now; what is left after `notice_seconds` is killed with the machine.
        Raises LocalCloudError if no such machine runs.
        """
        answer = call_daemon(self.state, "interrupt", instance_id=instance_id, notice_seconds=notice_seconds)
        return str(answer["instance_id"])


def start_local_cloud(
    project: Path, *, containers: bool = False, region: str = "us-east-1", worker_root: Path
) -> LocalCloud:
    """Finds the project's running cloud, or starts it.

    `worker_root` is the folder whose `worker/` is used where the project has none of its own. With `containers`,
    tasks that start from now on are containers, until the cloud is stopped; without, they stay what they are, at first
    processes: a command that lacks the flag must not change a run. Raises LocalCloudError with the reason in one line.
    """
    layout = build_layout(project)
    engine_variables = check_engine() if containers else {}
    with lock_cloud(layout):
        state = find_live_state(layout) or launch_cloud(layout, worker_root.resolve())
        if containers:
            call_daemon(state, "containers", engine=engine_variables)
    return LocalCloud(layout, state, region)


def stop_local_cloud(project: Path) -> bool:
    """Ends the project's cloud and all of its workers; results and logs stay. False if none ran."""
    layout = build_layout(project)
    if not layout.root.exists():
        return False
    with lock_cloud(layout):
        state = find_live_state(layout)
        if state:
            with contextlib.suppress(LocalCloudError):  # it may be gone before it has answered
                call_daemon(state, "stop")
            wait_for_condition(lambda: not is_cloud_answering(state), 5)
        delete_remaining_resources(layout)
        layout.state.unlink(missing_ok=True)
    return state is not None


def find_live_state(layout: CloudLayout) -> CloudState | None:
    """The state of a cloud that answers. A stale file's port may by now belong to another project's cloud."""
    state = read_cloud_state(layout)
    return state if state and is_cloud_answering(state) else None


def is_cloud_answering(state: CloudState) -> bool:
    try:
        return bool(call_daemon(state, "ping")["pid"] == state.pid)
    except LocalCloudError:
        return False


def launch_cloud(layout: CloudLayout, worker_root: Path) -> CloudState:
    """Clears what an earlier cloud may have left, starts the daemon and waits until it answers."""
    delete_remaining_resources(layout)
    layout.state.unlink(missing_ok=True)
    shutil.rmtree(layout.tasks, ignore_errors=True)
    layout.make_folders()
    daemon = spawn_daemon(layout, worker_root)
    _daemons.append(daemon)

    def settled() -> bool:
        return daemon.poll() is not None or find_live_state(layout) is not None

    in_time = wait_for_condition(settled, START_TIMEOUT_SECONDS)
    state = find_live_state(layout)
    if state:
        return state
    daemon.kill()
    why = f"ended with code {daemon.returncode}" if in_time else f"did not answer within {START_TIMEOUT_SECONDS} s"
    raise LocalCloudError(f"the local cloud {why}: {layout.last_log_line() or 'it said nothing'} (see {layout.log})")


def spawn_daemon(layout: CloudLayout, worker_root: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment.pop(TASK_MARK, None)
    environment |= {CLOUD_MARK: layout.key, "PYTHONPATH": str(IMPORT_ROOT)}
    with open(layout.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "distributed_something.localcloud", str(layout.project), str(worker_root)],
            cwd=layout.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def call_daemon(state: CloudState, action: str, **arguments: object) -> dict[str, Any]:
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
