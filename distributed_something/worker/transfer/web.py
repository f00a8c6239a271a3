"""An input from the web: `https://…` in a job file's `inputs`, such as a script or a public reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import urllib3
from botocore.httpsession import get_cert_path

from distributed_something.worker.transfer.retry import IncompleteTransfer
from distributed_something.worker.transfer.s3_file import CHUNK_BYTES, RemoteObject

WEB_TIMEOUT_SECONDS = 30.0  # without a byte
MAX_REDIRECTS = 5
_TRANSIENT_STATUSES = {408, 425, 429}  # HTTP: this may go better in a while; and so may what begins with 5
_MISSING_STATUSES = {404, 410}


class WebRefusal(Exception):
    """The server gives the file to nobody who asks like this, from here."""


class MissingWebFile(WebRefusal):
    """The server says that it has no such file."""


def fetch_web_file(url: str, path: Path, check: Callable[[], None]) -> RemoteObject:
    """Fetches what is at `url`, whole; redirects are followed. Raises IncompleteTransfer, WebRefusal or MissingWebFile
    for what is not that file."""
    answer = _get_connection_pool().request("GET", url, preload_content=False)
    try:
        if answer.status in _TRANSIENT_STATUSES or answer.status >= 500:
            raise IncompleteTransfer(f"the server answered {answer.status}")
        if answer.status != 200:
            kind = MissingWebFile if answer.status in _MISSING_STATUSES else WebRefusal
            raise kind(f"the server answered {answer.status}")
        size = 0
        with path.open("wb") as file:
            for chunk in answer.stream(CHUNK_BYTES):  # raises IncompleteRead, an HTTPError, where bytes are missing
                check()
                size += file.write(chunk)
        return RemoteObject("", url, size, "")
    finally:
        answer.close()


@lru_cache(maxsize=1)
def _get_connection_pool() -> urllib3.PoolManager:
    """With botocore's own certificates: the program's image may have none."""
    retries = urllib3.Retry(MAX_REDIRECTS, connect=0, read=0, status=0, other=0)
    return urllib3.PoolManager(ca_certs=get_cert_path(True), timeout=WEB_TIMEOUT_SECONDS, retries=retries)
