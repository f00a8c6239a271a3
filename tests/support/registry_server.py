"""An image registry on this computer that answers as Docker Hub, GHCR, quay, and others do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-for-everyone"


def build_errors(code: str) -> dict[str, Any]:
    """Return the body of a registry's error."""
    return {"errors": [{"code": code, "message": "…", "detail": None}]}


@dataclass
class FakeRegistry:
    """A registry. `documents` maps a path below `/v2/` to a manifest, an image config, or the target of a redirect.

    `refusals` maps such a path, or "token", to a status and a body. `asks_for_token`: whether it gives nothing without
    a token; `challenge_scheme`: which login it then asks for, and `token_url` where, if not "". `requests` lists all
    paths, and `accepted` the Accept headers.
    """

    documents: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asks_for_token: bool = True
    challenge_scheme: str = "Bearer"
    with_scope: bool = True
    token_key: str = "token"
    token_url: str = ""
    host: str = ""
    requests: list[str] = field(default_factory=list)
    token_queries: list[dict[str, list[str]]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)  # of the requests below /storage/
    accepted: set[str] = field(default_factory=set)

    def answer(self, path: str, headers: Any) -> tuple[int, dict[str, str], Any]:
        """Return the status, headers, and body for a request."""
        parts = urlsplit(path)
        self.requests.append(parts.path)
        if parts.path == "/token":
            self.token_queries.append(parse_qs(parts.query))
            status, body = self.refusals.get("token", (200, {self.token_key: TOKEN}))
            return status, {}, body
        if parts.path.startswith("/storage/"):
            self.authorizations.append(headers.get("Authorization", ""))
            return 200, {}, self.documents[parts.path]
        name = parts.path.removeprefix("/v2/")
        self.accepted.update(headers.get("Accept", "").split(", "))
        if self.asks_for_token and headers.get("Authorization") != f"Bearer {TOKEN}":
            scope = f',scope="repository:{name.partition("/manifests/")[0]}:pull"' if self.with_scope else ""
            realm = self.token_url or f"http://{self.host}/token"
            challenge = f'{self.challenge_scheme} realm="{realm}",service="registry.example"{scope}'
            return 401, {"WWW-Authenticate": challenge}, build_errors("UNAUTHORIZED")
        if name in self.refusals:
            status, body = self.refusals[name]
            return status, {}, body
        if name not in self.documents:
            return 404, {}, build_errors("MANIFEST_UNKNOWN")
        document = self.documents[name]
        return (307, {"Location": document}, {}) if isinstance(document, str) else (200, {}, document)


@contextmanager
def serve_registry(registry: FakeRegistry) -> Iterator[FakeRegistry]:
    """Serve the registry at its `host` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = registry.answer(self.path, self.headers)
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
