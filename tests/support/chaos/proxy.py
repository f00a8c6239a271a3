"""A proxy between workers and an emulator. It injects faults like those of networks and a busy AWS.

The proxy reads each message completely before forwarding it, so that a fault occurs at a defined point: before the
request is processed, after it is processed, or in the middle of its response. A seeded generator draws each fault.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# Share of requests that get each fault, 7% in total (7.5% in S3). A worker makes up to eight attempts per request, so
# almost no request fails because of these faults. Longer failures come from `Faults.outage`.
SHARES = {
    "unavailable": 0.015,
    "throttled": 0.015,
    "slow": 0.015,
    "request cut": 0.008,
    "response cut": 0.008,
    "response lost": 0.008,
    "unanswered": 0.001,
}
# Faults of a server that is alive: it accepts the request and says nothing, or sends a byte now and then.
S3_SHARES = {"silent": 0.001, "trickle": 0.004}
FAULTY_SERVICES = {"s3", "sqs"}
SLOW_SECONDS = (0.2, 1.5)
UNANSWERED_SECONDS = 8  # then the connection is closed
SLOW_PIECES = 10
SILENT_SECONDS = 120  # then the connection is closed, unless the client has already closed it
TRICKLE_SECONDS, TRICKLE_PAUSE_SECONDS = 25, 1.0
EMULATOR_TIMEOUT_SECONDS = 60
LATE_SECONDS = 6  # a long poll takes 5 seconds
_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>'


@dataclass
class Message:
    """An HTTP request or response. `first_line` is the request line or the status line."""

    first_line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def head(self) -> bytes:
        """First line and headers, with the length of the current body."""
        headers = [(key, value) for key, value in self.headers if key.lower() not in _FRAMING_HEADERS]
        lines = [self.first_line, *(key + b": " + value for key, value in headers)]
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(self.body), b"", b""])

    @property
    def service(self) -> str:
        """The AWS service in the request's signature, such as `sqs` or `s3`."""
        parts = self.header(b"authorization").split(b",")[0].split(b"/")
        return parts[3].decode() if len(parts) == 5 else ""


_FRAMING_HEADERS = {b"content-length", b"transfer-encoding", b"connection", b"expect"}


@dataclass
class Faults:
    """Draws faults.

    `outage` contains the services for which all requests fail, and `silence` those that answer no request.
    """

    rng: random.Random
    on: bool = True
    unanswered_seconds: float = UNANSWERED_SECONDS
    outage: set[str] = field(default_factory=set)
    silence: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def draw(self, service: str) -> str:
        """Draw a fault for a request to this service. Return an empty string for no fault."""
        self.counts["requests"] += 1
        if service in self.silence:
            return self._count(f"{service} silence", "silent")
        if service in self.outage:
            return self._count(f"{service} outage", "unavailable")
        if not self.on or service not in FAULTY_SERVICES:
            return ""
        shares = SHARES | S3_SHARES if service == "s3" else SHARES
        kind = self.rng.choices([*shares, ""], [*shares.values(), 1 - sum(shares.values())])[0]
        return self._count(f"{service} {kind}", kind) if kind else ""

    def _count(self, name: str, kind: str) -> str:
        self.counts[name] += 1
        return kind


