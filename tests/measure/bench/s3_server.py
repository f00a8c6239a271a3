"""An S3 server on the loopback interface that lists and returns the objects of a large run.

The emulators would take many minutes to store a hundred thousand objects. This server builds each object when it is
read.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.large_run import ETAG, LargeRun

PAGE_KEYS = 1_000  # S3's limit for one listing
_ENTRY = (
    f"<Contents><Key>{{}}</Key><LastModified>2026-11-23T10:50:00.000Z</LastModified><ETag>{escape(ETAG)}</ETag>"
    "<Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


@contextmanager
def serve_run(run: LargeRun) -> Iterator[str]:
    """Serve the run's objects while the block runs. Yield the server's address."""

    class Handler(_ObjectHandler):
        build_object = staticmethod(run.build_object)
        keys = sorted(run.iter_keys())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _ObjectHandler(BaseHTTPRequestHandler):
    """Responds to ListObjectsV2 and GetObject, also with a range."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send a response's headers and body together
    keys: Sequence[str] = ()

    @staticmethod
    def build_object(key: str) -> bytes:
        raise NotImplementedError

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type" in (query := parse_qs(url.query)):
            self._send_body(200, self._list_objects(query))
            return
        body = self.build_object(unquote(url.path).split("/", 2)[2])
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            self._send_body(206, body[int(first) : int(last) + 1])
            return
        self._send_body(200, body)

    def _list_objects(self, query: dict[str, list[str]]) -> bytes:
        prefix = query["prefix"][0]
        token = query.get("continuation-token", [""])[0]
        first = bisect_right(self.keys, token) if token else bisect_left(self.keys, prefix)
        page = [key for key in self.keys[first : first + PAGE_KEYS] if key.startswith(prefix)]
        is_truncated = len(page) == PAGE_KEYS
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if is_truncated else ""
        entries = "".join(map(_ENTRY.format, page))
        return (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
        ).encode()

    def _send_body(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", ETAG)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
