"""An S3 server on the loopback interface that can behave as no emulator does: hang, cut responses off, send a wrong
checksum, or refuse one."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit


@dataclass(frozen=True)
class SeenRequest:
    """A request for an object. `is_crt`: whether awscrt sent it."""

    key: str
    headers: dict[str, str]
    method: str = "GET"

    @property
    def is_crt(self) -> bool:
        return "crt" in self.headers.get("user-agent", "").lower()


@dataclass
class ObjectServer:
    """The objects of one bucket, and how the server responds to a request for one.

    `misbehave` may return one of "hang" (until `released` is set), "cut", "short", "wrong checksum", "damaged" (other
    bytes, and the right headers), "chunked" (without a length), "other version" (as if there were no condition), or an
    HTTP status; for an upload, one of "hang", "hold" (store and respond once `released` is set), "cut" (after it was
    stored), or an HTTP status. `listed_etags` are the ETags in listings, if they differ. `checksums`: the headers that
    say an object's checksum, if they differ. HEAD requests are in `heads`, and all others in `requests`.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    listed_etags: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, dict[str, str]] = field(default_factory=dict)
    misbehave: Callable[[SeenRequest], Any] = lambda request: None
    requests: list[SeenRequest] = field(default_factory=list)
    heads: list[SeenRequest] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def list_crt_keys(self) -> list[str]:
        """Return the keys that awscrt asked for, in order."""
        return [request.key for request in self.requests if request.is_crt]

    def list_boto3_keys(self) -> list[str]:
        """Return the keys that boto3 asked for, in order."""
        return [request.key for request in self.requests if not request.is_crt]


def build_crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4)).decode()


def build_etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@contextmanager
def run_object_server() -> Iterator[ObjectServer]:
    """Serve objects while the block runs."""
    state = ObjectServer()

    class Handler(_ObjectHandler):
        server_state = state

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.released.set()
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    request_queue_size = 128  # clients connect many times at once


class _ObjectHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server_state: ObjectServer

    def do_GET(self) -> None:
        url, state = urlsplit(self.path), self.server_state
        if "list-type" in (query := parse_qs(url.query)):
            self._send(200, self._list_objects(query["prefix"][0]), {})
            return
        request, fault = self._record_request()
        if isinstance(fault, int):
            self._send_error(fault, "Fault")
        elif request.key not in state.objects:
            self._send_error(404, "NoSuchKey")
        elif not self._is_version(request) and fault != "other version":
            self._send_error(412, "PreconditionFailed")
        else:
            self._send_object(state.objects[request.key], request, fault)

    def do_HEAD(self) -> None:
        state, request = self.server_state, self._parse_request()
        state.heads.append(request)
        fault = state.misbehave(request)
        status = fault if isinstance(fault, int) else 200 if self._is_version(request) else 412
        content = state.objects[request.key]
        usual = {"x-amz-checksum-crc32": build_crc32(content), "x-amz-checksum-type": "FULL_OBJECT"}
        self.send_response_only(status)
        for name, value in {"ETag": build_etag(content), **state.checksums.get(request.key, usual)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_PUT(self) -> None:
        state, content = self.server_state, self.rfile.read(int(self.headers["Content-Length"]))
        request, fault = self._record_request()
        if fault in ("hang", "hold"):
            state.released.wait()
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        etag = build_etag(state.objects[request.key]) if request.key in state.objects else None
        wanted = request.headers.get("if-match", etag if "if-none-match" not in request.headers else None)
        if fault == "hang":
            self.close_connection = True
        elif isinstance(fault, int):
            self._send_error(fault, "Fault")
        elif request.headers["x-amz-checksum-sha256"] != checksum:
            self._send_error(400, "BadDigest")
        elif etag != wanted:
            self._send_error(412, "PreconditionFailed")
        else:
            state.objects[request.key] = content
            if fault == "cut":
                self.close_connection = True
            else:
                self._send(200, b"", {"ETag": build_etag(content)})

    def _parse_request(self) -> SeenRequest:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return SeenRequest(unquote(urlsplit(self.path).path).split("/", 2)[2], headers, self.command)

    def _record_request(self) -> tuple[SeenRequest, object]:
        request = self._parse_request()
        self.server_state.requests.append(request)
        return request, self.server_state.misbehave(request)

    def _is_version(self, request: SeenRequest) -> bool:
        etag = build_etag(self.server_state.objects[request.key])
        return request.headers.get("if-match", etag) == etag

    def _send_object(self, content: bytes, request: SeenRequest, fault: object) -> None:
        headers, status, body = {"ETag": build_etag(content)}, 200, content
        if wanted := request.headers.get("range"):
            first, last = (int(text) for text in wanted.removeprefix("bytes=").split("-"))
            body, status = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
        else:
            usual = {"x-amz-checksum-crc32": build_crc32(content + b"x" * (fault == "wrong checksum"))}
            headers |= self.server_state.checksums.get(request.key, usual)
        if fault == "damaged":
            body = bytes(len(body))
        self._send(status, body, headers, fault)

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: object = None) -> None:
        self.send_response_only(status)
        if fault == "short":
            body = body[: len(body) // 2]
            headers.pop("x-amz-checksum-crc32", None)
        if fault == "chunked":
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if fault in ("cut", "hang"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "hang":
                self.server_state.released.wait()
            self.close_connection = True
            return
        self.wfile.write(body)

    def _send_error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(), {})

    def _list_objects(self, prefix: str) -> bytes:
        state = self.server_state
        entries = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>2026-11-23T10:50:00.000Z</LastModified>"
            f"<ETag>{escape(state.listed_etags.get(key, build_etag(content)))}</ETag>"
            f"<Size>{len(content)}</Size></Contents>"
            for key, content in sorted(state.objects.items())
            if key.startswith(prefix)
        )
        return (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
            f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        ).encode()

    def log_message(self, format: str, *args: object) -> None:
        pass
