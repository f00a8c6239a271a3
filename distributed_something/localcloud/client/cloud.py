"""The local cloud's interface for commands: start or find it, use it, and stop it.

The local cloud keeps running after the command that started it, so that `setup`, `submitJob`, `startCluster`, and
`monitor` use the same one. It is a daemon in its own session. A state file contains its addresses, but only a response
from the daemon proves that it is running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.localcloud.base.container_engine import check_engine
from distributed_something.localcloud.base.endpoints import (
    build_certificate_variables,
    build_command_environment,
    build_worker_environment,
)
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.health import is_ministack_ready
from distributed_something.localcloud.base.layout import (
    IMPORT_ROOT,
    CloudLayout,
    CloudState,
    build_layout,
    lock_cloud,
)
from distributed_something.localcloud.base.mode import check_mode, describe_other_mode, is_strict
from distributed_something.localcloud.base.processes import (
    CLOUD_MARK,
    TASK_MARK,
    ignore_interrupts,
    wait_for_condition,
)
from distributed_something.localcloud.base.remaining_processes import delete_remaining_resources
from distributed_something.localcloud.client.daemon_calls import call_daemon, find_live_state, is_cloud_running
from distributed_something.localcloud.client.former_cloud import check_folder_is_free, describe_former_cloud

if TYPE_CHECKING:
    from boto3 import Session

    from distributed_something.localcloud.client.job_queues import JobQueue

START_TIMEOUT_SECONDS = 60
"""A start usually takes two seconds, but the first import of the emulators from a cold disk can be slow."""

_daemons: list[subprocess.Popen[bytes]] = []  # without a reference, Python warns that a child is still running


@dataclass(frozen=True)
class LocalCloud:
    """A running local cloud, used by one command.

    If this command started it, `notice` may say what became of the project's former local cloud and its jobs;
    otherwise, that it is not as strict as LOCALCLOUD_AWS says.
    """

    layout: CloudLayout
    state: CloudState
    region: str
    notice: str | None = None

    def build_environment(self) -> dict[str, str]:
        """Return the variables that make boto3 in another process use the local cloud.

        They override all of the user's AWS settings.
        """
        config_file = self.layout.root / "aws-config"
        draft = config_file.with_name(f"{config_file.name}.{uuid.uuid4().hex}")
        draft.write_text("[default]\n")
        draft.replace(config_file)  # atomic, because other commands may be reading the file
        return build_command_environment(self.state.moto, self.state.ministack, self.region, config_file, os.environ)

    def build_worker_environment(self) -> dict[str, str]:
        """Return the variables for a worker whose environment is otherwise empty: endpoints and dummy credentials."""
        return build_worker_environment(self.state.moto, self.state.ministack, self.region)

    @property
    def is_running(self) -> bool:
        """Whether this local cloud still runs. If it was stopped and started again, it is another one."""
        return find_live_state(self.layout) == self.state

    def ensure_buckets(self, names: Iterable[str]) -> None:
        """Create the buckets that do not exist yet."""
        from distributed_something.localcloud.client.fill_in import ensure_buckets

        ensure_buckets(self.build_client("s3"), self.region, names)

    def build_session(self) -> Session:
        """Return a boto3 session whose clients use the local cloud, whatever the user's AWS settings are."""
        from distributed_something.localcloud.client.connection import LocalSession

        return LocalSession(self.state, self.region)

    def build_client(self, service: str, *, connections: int = 10) -> Any:
        """Return a boto3 client for the local cloud. The first call imports boto3, which is slow."""
        from distributed_something.localcloud.client.connection import build_client

        return build_client(self.state, self.region, service, connections=connections)

    def list_bucket_names(self) -> list[str]:
        """Return the names of all buckets."""
        return [bucket["Name"] for bucket in self.build_client("s3").list_buckets()["Buckets"]]

    def adapt_fleet_file(self, fleet: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a fleet file with unknown roles, images, and networks replaced by existing ones."""
        from distributed_something.localcloud.client.fill_in import adapt_fleet_file

        return adapt_fleet_file(self.build_client, fleet)

    def ensure_topic(self, arn: str) -> str:
        """Create a topic of the same name, and return its ARN, which has the account of the local cloud."""
        return str(self.build_client("sns").create_topic(Name=arn.rpartition(":")[2])["TopicArn"])

    def export_buckets(self, buckets: Iterable[str], warn: Callable[[str], None] = lambda text: None) -> Path:
        """Copy all new and changed objects in the buckets to PROJECT/local/BUCKET/KEY. Return PROJECT/local.

        `warn` is called with a line about each object that cannot be copied.
        """
        self._export_buckets(buckets, warn)
        return self.layout.results

    def _export_buckets(self, buckets: Iterable[str], warn: Callable[[str], None]) -> int:
        from distributed_something.localcloud.client.export import DOWNLOAD_THREADS, export_buckets

        s3 = self.build_client("s3", connections=DOWNLOAD_THREADS)
        with lock_cloud(self.layout, "export.lock"):  # two monitors may end at the same time
            return export_buckets(s3, self.layout, buckets, warn)

    def export_all_buckets(self, warn: Callable[[str], None]) -> list[Path]:
        """Copy all new and changed objects to files, as `export_buckets` does.

        Return the folders of all buckets; none if there was nothing to copy. Raise LocalCloudError if that fails.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            names = self.list_bucket_names()
            return [self.layout.results / name for name in names] if self._export_buckets(names, warn) else []
        except (OSError, BotoCoreError, ClientError) as error:
            raise LocalCloudError(f"the results could not be copied to files: {error}") from error

    def list_job_queues(self) -> list[JobQueue]:
        """Return the queues of all apps and regions with their jobs. Raise LocalCloudError if an emulator fails."""
        from distributed_something.localcloud.client.connection import build_client
        from distributed_something.localcloud.client.job_queues import list_job_queues

        regions = call_daemon(self.state, "regions")["regions"]
        if not is_ministack_ready(self.state.ministack):  # a client would try for minutes
            raise LocalCloudError("ministack, which emulates queues and buckets, does not respond")
        return list_job_queues(partial(build_client, self.state), regions)

    @property
    def has_containers(self) -> bool:
        """Whether new tasks run as containers. Raise LocalCloudError if the daemon does not respond."""
        return call_daemon(self.state, "ping").get("containers") is True

    def interrupt_machine(self, instance_id: str | None = None, notice_seconds: float = 120) -> str:
        """Interrupt one machine as EC2 interrupts spot machines. Return its instance ID without waiting.

        Without `instance_id`, interrupt the machine with the most tasks. Its tasks get SIGTERM immediately; tasks that
        are still running after `notice_seconds` are killed with the machine. Raise LocalCloudError if there is no such
        machine.
        """
        response = call_daemon(self.state, "interrupt", instance_id=instance_id, notice_seconds=notice_seconds)
        return str(response["instance_id"])


def start_local_cloud(
    project: Path, *, containers: bool = False, region: str = "us-east-1", default_worker: Path
) -> LocalCloud:
    """Return the project's running local cloud; start it if necessary.

    If the project does not have its own `worker/` folder, `default_worker` is used. Tasks run as processes until this
    function is called with `containers`; from then on, new tasks run as containers until the local cloud is stopped. A
    call without `containers` does not switch back, because a command without that option must not change a run. Raise
    LocalCloudError if the local cloud or the container engine does not start or respond.
    """
    check_mode()
    layout = build_layout(project)
    engine_variables = check_engine() if containers else {}
    with lock_cloud(layout):
        notice, state = None, find_live_state(layout)
        if state is None:
            check_folder_is_free(layout)
            notice = describe_former_cloud(layout.project)
            state = launch_cloud(layout, default_worker.resolve())
        elif is_strict():
            notice = describe_other_mode(call_daemon(state, "ping").get("strict") is True)
        if containers:
            call_daemon(state, "containers", engine=engine_variables)
    return LocalCloud(layout, state, region, notice)


def find_local_cloud(project: Path, region: str = "us-east-1") -> LocalCloud | None:
    """Return the project's local cloud if it is running, and None otherwise."""
    layout = build_layout(project)
    state = find_live_state(layout)
    return LocalCloud(layout, state, region) if state else None


def has_local_cloud(project: Path) -> bool:
    """Return whether the project has had a local cloud. Its buckets still exist if it is not running now."""
    return build_layout(project).root.exists()


def stop_local_cloud(project: Path) -> bool:
    """Stop the project's local cloud and all its workers; keep results and logs. Return whether one was running.

    Ctrl-C has no effect while the processes end, so that either all or none of them keep running. Raise LocalCloudError
    if another project's running local cloud uses the same folder.
    """
    layout = build_layout(project)
    if not layout.root.exists():
        return False
    with lock_cloud(layout):
        state = find_live_state(layout)
        if state is None:
            check_folder_is_free(layout)
        with ignore_interrupts():
            if state:
                with contextlib.suppress(LocalCloudError):  # the daemon may exit before it responds
                    call_daemon(state, "stop")
                wait_for_condition(lambda: not is_cloud_running(state), 5)
            delete_remaining_resources(layout)
            layout.state.unlink(missing_ok=True)
    return state is not None


def launch_cloud(layout: CloudLayout, default_worker: Path) -> CloudState:
    """Remove what an earlier daemon may have left behind, start a daemon, and wait until it responds."""
    delete_remaining_resources(layout)
    shutil.rmtree(layout.tasks, ignore_errors=True)
    layout.make_folders()
    daemon = spawn_daemon(layout, default_worker)
    _daemons.append(daemon)

    def has_started_or_ended() -> bool:
        return daemon.poll() is not None or find_live_state(layout) is not None

    in_time = wait_for_condition(has_started_or_ended, START_TIMEOUT_SECONDS)
    state = find_live_state(layout)
    if state:
        return state
    daemon.kill()
    failure = f"exited with code {daemon.returncode}" if in_time else f"did not start in {START_TIMEOUT_SECONDS} s"
    reason = layout.read_last_log_line() or "its log is empty"
    raise LocalCloudError(f"the local cloud {failure}: {reason} (see {layout.log})")


def spawn_daemon(layout: CloudLayout, default_worker: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment.pop(TASK_MARK, None)
    environment |= build_certificate_variables(os.environ)
    environment |= {CLOUD_MARK: layout.key, "PYTHONPATH": str(IMPORT_ROOT)}
    with open(layout.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "distributed_something.localcloud", str(layout.project), str(default_worker)],
            cwd=layout.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
