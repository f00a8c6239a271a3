"""One download or upload of an object, and the limits that the transfers of all jobs share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from distributed_something.worker.transfer.s3_file import RemoteObject

MAX_WHOLE_BYTES = 8 * 1024 * 1024  # an object up to this size is one request, whose response awscrt holds in memory
MAX_UPLOAD_BYTES = 2 * 1024 * 1024  # for larger files, awscrt would save little, because boto3's cost is per request
# Of all jobs of a container together; the bytes are those of one direction. awscrt frees a buffer when its request has
# ended, so these limit the memory: with 48 MiB, the jobs of 16 slots need 80 MB more. MAX_UPLOADS must not exceed the
# connections of a client (see client.py).
MAX_SMALL_DOWNLOADS, MAX_UPLOADS, MAX_SMALL_BYTES = 32, 24, 16 * 1024 * 1024
MAX_LARGE_DOWNLOADS = 2
# Connections for large objects together; with more, awscrt needs more memory and is not faster here.
LARGE_CONNECTIONS = 6


class Transfer(Protocol):
    """A download or an upload. `size` is in bytes."""

    @property
    def address(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def is_large(self) -> bool: ...


@dataclass(frozen=True)
class Download:
    """An object, the file to which it is written, and the number of connections if the object is large."""

    path: Path
    remote: RemoteObject
    connections: int = LARGE_CONNECTIONS

    @property
    def address(self) -> str:
        return f"s3://{self.remote.bucket}/{self.remote.key}"

    @property
    def size(self) -> int:
        return self.remote.size

    @property
    def is_large(self) -> bool:
        """Whether the download takes several requests."""
        return self.remote.size > MAX_WHOLE_BYTES


@dataclass(frozen=True)
class Upload:
    """A file of at most MAX_UPLOAD_BYTES, its destination, and the result of `build_write_condition`."""

    path: Path
    bucket: str
    key: str
    size: int
    condition: Mapping[str, str] = field(hash=False)

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_large(self) -> bool:
        return False


@dataclass(frozen=True)
class SentObject:
    """What an upload wrote: the SHA-256 (hexadecimal) and the ETag. Both are None if S3's object is not the expected
    one, so that S3 refused to replace it."""

    sha256: str | None
    etag: str | None


def list_downloads(remotes: Mapping[Path, RemoteObject]) -> list[Download]:
    """Return the downloads of the objects whose ETags are known. Several large ones share the connections."""
    downloads = [Download(path, remote) for path, remote in remotes.items() if remote.etag]
    if sum(download.is_large for download in downloads) < MAX_LARGE_DOWNLOADS:
        return downloads
    return [replace(download, connections=LARGE_CONNECTIONS // MAX_LARGE_DOWNLOADS) for download in downloads]


@dataclass(frozen=True)
class TransferEvents:
    """Functions to call in another thread: `on_progress` with a number of bytes, `on_done` with an error or None."""

    on_progress: Callable[[int], None]
    on_done: Callable[[Exception | None], None]


class TransferLimits:
    """Counts the transfers under way. Threads share one object. `max_small` is the number that are not large."""

    def __init__(self, max_small: int) -> None:
        self._lock, self._max_small = threading.Lock(), max_small
        self._small = self._small_bytes = self._large = 0

    def try_start(self, transfer: Transfer) -> bool:
        """Count the transfer and return True, or return False if it must wait for others to end."""
        with self._lock:
            if transfer.is_large:
                if self._large >= MAX_LARGE_DOWNLOADS:
                    return False
                self._large += 1
                return True
            if self._small >= self._max_small or self._small_bytes + transfer.size > MAX_SMALL_BYTES:
                return False
            self._small += 1
            self._small_bytes += transfer.size
            return True

    def end(self, transfer: Transfer) -> None:
        """Stop counting a transfer that was started."""
        with self._lock:
            if transfer.is_large:
                self._large -= 1
            else:
                self._small -= 1
                self._small_bytes -= transfer.size
