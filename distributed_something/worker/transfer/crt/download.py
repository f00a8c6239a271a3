"""One download of an object, and the limits that the downloads of all jobs share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from distributed_something.worker.transfer.s3_file import RemoteObject

MAX_WHOLE_BYTES = 16 * 1024 * 1024  # an object up to this size is one request, whose response is buffered
# Of all jobs of a container together. Buffers are freed when a response has been written, so these limit the memory.
MAX_SMALL_DOWNLOADS, MAX_SMALL_BYTES = 32, 48 * 1024 * 1024
MAX_LARGE_DOWNLOADS = 2
# Connections for large objects together; with more, awscrt needs more memory and is not faster here.
LARGE_CONNECTIONS = 6


@dataclass(frozen=True)
class Download:
    """An object, the file to which it is written, and the number of connections if the object is large."""

    path: Path
    remote: RemoteObject
    connections: int = LARGE_CONNECTIONS

    @property
    def is_large(self) -> bool:
        """Whether the download takes several requests."""
        return self.remote.size > MAX_WHOLE_BYTES


def list_downloads(remotes: Mapping[Path, RemoteObject]) -> list[Download]:
    """Return the downloads of the objects whose ETags are known. Several large ones share the connections."""
    downloads = [Download(path, remote) for path, remote in remotes.items() if remote.etag]
    if sum(download.is_large for download in downloads) < MAX_LARGE_DOWNLOADS:
        return downloads
    return [replace(download, connections=LARGE_CONNECTIONS // MAX_LARGE_DOWNLOADS) for download in downloads]


@dataclass(frozen=True)
class DownloadEvents:
    """Functions to call in another thread: `on_progress` with a number of bytes, `on_done` with an error or None."""

    on_progress: Callable[[int], None]
    on_done: Callable[[Exception | None], None]


class DownloadLimits:
    """Counts the downloads under way. Threads share one object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._small = self._small_bytes = self._large = 0

    def try_start(self, download: Download) -> bool:
        """Count the download and return True, or return False if it must wait for others to end."""
        with self._lock:
            if download.is_large:
                if self._large >= MAX_LARGE_DOWNLOADS:
                    return False
                self._large += 1
                return True
            if self._small >= MAX_SMALL_DOWNLOADS or self._small_bytes + download.remote.size > MAX_SMALL_BYTES:
                return False
            self._small += 1
            self._small_bytes += download.remote.size
            return True

    def end(self, download: Download) -> None:
        """Stop counting a download that was started."""
        with self._lock:
            if download.is_large:
                self._large -= 1
            else:
                self._small -= 1
                self._small_bytes -= download.remote.size
