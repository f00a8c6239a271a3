"""Emulated EC2 instance metadata on the loopback interface, as strict about tokens as IMDSv2."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN_HEADER, TTL_HEADER = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
INSTANCE = "i-0123456789abcdef0"
PATHS = {"instance": "instance-id", "spot": "spot/instance-action", "rebalance": "events/recommendations/rebalance"}


class MetadataServer:
    """Metadata server whose responses a test sets. `requests` lists each request's method and path, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_EC2_METADATA_DISABLED": "false"}
        self.requests: list[str] = []
        self.token_ttls: list[str] = []  # the requested lifetime of each token, in seconds
        self.token_status = 200
        self.failing_token_requests = 0  # number of token requests that fail before one succeeds
        self.responses: list[tuple[int, bytes]] = []  # responses to the next GET requests, regardless of their paths
        self.token = "first=="
        self.texts: dict[str, str] = {}
        self.set_text("instance", INSTANCE)

    def set_text(self, name: str, text: str | None) -> None:
        """Set the text at one of PATHS. Without a text, requests get status 404."""
        path = f"/latest/meta-data/{PATHS[name]}"
        if text is None:
            self.texts.pop(path, None)
        else:
            self.texts[path] = text

    def set_spot_notice(self, when: float, action: str = "terminate") -> None:
        """Announce a spot interruption at `when`, in seconds since the epoch."""
        self.set_text("spot", json.dumps({"action": action, "time": format_utc(when)}))

    def set_rebalance_recommendation(self, when: float) -> None:
        """Set a rebalance recommendation with the time `when`, in seconds since the epoch."""
        self.set_text("rebalance", json.dumps({"noticeTime": format_utc(when)}))

    def forget_tokens(self) -> None:
        """Invalidate all tokens, so that requests with them get status 401."""
        self.token += "a"


def format_utc(seconds: float) -> str:
    """Return a time in EC2's format."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def run_metadata_server() -> Iterator[MetadataServer]:
    """Run a server on a free port of the loopback interface while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        server = MetadataServer(f"http://127.0.0.1:{http.server_port}")
        http.RequestHandlerClass = _build_handler(server)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _build_handler(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            server.requests.append(f"PUT {self.path}")
            lifetime = self.headers.get(TTL_HEADER, "")
            server.token_ttls.append(lifetime)
            is_valid = self.path == "/latest/api/token" and lifetime.isdecimal() and 1 <= int(lifetime) <= 21_600
            is_late, server.failing_token_requests = (
                server.failing_token_requests > 0,
                max(0, server.failing_token_requests - 1),
            )
            status = 503 if is_late else server.token_status
            self._send_body(status if is_valid else 400, server.token.encode())

        def do_GET(self) -> None:
            server.requests.append(f"GET {self.path}")
            if server.responses:
                self._send_body(*server.responses.pop(0))
            elif self.headers.get(TOKEN_HEADER) != server.token:
                self._send_body(401, b"")
            elif self.path in server.texts:
                self._send_body(200, server.texts[self.path].encode())
            else:
                self._send_body(404, b"<html>404 - Not Found</html>")

        def _send_body(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("Location", f"{server.url}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
