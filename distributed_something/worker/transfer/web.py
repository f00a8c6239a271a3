"""Downloads inputs from the web: `https://…` in a job file's `inputs`, such as a script or public data."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import urllib3
from botocore.httpsession import get_cert_path

from distributed_something.worker.transfer.retry import IncompleteTransfer
from distributed_something.worker.transfer.s3_file import CHUNK_BYTES, RemoteObject

WEB_TIMEOUT_SECONDS = 30.0  # the longest wait without receiving a byte
MAX_REDIRECTS = 5
_TRANSIENT_STATUSES = {408, 425, 429}  # HTTP statuses of temporary errors, in addition to 500 and above
_MISSING_STATUSES = {404, 410}


class WebRefusal(Exception):
    """Raised if the server returns an error that a retry would not change."""


class MissingWebFile(WebRefusal):
    """Raised if the server does not have the file."""


def fetch_web_file(url: str, path: Path, check: Callable[[], None]) -> RemoteObject:
    """Download the file at `url` to `path`. Redirects are followed.

    Raise IncompleteTransfer if the error may be temporary, MissingWebFile if the file does not exist, and WebRefusal if
    the server returns any other error.
    """
    response = _get_connection_pool().request("GET", url, preload_content=False)
    try:
        if response.status in _TRANSIENT_STATUSES or response.status >= 500:
            raise IncompleteTransfer(f"HTTP status {response.status}")
        if response.status != 200:
            kind = MissingWebFile if response.status in _MISSING_STATUSES else WebRefusal
            raise kind(f"HTTP status {response.status}")
        size = 0
        with path.open("wb") as file:
            for chunk in response.stream(CHUNK_BYTES):  # raises IncompleteRead, an HTTPError, if bytes are missing
                check()
                size += file.write(chunk)
        return RemoteObject("", url, size, response.headers.get("ETag", ""))
    finally:
        response.close()


@lru_cache(maxsize=1)
def _get_connection_pool() -> urllib3.PoolManager:
    """Return a pool that uses botocore's certificates, because the program's image may not contain any."""
    retries = urllib3.Retry(MAX_REDIRECTS, connect=0, read=0, status=0, other=0)
    return urllib3.PoolManager(ca_certs=get_cert_path(True), timeout=WEB_TIMEOUT_SECONDS, retries=retries)
