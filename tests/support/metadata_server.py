"""EC2's instance metadata played on loopback, as strict about tokens as IMDSv2 is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN_HEADER, LIFE_HEADER = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
INSTANCE = "i-0123456789abcdef0"
PATHS = {"instance": "instance-id", "spot": "spot/instance-action", "rebalance": "events/recommendations/rebalance"}


class MetadataServer:
    """What a test sets, any thread or process may ask. `asked`: method and path of every request, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_EC2_METADATA_DISABLED": "false"}
        self.asked: list[str] = []
        self.lives: list[str] = []  # the seconds asked for each token
        self.token_status = 200
        self.late_tokens = 0  # so many requests for a token fail before one is given
        self.answers: list[tuple[int, bytes]] = []  # given to the next requests other than for a token, whatever asked
        self.token = "first=="
        self.texts: dict[str, str] = {}
        self.set("instance", INSTANCE)

    def set(self, name: str, text: str | None) -> None:
        """The text at one of PATHS; None: 404."""
        path = f"/latest/meta-data/{PATHS[name]}"
        if text is None:
            self.texts.pop(path, None)
        else:
            self.texts[path] = text

    def spot_notice(self, when: float, action: str = "terminate") -> None:
        """The machine goes at `when` (seconds since 1970)."""
        self.set("spot", json.dumps({"action": action, "time": utc(when)}))

    def rebalance(self, when: float) -> None:
        """A rebalance recommendation of `when` (seconds since 1970)."""
        self.set("rebalance", json.dumps({"noticeTime": utc(when)}))

    def forget_tokens(self) -> None:
        """Tokens given so far get 401."""
        self.token += "a"


def utc(seconds: float) -> str:
    """As EC2 writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def metadata_server() -> Iterator[MetadataServer]:
    """A server on a free port of loopback for as long as the test wants it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        server = MetadataServer(f"http://127.0.0.1:{http.server_port}")
        http.RequestHandlerClass = _handler(server)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _handler(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            server.asked.append(f"PUT {self.path}")
            life = self.headers.get(LIFE_HEADER, "")
            server.lives.append(life)
            good = self.path == "/latest/api/token" and life.isdecimal() and 1 <= int(life) <= 21_600
            late, server.late_tokens = server.late_tokens > 0, max(0, server.late_tokens - 1)
            status = 503 if late else server.token_status
            self._answer(status if good else 400, server.token.encode())

        def do_GET(self) -> None:
            server.asked.append(f"GET {self.path}")
            if server.answers:
                self._answer(*server.answers.pop(0))
            elif self.headers.get(TOKEN_HEADER) != server.token:
                self._answer(401, b"")
            elif self.path in server.texts:
                self._answer(200, server.texts[self.path].encode())
            else:
                self._answer(404, b"<html>404 - Not Found</html>")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("Location", f"{server.url}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
