"""The daemon: it starts the emulators, accepts commands, and advances the simulation until it is stopped.

It also stops when its state file is deleted or replaced, so that deleting a project folder leaves no process running.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.localcloud.base.endpoints import (
    AGENT_PATH,
    CONTROL_PATH,
    METADATA_PATH,
    build_function_environment,
    build_task_environment,
)
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import (
    CloudLayout,
    CloudState,
    build_layout,
    read_cloud_state,
    write_cloud_state,
)
from distributed_something.localcloud.base.mode import is_strict
from distributed_something.localcloud.client.cloud import LocalCloud
from distributed_something.localcloud.daemon.api import ControlAction, ControlEndpoint
from distributed_something.localcloud.daemon.cleanup_process import start_cleanup_process
from distributed_something.localcloud.emulators.start import MinistackServer, MotoServer, WsgiApp

if TYPE_CHECKING:
    from distributed_something.localcloud.play.simulator import CloudSimulator


TICK_SECONDS = 0.3

log = logging.getLogger("localcloud")


def run_daemon(project: Path, default_worker: Path) -> None:
    """Run one project's local cloud until it is stopped. On failure, print the reason as the last line and exit with 1.

    `default_worker` is the worker folder that is used if the project does not have its own.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    layout = build_layout(project)
    layout.make_folders()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    cleanup = start_cleanup_process(layout)
    ministack = MinistackServer(layout)
    try:
        CloudDaemon(layout, default_worker, ministack, stopping).serve()
    except LocalCloudError as error:
        sys.exit(str(error))
    finally:
        ministack.process.kill()
        assert cleanup.stdin
        cleanup.stdin.close()


class CloudDaemon:
    """The running local cloud: emulators, simulator, and the actions that commands can request."""

    def __init__(
        self, layout: CloudLayout, default_worker: Path, ministack: MinistackServer, stopping: threading.Event
    ) -> None:
        self.layout = layout
        self.ministack = ministack
        self.stopping = stopping
        token = secrets.token_urlsafe(16)
        actions: dict[str, ControlAction] = {
            "ping": self.describe_process,
            "containers": self.use_containers,
            "interrupt": self.interrupt,
            "regions": self.list_regions,
            "stop": self.stop,
        }
        apps: dict[str, WsgiApp] = {CONTROL_PATH: ControlEndpoint(token, actions)}
        self.moto = MotoServer(apps)
        self.state = CloudState(os.getpid(), token, self.moto.url, ministack.url, layout.key, str(layout.project))
        self.simulator = self._build_simulator(default_worker)
        self.moto.apps |= self._build_machine_apps()

    def _build_simulator(self, default_worker: Path) -> CloudSimulator:
        from distributed_something.localcloud.client.connection import build_client
        from distributed_something.localcloud.play.simulator import CloudSimulator  # moto takes a second to import
        from distributed_something.localcloud.play.task_logs import CloudWatchTaskLogs

        task_logs = CloudWatchTaskLogs(self.layout, lambda region: build_client(self.state, region, "logs"))
        task_environment, function_environment = (
            partial(builder, self.state.moto, self.state.ministack)
            for builder in (build_task_environment, build_function_environment)
        )
        return CloudSimulator(self.layout, default_worker, task_environment, function_environment, task_logs)

    def _build_machine_apps(self) -> dict[str, WsgiApp]:
        from distributed_something.localcloud.daemon.ec2_metadata import MetadataEndpoint
        from distributed_something.localcloud.daemon.ecs_agent import AgentEndpoint

        return {
            AGENT_PATH: AgentEndpoint(self.simulator.find_task),
            METADATA_PATH: MetadataEndpoint(self.simulator.find_machine),
        }

    def serve(self) -> None:
        """Serve requests and advance the simulation until the daemon is stopped; then kill all workers."""
        self.ministack.wait_until_ready()
        self.moto.start()
        write_cloud_state(self.layout, self.state)
        log.info("the local cloud of %s is ready", self.layout.project)
        try:
            while not self.stopping.wait(TICK_SECONDS) and read_cloud_state(self.layout) == self.state:
                self.ministack.check_alive()
                self._tick()
        finally:
            with self.moto.lock:
                self.simulator.kill_all()
            if not self.stopping.is_set() and read_cloud_state(self.layout) is None:
                log.info("the folder %s was deleted, moved, or renamed", self.layout.root)
            log.info("the local cloud has stopped")

    def _tick(self) -> None:
        with self.moto.lock:
            try:
                ended = self.simulator.simulate_step(time.time())
            except Exception:  # one unexpected emulated resource must not stop the local cloud
                log.exception("a simulation step failed; the local cloud continues with the next step")
                return
        if ended:
            threading.Thread(target=self._export_results, daemon=True).start()

    def _export_results(self) -> None:
        """Export all buckets after a schedule ends, because no command is running that could export the results."""
        cloud = LocalCloud(self.layout, self.state, "us-east-1")
        try:
            cloud.export_buckets(cloud.list_bucket_names(), log.warning)
        except (BotoCoreError, ClientError, LocalCloudError, OSError) as error:  # `stop` may end the emulator meanwhile
            log.warning("the results could not be exported: %s", error)

    # actions that commands can request

    def describe_process(self) -> dict[str, Any]:
        return {"pid": self.state.pid, "containers": self.simulator.has_containers, "strict": is_strict()}

    def list_regions(self) -> dict[str, Any]:
        return {"regions": self.simulator.list_regions()}

    def use_containers(self, engine: dict[str, str]) -> None:
        self.simulator.use_containers(engine)

    def interrupt(self, instance_id: str | None, notice_seconds: float) -> dict[str, Any]:
        return {"instance_id": self.simulator.interrupt_machine(instance_id, notice_seconds, time.time())}

    def stop(self) -> None:
        self.stopping.set()
