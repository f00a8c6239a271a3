"""An input from the web: `https://…` in a job file's `inputs`, such as a script or a public reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import urllib3
from botocore.httpsession import get_cert_path

from .transfer import CHUNK_BYTES, Cut, Remote

TIMEOUT_SECONDS = 30.0  # without a byte
REDIRECTS = 5
_LATER = {408, 425, 429}  # HTTP: this may go better in a while; and so may what begins with 5
_NOT_THERE = {404, 410}


class Refused(Exception):
    """The server gives the file to nobody who asks like this, from here."""


class NotThere(Refused):
    """The server says that it has no such file."""


def get(url: str, path: Path, check: Callable[[], None]) -> Remote:
    """Fetches what is at `url`, whole; redirects are followed. Raises Cut, Refused or NotThere for what is not
    that file."""
    answer = _pool().request("GET", url, preload_content=False)
    try:
        if answer.status in _LATER or answer.status >= 500:
            raise Cut(f"the server answered {answer.status}")
        if answer.status != 200:
            kind = NotThere if answer.status in _NOT_THERE else Refused
            raise kind(f"the server answered {answer.status}")
        size = 0
        with path.open("wb") as file:
            for chunk in answer.stream(CHUNK_BYTES):  # raises IncompleteRead, an HTTPError, where bytes are missing
                check()
                size += file.write(chunk)
        return Remote("", url, size, "")
    finally:
        answer.close()


@lru_cache(maxsize=1)
def _pool() -> urllib3.PoolManager:
    """With botocore's own certificates: the program's image may have none."""
    retries = urllib3.Retry(REDIRECTS, connect=0, read=0, status=0, other=0)
    return urllib3.PoolManager(ca_certs=get_cert_path(True), timeout=TIMEOUT_SECONDS, retries=retries)
