"""HTTP requests to image registries, with short time limits: a slow registry must not hold up a check.

botocore's HTTP session is used because it has certificates on every computer and reads HTTPS_PROXY and NO_PROXY.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

CONNECT_SECONDS, READ_SECONDS = 3.0, 5.0  # for each address of a registry, and each time something is read
TOTAL_SECONDS = 15.0  # for all requests of a check, to their last byte
MAX_BODY_BYTES = 4 << 20  # the largest manifest that registries accept
MAX_REDIRECTS = 3  # registries redirect requests for blobs to their storage
_TOO_SLOW = f"no answer within {TOTAL_SECONDS:.0f} seconds"
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
    """Sends the requests of one check. All of them together take at most TOTAL_SECONDS."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._deadline: float | None = None  # set by the first request

    def fetch(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """Return the answer to a GET request, after redirects. Raise UnreachableRegistryError if there is none.

        Another host gets no Authorization header: it would learn a secret, and storage refuses requests with two.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, headers)
            if response.status not in _REDIRECT_STATUSES:
                return response
            try:
                target = urljoin(url, response.headers.get("location", ""))
                is_other_host = urlsplit(target).netloc != urlsplit(url).netloc
            except ValueError:
                raise UnreachableRegistryError("it redirects to an invalid address") from None
            if target == url:
                return response
            if is_other_host:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise UnreachableRegistryError("too many redirects")

    def _send(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        now = self._monotonic()
        self._deadline = now + TOTAL_SECONDS if self._deadline is None else self._deadline
        remaining = self._deadline - now
        if remaining <= 0:
            raise UnreachableRegistryError(_TOO_SLOW)
        answer: Future[HttpResponse] = Future()
        # A time limit of a socket begins again with each byte, and looking up a host has none.
        Thread(target=_request_into, args=(answer, url, headers, remaining), daemon=True).start()
        try:
            return answer.result(remaining)
        except TimeoutError:
            raise UnreachableRegistryError(_TOO_SLOW) from None


def _request_into(answer: Future[HttpResponse], url: str, headers: Mapping[str, str], seconds: float) -> None:
    """Set the answer to a request, or the exception that it ends with."""
    try:
        answer.set_result(_request(url, headers, seconds))
    except Exception as error:  # whatever it is, the thread that waits must raise it
        answer.set_exception(error)


def _request(url: str, headers: Mapping[str, str], seconds: float) -> HttpResponse:
    """Return the answer to a GET request. `seconds`: the longest time to wait for a part of it."""
    try:
        session = URLLib3Session(
            timeout=(min(CONNECT_SECONDS, seconds), min(READ_SECONDS, seconds)),  # type: ignore[arg-type]
            verify=os.environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type]
            proxies=get_environ_proxies(url),
        )
        response = session.send(AWSRequest("GET", url, headers=dict(headers), stream_output=True).prepare())
        body = response.raw.read(MAX_BODY_BYTES)
    except (BotoCoreError, HTTPError, OSError, ValueError) as error:
        raise UnreachableRegistryError(str(error)) from None
    return HttpResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