class Proxy:
    """Proxy that forwards requests to `target` (http://host:port). `receipts` contains the latest receipt handles."""

    def __init__(self, target: str, faults: Faults) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.faults = faults
        self.receipts: deque[str] = deque(maxlen=100)
        self.url = ""

    async def serve(self, started: threading.Event) -> None:
        """Listen on the loopback interface until `end` is called."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve_connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._ended.wait()
        server.close()

    def end(self) -> None:
        """Stop `serve`. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):  # clients may disconnect at any time; IncompleteReadError is an EOFError
                while await self._serve_request(reader, writer):
                    pass
        finally:
            writer.close()

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request. Return whether the connection stays open."""
        request = await _read_head(reader)
        fault = self.faults.draw(request.service)
        if request.header(b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "request cut":
            if length := int(request.header(b"content-length") or 0):
                await reader.read(length // 2 + 1)
            return False
        request.body = await _read_body(reader, request, to_end=False)
        if fault in ("unavailable", "throttled"):
            return await _send(writer, _build_error_response(request.service, fault), request)
        if fault == "silent":
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), SILENT_SECONDS)  # returns when the client closes the connection
            return False
        if fault == "unanswered":
            await asyncio.sleep(self.faults.unanswered_seconds)
            return False
        if fault == "slow":
            await asyncio.sleep(self.faults.rng.uniform(*SLOW_SECONDS))
        start_time = time.monotonic()
        response = await self._forward(request)
        if time.monotonic() - start_time > LATE_SECONDS:
            self.faults.counts["late responses from the emulator itself"] += 1
        if fault == "response lost":
            return False
        self._save_receipts(request, response)
        if fault == "response cut":
            writer.write(response.head + response.body[: len(response.body) // 2])
            await writer.drain()
            return False
        if fault == "trickle":
            return await _trickle(writer, response, request)
        return await _send(writer, response, request, SLOW_PIECES if fault == "slow" else 1)

    async def _forward(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request.head[:-2] + b"Connection: close\r\n\r\n" + request.body)
            await writer.drain()
            async with asyncio.timeout(EMULATOR_TIMEOUT_SECONDS):
                response = await _read_head(reader)
                if not _has_no_body(request, response):
                    response.body = await _read_body(reader, response, to_end=True)
            return response
        finally:
            writer.close()

    def _save_receipts(self, request: Message, response: Message) -> None:
        if request.header(b"x-amz-target").endswith(b".ReceiveMessage") and b"ReceiptHandle" in response.body:
            messages = json.loads(response.body).get("Messages") or []
            self.receipts.extend(message["ReceiptHandle"] for message in messages)


@contextmanager
def run_proxy(target: str, faults: Faults) -> Iterator[Proxy]:
    """Run a proxy in a thread while the block runs."""
    proxy, started = Proxy(target, faults), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(started)), daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join()


async def _read_head(reader: asyncio.StreamReader) -> Message:
    text = await reader.readuntil(b"\r\n\r\n")
    first_line, *lines = text[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return Message(first_line, [(key, value.strip()) for key, _, value in pairs])


async def _read_body(reader: asyncio.StreamReader, message: Message, *, to_end: bool) -> bytes:
    """Read a chunked body or one with a length. With `to_end`, read any other body until the connection is closed."""
    if message.header(b"transfer-encoding").lower() == b"chunked":
        return b"".join([chunk async for chunk in _read_chunks(reader)])
    length = message.header(b"content-length")
    if length:
        return await reader.readexactly(int(length))
    return await reader.read() if to_end else b""


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).partition(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # skip trailers


def _has_no_body(request: Message, response: Message) -> bool:
    return request.first_line.startswith(b"HEAD ") or response.first_line.split()[1] in (b"204", b"304")


async def _send(writer: asyncio.StreamWriter, response: Message, request: Message, pieces: int = 1) -> bool:
    """Send the response in pieces, with pauses between them. Return True, because the connection stays open."""
    if _has_no_body(request, response):  # keep Content-Length, which is the object's size in a response to HEAD
        headers = [(key, value) for key, value in response.headers if key.lower() != b"connection"]
        lines = [response.first_line, *(key + b": " + value for key, value in headers)]
        writer.write(b"\r\n".join([*lines, b"", b""]))
        await writer.drain()
        return True
    writer.write(response.head)
    step = len(response.body) // pieces + 1
    for start in range(0, len(response.body), step):
        writer.write(response.body[start : start + step])
        await writer.drain()
        if pieces > 1:
            await asyncio.sleep(SLOW_SECONDS[0] / 2)
    return True


async def _trickle(writer: asyncio.StreamWriter, response: Message, request: Message) -> bool:
    """Send the body a byte at a time for TRICKLE_SECONDS. Return False, because the connection is closed then."""
    if _has_no_body(request, response):
        return await _send(writer, response, request)
    writer.write(response.head)
    for byte in response.body[: round(TRICKLE_SECONDS / TRICKLE_PAUSE_SECONDS)]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(TRICKLE_PAUSE_SECONDS)
    return False


def _build_error_response(service: str, fault: str) -> Message:
    """Return the error response of a busy S3 (in XML) or SQS (in its JSON protocol)."""
    if service == "s3":
        code, text = (b"SlowDown", b"Reduce your request rate.") if fault == "throttled" else (
            b"ServiceUnavailable", b"Please try again.")  # fmt: skip
        return Message(
            b"HTTP/1.1 503 Service Unavailable", [(b"Content-Type", b"application/xml")], _XML % (code, text)
        )
    if fault == "throttled":
        error = {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Rate exceeded"}
        status_line = b"HTTP/1.1 400 Bad Request"
    else:
        error = {"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "Please try again."}
        status_line = b"HTTP/1.1 503 Service Unavailable"
    return Message(status_line, [(b"Content-Type", b"application/x-amz-json-1.0")], json.dumps(error).encode())
