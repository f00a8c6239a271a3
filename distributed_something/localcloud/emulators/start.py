"""Starts the two emulators on free ports of the loopback interface.

Ministack runs in its own process, because it serves the traffic of all workers and because its crashes can then be
distinguished from the daemon's. Moto runs inside the daemon, because the simulation reads and changes its backends. A
lock prevents moto's request threads and the simulation from running at the same time.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

from distributed_something.localcloud.base.endpoints import ACCOUNT_ID
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.health import is_ministack_ready
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.mode import is_strict
from distributed_something.localcloud.base.processes import wait_for_condition
from distributed_something.localcloud.emulators.aws_requests import Answer, parse_request
from distributed_something.localcloud.emulators.faults import Fault, FaultGenerator
from distributed_something.localcloud.emulators.strict import StrictAnswers

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_SECONDS = 30

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class MinistackServer:
    """The process that emulates queues, buckets, logs, and metrics.

    Objects are stored as files in the local cloud's folder and survive a restart; queues do not.
    """

    def __init__(self, layout: CloudLayout) -> None:
        self.url = f"http://{LOOPBACK}:{find_free_port()}"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "distributed_something.localcloud.emulators.ministack_server"],
            cwd=layout.root,
            env=self.build_environment(layout.root),
        )

    def build_environment(self, root: Path) -> dict[str, str]:
        """Return ministack's environment variables.

        The data folders are relative to the working directory, which stays the local cloud's folder if the project is
        moved. With absolute paths, results of the last moment would be written to the old folder, which would reappear.

        DOCKER_HOST points to a socket that does not exist; otherwise, ministack would remove the containers of all
        ministack processes on this computer.
        """
        return {
            **os.environ,
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "GATEWAY_PORT": self.url.rpartition(":")[2],
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "S3_PERSIST": "1",
            "S3_DATA_DIR": "s3",
            "STATE_DIR": "ministack",
            "TMPDIR": str(root / "tmp"),
            "DOCKER_HOST": f"unix://{root}/no-docker.sock",
            "LOG_LEVEL": "WARNING",
            "IOT_MTLS_ENABLED": "0",  # if enabled, it listens on a fixed port on all interfaces
            "SFTP_ENABLED": "0",
        }

    def wait_until_ready(self) -> None:
        """Wait until ministack responds. Raise LocalCloudError if it exits or does not respond in time."""
        if not wait_for_condition(lambda: self.process.poll() is not None or self.is_ready(), READY_TIMEOUT_SECONDS):
            raise LocalCloudError(f"ministack did not respond within {READY_TIMEOUT_SECONDS} s")
        self.check_alive()

    def is_ready(self) -> bool:
        return is_ministack_ready(self.url)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            code = self.process.returncode
            raise LocalCloudError(f"ministack, which emulates queues and buckets, exited with code {code}")


def find_free_port() -> int:
    """Return a port that no program listens on.

    If another program takes the port before ministack does, ministack logs the error and exits.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class MotoServer:
    """Moto's server with additional WSGI applications. `apps` maps path prefixes to them; moto serves the rest."""

    def __init__(self, apps: Mapping[str, WsgiApp]) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

        self.lock = threading.RLock()
        self._moto_app = DomainDispatcherApplication(create_backend_app)
        self.apps = dict(apps)
        self._faults = FaultGenerator()
        self._strict = StrictAnswers() if is_strict() else None
        self._server: BaseWSGIServer = make_server(
            LOOPBACK, 0, self._serve_request, threaded=True, request_handler=MotoRequestHandler
        )
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve_request(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        app = next((app for path, app in self.apps.items() if environ["PATH_INFO"].startswith(path)), None)
        if app is None and self._faults.draw_fault() is not Fault.NONE:
            status, content_type, body = self._faults.build_error_response(is_json="HTTP_X_AMZ_TARGET" in environ)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} Fault", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
            return [body]
        with self.lock:
            if app is None and self._strict is not None:
                return self._serve_strictly(self._strict, environ, start_response)
            return list((app or self._moto_app)(environ, start_response))

    def _serve_strictly(self, strict: StrictAnswers, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request as AWS would where AWS is difficult."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name[:5] == "HTTP_"}
        request = parse_request(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), headers, body
        )
        forwarded = strict.intercept(request, time.time()) if request else None
        if isinstance(forwarded, Answer):
            answer = forwarded
        else:
            answer = self._ask_moto(environ, forwarded.body if forwarded else body)
            if request and forwarded:
                answer = strict.complete(request, forwarded, answer, time.time())
        lines = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {http.client.responses.get(answer.status, '')}", lines)
        return [answer.body]

    def _ask_moto(self, environ: dict[str, Any], body: bytes) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def note_start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            started.append((status, headers))

        changed = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        chunks = list(self._moto_app(changed, note_start))
        status, headers = started[-1]
        kept = tuple((name, value) for name, value in headers if name.lower() != "content-length")
        return Answer(int(status.split()[0]), kept, b"".join(chunks))
