"""The two emulators, started on free ports of loopback.

ministack is a process of its own: it serves the traffic of all workers, and its crash is told from the daemon's. Moto
lives in the daemon, because what it lacks is added by reaching into its backends; one lock keeps its request threads
and the simulation of machines apart.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

from distributed_something.localcloud.base.endpoints import ACCOUNT_ID
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import wait_for_condition
from distributed_something.localcloud.emulators.faults import Fault, FaultGenerator

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_SECONDS = 30
HEALTH_PATH = "/_ministack/health"

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class MinistackServer:
    """Queue, buckets, logs and metrics. Objects survive a restart as files below the cloud's folder; queues do not."""

    def __init__(self, layout: CloudLayout) -> None:
        self.url = f"http://{LOOPBACK}:{find_free_port()}"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "distributed_something.localcloud.emulators.ministack_server"],
            env=self.build_environment(layout.root),
        )

    def build_environment(self, root: Path) -> dict[str, str]:
        """Without a Docker socket: ministack would remove every ministack's containers on this computer."""
        return {
            **os.environ,
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "GATEWAY_PORT": self.url.rpartition(":")[2],
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(root / "s3"),
            "STATE_DIR": str(root / "ministack"),
            "TMPDIR": str(root / "tmp"),
            "DOCKER_HOST": f"unix://{root}/no-docker.sock",
            "LOG_LEVEL": "WARNING",
            "IOT_MTLS_ENABLED": "0",  # it would listen on a fixed port of every interface
            "SFTP_ENABLED": "0",
        }

    def wait_until_ready(self) -> None:
        """Raises LocalCloudError if it ends instead, or is not ready in time."""
        if not wait_for_condition(lambda: self.process.poll() is not None or self.is_ready(), READY_TIMEOUT_SECONDS):
            raise LocalCloudError(f"ministack is not ready after {READY_TIMEOUT_SECONDS} s")
        self.check_alive()

    def is_ready(self) -> bool:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(self.url + HEALTH_PATH, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise LocalCloudError(f"ministack, which plays queue and bucket, ended with code {self.process.returncode}")


def find_free_port() -> int:
    """A port that nobody listens on. Another program may still take it first: then ministack says so and ends."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class MotoServer:
    """Moto's server with doors beside it: paths that begin as `doors` say go there, all others to moto."""

    def __init__(self, doors: Mapping[str, WsgiApp]) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

        self.lock = threading.RLock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self.doors = dict(doors)
        self._faults = FaultGenerator()
        self._server: BaseWSGIServer = make_server(
            LOOPBACK, 0, self._serve_request, threaded=True, request_handler=MotoRequestHandler
        )
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve_request(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        door = next((app for path, app in self.doors.items() if environ["PATH_INFO"].startswith(path)), None)
        if door is None and self._faults.draw_fault() is not Fault.NONE:
            status, content_type, body = self._faults.build_refusal(is_json="HTTP_X_AMZ_TARGET" in environ)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} Fault", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
            return [body]
        with self.lock:
            return list((door or self._app)(environ, start_response))
