"""The process that is the local cloud: it starts the emulators, opens the door, and plays until it is told to stop.

It also stops when its state file is gone or another's: a project folder that was deleted leaves no process behind.
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
from distributed_something.localcloud.client.cloud import LocalCloud
from distributed_something.localcloud.daemon.api import ControlAction, ControlEndpoint
from distributed_something.localcloud.daemon.cleanup_process import start_cleanup_process
from distributed_something.localcloud.emulators.start import MinistackServer, MotoServer, WsgiApp

if TYPE_CHECKING:
    from distributed_something.localcloud.play.simulator import CloudSimulator


TICK_SECONDS = 0.3

log = logging.getLogger("localcloud")


def run_daemon(project: Path, worker_root: Path) -> None:
    """Serves one project's cloud until it is stopped. Exits with 1, its last log line the reason, when it cannot."""
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
        CloudDaemon(layout, worker_root, ministack, stopping).serve()
    except LocalCloudError as error:
        sys.exit(str(error))
    finally:
        ministack.process.kill()
        assert cleanup.stdin
        cleanup.stdin.close()


class CloudDaemon:
    """The running cloud."""

    def __init__(
        self, layout: CloudLayout, worker_root: Path, ministack: MinistackServer, stopping: threading.Event
    ) -> None:
        self.layout = layout
        self.ministack = ministack
        self.stopping = stopping
        token = secrets.token_urlsafe(16)
        actions: dict[str, ControlAction] = {
            "ping": self.answer_ping,
            "containers": self.use_containers,
            "interrupt": self.interrupt,
            "stop": self.stop,
        }
        doors: dict[str, WsgiApp] = {CONTROL_PATH: ControlEndpoint(token, actions)}
        self.moto = MotoServer(doors)
        self.state = CloudState(os.getpid(), token, self.moto.url, ministack.url, layout.key)
        self.simulator = self._build_simulator(worker_root)
        self.moto.doors |= self._build_machine_apps()

    def _build_simulator(self, worker_root: Path) -> CloudSimulator:
        from distributed_something.localcloud.play.simulator import CloudSimulator  # moto takes a second to import

        of_task, of_function = (
            partial(environment, self.state.moto, self.state.ministack)
            for environment in (build_task_environment, build_function_environment)
        )
        return CloudSimulator(self.layout, worker_root, of_task, of_function)

    def _build_machine_apps(self) -> dict[str, WsgiApp]:
        from distributed_something.localcloud.daemon.ec2_metadata import MetadataEndpoint
        from distributed_something.localcloud.daemon.ecs_agent import AgentEndpoint

        return {
            AGENT_PATH: AgentEndpoint(self.simulator.find_task),
            METADATA_PATH: MetadataEndpoint(self.simulator.find_machine),
        }

    def serve(self) -> None:
        """Answers and plays until told to stop; then ends every worker."""
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
            log.info("the local cloud ends")

    def _tick(self) -> None:
        with self.moto.lock:
            try:
                ended = self.simulator.simulate_step(time.time())
            except Exception:  # the loop's outermost edge: one emulated resource that is odd must not end the cloud
                log.exception("a step of the local cloud failed; it goes on with the next")
                return
        if ended:
            threading.Thread(target=self._export_results, daemon=True).start()

    def _export_results(self) -> None:
        """What a run wrote that was watched by a schedule: no command is there to make files of it."""
        cloud = LocalCloud(self.layout, self.state, "us-east-1")
        try:
            cloud.export(cloud.list_bucket_names())
        except Exception:  # the thread's edge: `stop` may end the emulator under it
            log.exception("the results could not be copied")

    # what commands may ask

    def answer_ping(self) -> dict[str, Any]:
        return {"pid": self.state.pid}

    def use_containers(self, engine: dict[str, str]) -> None:
        self.simulator.use_containers(engine)

    def interrupt(self, instance_id: str | None, notice_seconds: float) -> dict[str, Any]:
        return {"instance_id": self.simulator.interrupt_machine(time.time(), instance_id, notice_seconds)}

    def stop(self) -> None:
        self.stopping.set()
