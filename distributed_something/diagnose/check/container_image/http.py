"""HTTP requests to image registries, with short time limits: a slow registry must not hold up a check.

botocore's HTTP session is used because it has certificates on every computer and reads HTTPS_PROXY and NO_PROXY.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

CONNECT_SECONDS, READ_SECONDS = 3.0, 5.0  # for each request
TOTAL_SECONDS = 15.0  # for all requests of a check
MAX_BODY_BYTES = 4 << 20  # the largest manifest that registries accept
MAX_REDIRECTS = 3  # registries redirect requests for blobs to their storage
_REDIRECT_STATUSES = {301, 302, 303, 307, 308}


class UnreachableRegistryError(Exception):
    """Raised if a registry does not answer. Its text is the reason."""


class HttpResponse(NamedTuple):
    """An answer of any status. The names of the headers are in lowercase."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Fetch = Callable[[str, Mapping[str, str]], HttpResponse]  # (URL, headers)


class RegistryHttp:
    """Sends the requests of one check. All of them together take at most about TOTAL_SECONDS."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._deadline: float | None = None  # set by the first request

    def fetch(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """Return the answer to a GET request, after redirects. Raise UnreachableRegistryError if there is none.

        Another host gets no Authorization header: it would learn a secret, and storage refuses requests with two.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, headers)
            target = urljoin(url, response.headers.get("location", ""))
            if response.status not in _REDIRECT_STATUSES or target == url:
                return response
            if urlsplit(target).netloc != urlsplit(url).netloc:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise UnreachableRegistryError("too many redirects")

    def _send(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        now = self._monotonic()
        self._deadline = now + TOTAL_SECONDS if self._deadline is None else self._deadline
        remaining = self._deadline - now
        if remaining <= 0:
            raise UnreachableRegistryError(f"no answer within {TOTAL_SECONDS:.0f} seconds")
        try:
            session = URLLib3Session(
                timeout=(min(CONNECT_SECONDS, remaining), min(READ_SECONDS, remaining)),  # type: ignore[arg-type]
                verify=os.environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type]
                proxies=get_environ_proxies(url),
            )
            response = session.send(AWSRequest("GET", url, headers=dict(headers), stream_output=True).prepare())
            body = response.raw.read(MAX_BODY_BYTES)
        except (BotoCoreError, HTTPError, OSError, ValueError) as error:
            raise UnreachableRegistryError(str(error)) from None
        return HttpResponse(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, body
        )
