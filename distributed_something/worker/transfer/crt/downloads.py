"""Fetches many objects at once through awscrt.

The job's own thread starts the requests and waits for them, so `check` runs before each request and several times a
second while requests are under way. A request that is canceled has ended before `fetch_objects` returns, so nothing is
written to a job's folder after the job was given up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any

from distributed_something.worker.job.upload_flags import S3Arguments
from distributed_something.worker.transfer.crt.download import Download, DownloadEvents, DownloadLimits
from distributed_something.worker.transfer.crt.places import BucketPlace, find_bucket_place

CHECK_SECONDS = 0.2  # how often `check` is called while requests are under way
# awscrt ends a request without any bytes after about 30 s. This ends one whose bytes arrive too slowly; boto3 reads
# such a response as it arrives.
STALL_SECONDS = 60.0
WAIT_SECONDS = 5.0  # for the downloads of other jobs; then boto3 fetches the objects
CANCEL_SECONDS = 5.0  # a canceled request normally ends at once
MAX_FAILURES = 3  # of one job; then boto3 fetches its other objects, because S3 or the network has a problem
log = logging.getLogger("worker")


class CrtDownloads:
    """The downloads of all jobs of this process. `clients` is a CrtClients object."""

    def __init__(self, s3: Any, clients: Any, now: Callable[[], float] = time.monotonic) -> None:
        self._s3, self._clients, self._now = s3, clients, now
        self._limits, self._lock = DownloadLimits(), threading.Lock()
        self._places: dict[str, BucketPlace | None] = {}

    def fetch_objects(
        self, downloads: Iterable[Download], arguments: S3Arguments, check: Callable[[], None]
    ) -> list[Download]:
        """Fetch what awscrt can fetch, and return the rest, whose files may exist but are incomplete.

        `arguments` are those of boto3's requests. `check` can end this by raising an exception.
        """
        downloads = list(downloads)
        unknown_arguments = arguments.keys() - {"RequestPayer"}
        if not downloads or unknown_arguments or not self._clients.can_download():
            return downloads
        payer = str(arguments.get("RequestPayer", ""))

        def start(download: Download, events: DownloadEvents) -> Any:
            place = self._find_place(download.remote.bucket)
            return place and self._clients.start_download(place, download, payer, events)

        failed = _Fetch(downloads, start, self._limits, check, self._now).run()
        for bucket in {download.remote.bucket for download in failed}:
            self._forget_place(bucket)
        return failed

    def _find_place(self, bucket: str) -> BucketPlace | None:
        """Return where the requests for a bucket are sent, or None if only boto3 can send them."""
        with self._lock:
            if bucket not in self._places:
                self._places[bucket] = find_bucket_place(self._s3, bucket)
            return self._places[bucket]

    def _forget_place(self, bucket: str) -> None:
        """Find the place again for the next request, because boto3 may learn that the bucket is in another region."""
        with self._lock:
            self._places.pop(bucket, None)


def build_downloads(s3: Any, session: Any) -> CrtDownloads | None:
    """Return the downloads through awscrt, or None if it is not installed. `session` is the botocore session."""
    if find_spec("awscrt") is None:
        return None
    from distributed_something.worker.transfer.crt.client import CrtClients

    return CrtDownloads(s3, CrtClients(session))


@dataclass
class _ActiveDownload:
    """A download under way, its request, and when and how many bytes have arrived.

    The number shows that a response was complete. The file's size does not, because each part has its own position.
    """

    download: Download
    last_progress: float
    received: int = 0
    request: Any = None


class _Fetch:
    """One call of `fetch_objects`. `start` sends a download's request, or returns None if only boto3 can send it."""

    def __init__(
        self, downloads: list[Download], start: Callable[[Download, DownloadEvents], Any], limits: DownloadLimits,
        check: Callable[[], None], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._start, self._limits, self._check, self._now = start, limits, check, now
        self._waiting, self._failed = deque(downloads), list[Download]()
        self._active: dict[int, _ActiveDownload] = {}
        self._done: SimpleQueue[tuple[int, Exception | None]] = SimpleQueue()
        self._started, self._last_active = 0, now()

    def run(self) -> list[Download]:
        """Fetch the objects and return those that could not be fetched."""
        try:
            while True:
                self._start_downloads()
                if not self._active and not self._waiting:
                    return self._failed
                self._await_end(CHECK_SECONDS)
                self._check()
                self._cancel_stalled()
        finally:
            self._cancel_all()

    def _start_downloads(self) -> None:
        """Start as many downloads as the limits permit. Leave the rest to boto3 after failures or a long wait."""
        while self._waiting and len(self._failed) < MAX_FAILURES:
            self._check()
            if not self._limits.try_start(self._waiting[0]):
                break
            self._start_download(self._waiting.popleft())
        if self._active:
            self._last_active = self._now()
        if len(self._failed) >= MAX_FAILURES or self._now() - self._last_active >= WAIT_SECONDS:
            self._failed += self._waiting
            self._waiting.clear()

    def _start_download(self, download: Download) -> None:
        self._started = number = self._started + 1
        active = self._active[number] = _ActiveDownload(download, self._now())

        def record_progress(size: int) -> None:
            active.received += size
            active.last_progress = self._now()

        events = DownloadEvents(record_progress, lambda error: self._done.put((number, error)))
        try:
            active.request = self._start(download, events)
        except Exception as error:  # any problem is boto3's to repeat and to explain
            self._record_end(number, error)
        else:
            if active.request is None:
                self._record_end(number, ValueError("only boto3 can send this request"))

    def _await_end(self, seconds: float) -> None:
        """Wait until a download has ended, for `seconds` at most, and record all that have ended."""
        try:
            self._record_end(*self._done.get(timeout=seconds))
            while True:
                self._record_end(*self._done.get_nowait())
        except Empty:
            return

    def _record_end(self, number: int, error: Exception | None) -> None:
        active = self._active.pop(number)
        download = active.download
        self._limits.end(download)
        if error is None and active.received == download.remote.size:
            return
        log.info("s3://%s/%s: %s; trying again", download.remote.bucket, download.remote.key, error or "incomplete")
        self._failed.append(download)

    def _cancel_stalled(self) -> None:
        """Cancel the downloads whose bytes do not arrive. They then end with an error."""
        for active in self._active.values():
            if self._now() - active.last_progress >= STALL_SECONDS:
                active.request.cancel()

    def _cancel_all(self) -> None:
        """Cancel the downloads under way and wait until they have ended, because they write to the job's folder."""
        for active in self._active.values():
            active.request.cancel()
        end = time.monotonic() + CANCEL_SECONDS
        while self._active and time.monotonic() < end:
            self._await_end(CHECK_SECONDS)
        for active in self._active.values():
            log.warning("the download of %s does not end", active.download.remote.key)
            self._limits.end(active.download)
