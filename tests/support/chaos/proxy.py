"""A proxy between workers and an emulator that does to requests what networks and a busy AWS do to them.

Each message is read whole before it is sent on, so that a fault falls at a known place: before the request was done,
after it, or in the middle of its answer. What happens to the next request is drawn from a seeded generator.
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

# The share of requests that each fault befalls. One in fifteen in all: a worker whose calls are tried eight times
# loses almost none of them to these, but to what goes on for longer, which `Faults.outage` is.
SHARES = {
    "unavailable": 0.015,
    "throttled": 0.015,
    "slow": 0.015,
    "request cut": 0.008,
    "answer cut": 0.008,
    "answer lost": 0.008,
    "unanswered": 0.001,
}
BEFALLEN = {"s3", "sqs"}
SLOW_SECONDS = (0.2, 1.5)
UNANSWERED_SECONDS = 8  # then the connection is closed
SLOW_PIECES = 10
UPSTREAM_SECONDS = 60
PATIENCE_SECONDS = 6  # a long poll takes 5
_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>'


@dataclass
class Message:
    """A request or an answer of HTTP."""

    first: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def head(self) -> bytes:
        """First line and headers, with the length of the body that is there."""
        kept = [(key, value) for key, value in self.headers if key.lower() not in _FRAMING]
        lines = [self.first, *(key + b": " + value for key, value in kept)]
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(self.body), b"", b""])

    @property
    def service(self) -> str:
        """Whose request it is, as its signature tells: `sqs`, `s3`, …"""
        parts = self.header(b"authorization").split(b",")[0].split(b"/")
        return parts[3].decode() if len(parts) == 5 else ""


_FRAMING = {b"content-length", b"transfer-encoding", b"connection", b"expect"}


@dataclass
class Faults:
    """Decides what happens to each request. `outage` names services that refuse every one."""

    rng: random.Random
    on: bool = True
    unanswered_seconds: float = UNANSWERED_SECONDS
    outage: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def draw(self, service: str) -> str:
        """The next fault, or nothing."""
        self.counts["requests"] += 1
        if service in self.outage:
            return self._count(f"{service} outage", "unavailable")
        if not self.on or service not in BEFALLEN:
            return ""
        kind = self.rng.choices([*SHARES, ""], [*SHARES.values(), 1 - sum(SHARES.values())])[0]
        return self._count(f"{service} {kind}", kind) if kind else ""

    def _count(self, name: str, kind: str) -> str:
        self.counts[name] += 1
        return kind


class Proxy:
    """Hands requests to `target` (http://host:port). `receipts` are the latest that workers were given."""

    def __init__(self, target: str, faults: Faults) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.faults = faults
        self.receipts: deque[str] = deque(maxlen=100)
        self.url = ""

    async def serve(self, started: threading.Event) -> None:
        """Listens on loopback until `end`."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._ended.wait()
        server.close()

    def end(self) -> None:
        """May be called from another thread."""
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):  # a client may end at any time; IncompleteReadError is an EOFError
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        request = await _head(reader)
        fault = self.faults.draw(request.service)
        if request.header(b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "request cut":
            if length := int(request.header(b"content-length") or 0):
                await reader.read(length // 2 + 1)
            return False
        request.body = await _body(reader, request, to_end=False)
        if fault in ("unavailable", "throttled"):
            return await _send(writer, _refusal(request.service, fault), request)
        if fault == "unanswered":
            await asyncio.sleep(self.faults.unanswered_seconds)
            return False
        if fault == "slow":
            await asyncio.sleep(self.faults.rng.uniform(*SLOW_SECONDS))
        began = time.monotonic()
        answer = await self._forward(request)
        if time.monotonic() - began > PATIENCE_SECONDS:
            self.faults.counts["answered late by the emulator itself"] += 1
        if fault == "answer lost":
            return False
        self._remember(request, answer)
        if fault == "answer cut":
            writer.write(answer.head + answer.body[: len(answer.body) // 2])
            await writer.drain()
            return False
        return await _send(writer, answer, request, SLOW_PIECES if fault == "slow" else 1)

    async def _forward(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request.head[:-2] + b"Connection: close\r\n\r\n" + request.body)
            await writer.drain()
            async with asyncio.timeout(UPSTREAM_SECONDS):
                answer = await _head(reader)
                if not _without_body(request, answer):
                    answer.body = await _body(reader, answer, to_end=True)
            return answer
        finally:
            writer.close()

    def _remember(self, request: Message, answer: Message) -> None:
        if request.header(b"x-amz-target").endswith(b".ReceiveMessage") and b"ReceiptHandle" in answer.body:
            found = json.loads(answer.body).get("Messages") or []
            self.receipts.extend(message["ReceiptHandle"] for message in found)


@contextmanager
def running(target: str, faults: Faults) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    proxy, started = Proxy(target, faults), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(started)), daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join()


async def _head(reader: asyncio.StreamReader) -> Message:
    text = await reader.readuntil(b"\r\n\r\n")
    first, *lines = text[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return Message(first, [(key, value.strip()) for key, _, value in pairs])


async def _body(reader: asyncio.StreamReader, message: Message, *, to_end: bool) -> bytes:
    """The body by its length, by its chunks, or, `to_end`, until the other side closes."""
    if message.header(b"transfer-encoding").lower() == b"chunked":
        return b"".join([chunk async for chunk in _chunks(reader)])
    length = message.header(b"content-length")
    if length:
        return await reader.readexactly(int(length))
    return await reader.read() if to_end else b""


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).partition(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers


def _without_body(request: Message, answer: Message) -> bool:
    return request.first.startswith(b"HEAD ") or answer.first.split()[1] in (b"204", b"304")


async def _send(writer: asyncio.StreamWriter, answer: Message, request: Message, pieces: int = 1) -> bool:
    """Sends the answer, in `pieces` with pauses between. Always True: the connection goes on."""
    if _without_body(request, answer):  # the length that HEAD tells is the object's
        lines = [answer.first, *(key + b": " + value for key, value in answer.headers if key.lower() != b"connection")]
        writer.write(b"\r\n".join([*lines, b"", b""]))
        await writer.drain()
        return True
    writer.write(answer.head)
    step = len(answer.body) // pieces + 1
    for start in range(0, len(answer.body), step):
        writer.write(answer.body[start : start + step])
        await writer.drain()
        if pieces > 1:
            await asyncio.sleep(SLOW_SECONDS[0] / 2)
    return True


def _refusal(service: str, fault: str) -> Message:
    """How S3 (XML) and SQS (its JSON protocol) say that they are busy."""
    if service == "s3":
        code, text = (b"SlowDown", b"Reduce your request rate.") if fault == "throttled" else (
            b"ServiceUnavailable", b"Please try again.")  # fmt: skip
        return Message(
            b"HTTP/1.1 503 Service Unavailable", [(b"Content-Type", b"application/xml")], _XML % (code, text)
        )
    if fault == "throttled":
        kind = {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Rate exceeded"}
        first = b"HTTP/1.1 400 Bad Request"
    else:
        kind = {"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "Please try again."}
        first = b"HTTP/1.1 503 Service Unavailable"
    return Message(first, [(b"Content-Type", b"application/x-amz-json-1.0")], json.dumps(kind).encode())
