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

from . import undertaker
from .client import CONTROL_PATH, Cloud
from .control import Action, Control
from .emulators import Ministack, Moto, WsgiApp
from .endpoints import AGENT_PATH, METADATA_PATH, function_environment, task_environment
from .errors import LocalCloudError
from .layout import Layout, State, layout_of, read_state, write_state

if TYPE_CHECKING:
    from .player import Player

TICK_SECONDS = 0.3

log = logging.getLogger("localcloud")


def run(project: Path, worker_root: Path) -> None:
    """Serves one project's cloud until it is stopped. Exits with 1, its last log line the reason, when it cannot."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    layout = layout_of(project)
    layout.make()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    hired = undertaker.hire(layout)
    ministack = Ministack(layout)
    try:
        Daemon(layout, worker_root, ministack, stopping).serve()
    except LocalCloudError as error:
        sys.exit(str(error))
    finally:
        ministack.process.kill()
        assert hired.stdin
        hired.stdin.close()


class Daemon:
    """The running cloud."""

    def __init__(self, layout: Layout, worker_root: Path, ministack: Ministack, stopping: threading.Event) -> None:
        self.layout = layout
        self.ministack = ministack
        self.stopping = stopping
        token = secrets.token_urlsafe(16)
        actions: dict[str, Action] = {
            "ping": self.ping,
            "containers": self.use_containers,
            "interrupt": self.interrupt,
            "stop": self.stop,
        }
        doors: dict[str, WsgiApp] = {CONTROL_PATH: Control(token, actions)}
        self.moto = Moto(doors)
        self.state = State(os.getpid(), token, self.moto.url, ministack.url)
        self.player = self._player(worker_root)
        self.moto.doors |= self._doors_of_machines()

    def _player(self, worker_root: Path) -> Player:
        from .player import Player  # moto takes a second to import, while ministack starts

        of_task, of_function = (
            partial(environment, self.state.moto, self.state.ministack)
            for environment in (task_environment, function_environment)
        )
        return Player(self.layout, worker_root, of_task, of_function)

    def _doors_of_machines(self) -> dict[str, WsgiApp]:
        from .agent import Agent
        from .metadata import Metadata

        return {AGENT_PATH: Agent(self.player.task), METADATA_PATH: Metadata(self.player.machine)}

    def serve(self) -> None:
        """Answers and plays until told to stop; then ends every worker."""
        self.ministack.wait()
        self.moto.start()
        write_state(self.layout, self.state)
        log.info("the local cloud of %s is ready", self.layout.project)
        try:
            while not self.stopping.wait(TICK_SECONDS) and read_state(self.layout) == self.state:
                self.ministack.require_alive()
                self._tick()
        finally:
            with self.moto.lock:
                self.player.end()
            log.info("the local cloud ends")

    def _tick(self) -> None:
        with self.moto.lock:
            try:
                ended = self.player.tick(time.time())
            except Exception:  # the loop's outermost edge: one emulated resource that is odd must not end the cloud
                log.exception("a step of the local cloud failed; it goes on with the next")
                return
        if ended:
            threading.Thread(target=self._show_results, daemon=True).start()

    def _show_results(self) -> None:
        """What a run wrote that was watched by a schedule: no command is there to make files of it."""
        cloud = Cloud(self.layout, self.state, "us-east-1")
        try:
            cloud.export(cloud.buckets())
        except Exception:  # the thread's edge: `stop` may end the emulator under it
            log.exception("the results could not be copied")

    # what commands may ask

    def ping(self) -> dict[str, Any]:
        return {"pid": self.state.pid}

    def use_containers(self, engine: dict[str, str]) -> None:
        self.player.use_containers(engine)

    def interrupt(self, instance_id: str | None, notice_seconds: float) -> dict[str, Any]:
        return {"instance_id": self.player.interrupt(time.time(), instance_id, notice_seconds)}

    def stop(self) -> None:
        self.stopping.set()
