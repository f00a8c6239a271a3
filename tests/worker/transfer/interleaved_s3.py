"""An S3 in memory whose requests from several actors are carried out one at a time, in an order that the test chooses.

As in S3, an object's ETag depends only on its content, and conditions compare only ETags.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError


class ActorKilled(BaseException):
    """Raised in an actor instead of a request, as if its machine were lost."""


class MemoryS3:
    """The objects of all buckets, keyed by bucket and key."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {}

    def put_object(
        self, Bucket: str, Key: str, Body: Any, Metadata: dict[str, str] | None = None, IfMatch: str = "",
        IfNoneMatch: str = "", **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        existing = self.objects.get((Bucket, Key))
        if IfMatch and existing is None:
            raise build_error("NoSuchKey", 404)
        if (IfNoneMatch and existing) or (IfMatch and existing and compute_etag(existing[0]) != IfMatch):
            raise build_error("PreconditionFailed", 412)
        content = Body if isinstance(Body, bytes) else Body.read()
        self.objects[Bucket, Key] = (content, Metadata or {})
        return {"ETag": compute_etag(content)}

    def head_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        if (Bucket, Key) not in self.objects:
            raise build_error("404", 404)
        content, metadata = self.objects[Bucket, Key]
        return {"ContentLength": len(content), "ETag": compute_etag(content), "Metadata": metadata}

    def get_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        if (Bucket, Key) not in self.objects:
            raise build_error("NoSuchKey", 404)
        content = self.objects[Bucket, Key][0]
        return {"ETag": compute_etag(content), "Body": io.BytesIO(content)}


class Actor:
    """One client of a MemoryS3. Its requests wait for their turns."""

    def __init__(self, s3: MemoryS3) -> None:
        self._s3 = s3
        self._turn, self._stop = threading.Semaphore(0), threading.Semaphore(0)
        self.requests_until_killed: int | None = None
        self.is_finished = False

    def start(self, run: Callable[[], None]) -> None:
        """Run the actor up to its first request."""

        def run_and_finish() -> None:
            try:
                run()
            finally:
                self.is_finished = True
                self._stop.release()

        threading.Thread(target=run_and_finish).start()
        self._stop.acquire()

    def take_turn(self) -> None:
        """Carry out one request, and run the actor up to its next request or its end."""
        self._turn.release()
        self._stop.acquire()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        request = getattr(self._s3, name)

        def wait_and_send(**arguments: Any) -> Any:
            if self.requests_until_killed == 0:
                self.requests_until_killed = None
                raise ActorKilled
            if self.requests_until_killed is not None:
                self.requests_until_killed -= 1
            self._stop.release()
            self._turn.acquire()
            return request(**arguments)

        return wait_and_send


def run_in_turns(actors: list[Actor], runs: list[Callable[[], None]], turns: Iterable[int]) -> None:
    """Run the actors until all have finished. `turns` says which of the remaining actors is next."""
    for actor, run in zip(actors, runs, strict=True):
        actor.start(run)
    order = iter(turns)
    while remaining := [actor for actor in actors if not actor.is_finished]:
        remaining[next(order, 0) % len(remaining)].take_turn()


def compute_etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def build_error(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Request")  # type: ignore[arg-type]
