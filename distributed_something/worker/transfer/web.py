"""Downloads inputs from the web: `https://…` in a job file's `inputs`, such as a script or public data.

The bytes are saved as they arrive, like those that `curl` saves without options. Proxies and certificates are taken
from the same environment variables as boto3 takes them.

Unless the config allows it, an input must not come from an `http://` address, which anyone on the way can change, or
from the machine itself or its link, where the machine's credentials can be read. Redirects are checked too. A name is
resolved once, and the connection is made to the address that was checked, so that the name cannot change in between.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from distributed_something.worker.job.addresses import (
    InternalKind,
    advise_public_address,
    check_web_address,
    classify_ip,
)
from distributed_something.worker.transfer.retry import IncompleteTransfer
from distributed_something.worker.transfer.s3_file import CHUNK_BYTES, RemoteObject

WEB_CONNECT_SECONDS, WEB_TIMEOUT_SECONDS = 10.0, 30.0  # the latter: the longest wait without receiving a byte
MAX_REDIRECTS = 5
# What the published AWS SDKs and curl read, in this order.
CERTIFICATE_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_REDIRECTS = {301, 302, 303, 307, 308}
_TRANSIENT_STATUSES = {408, 425, 429}  # HTTP statuses of temporary errors, in addition to 500 and above
_MISSING_STATUSES = {404, 410}
# Without an encoding, because a server that compresses would change what `curl` saves.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "distributed-something-worker"}


class WebRefusal(Exception):
    """Raised if the server returns an error that a retry would not change."""


class MissingWebFile(WebRefusal):
    """Raised if the server does not have the file. `may_appear`: whether a retry could find it."""

    def __init__(self, text: str, *, may_appear: bool) -> None:
        super().__init__(text)
        self.may_appear = may_appear


class ForbiddenAddress(WebRefusal):
    """Raised for an address from which the config does not allow inputs."""


class InternalHost(Exception):
    """Raised for the name of a host whose IP address is internal, to which no connection is made."""

    def __init__(self, host: str, address: str, kind: InternalKind) -> None:
        super().__init__(host)
        self.host, self.address, self.kind = host, address, kind


def fetch_web_file(url: str, path: Path, check: Callable[[], None], *, allow_unsafe: bool) -> RemoteObject:
    """Download the file at `url` to `path`. Redirects are followed.

    Raise IncompleteTransfer if the error may be temporary, MissingWebFile if the file does not exist, ForbiddenAddress
    if the address is not allowed, and WebRefusal if the server returns any other error.
    """
    response = _request_file(url, check, allow_unsafe=allow_unsafe)
    try:
        if response.status in _TRANSIENT_STATUSES or response.status >= 500:
            raise IncompleteTransfer(f"HTTP status {response.status}")
        if response.status in _MISSING_STATUSES:
            raise MissingWebFile(f"HTTP status {response.status}", may_appear=response.status == 404)
        if response.status != 200:
            raise WebRefusal(f"HTTP status {response.status}")
        size = 0
        check()
        with path.open("wb") as file:
            # An incomplete body raises IncompleteRead, an HTTPError. Each read returns what has arrived.
            while chunk := response.read1(CHUNK_BYTES, decode_content=False):
                check()
                size += file.write(chunk)
        return RemoteObject("", url, size, response.headers.get("ETag", ""))
    finally:
        response.close()


def describe_web_error(error: Exception) -> str:
    """Return in words why a web file could not be read. urllib3's own texts contain Python objects."""
    reason = error.args[-1] if error.args else error
    if isinstance(error, exceptions.SSLError) and isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "if that is intended, name a file with its certificate in AWS_CA_BUNDLE or SSL_CERT_FILE in the config"
        return f"the server's certificate is not trusted: {reason.verify_message}; {remedy}"
    if isinstance(reason, exceptions.IncompleteRead):
        received, missing = reason.partial, reason.expected
        total = f" of {received + missing:,}" if isinstance(missing, int) and isinstance(received, int) else ""
        return f"the connection ended after {received:,}{total} bytes"
    if isinstance(error, exceptions.NewConnectionError):
        return str(error).partition(f"{error.pool}: ")[2] or str(error)
    if isinstance(error, exceptions.TimeoutError):
        return f"the server did not answer for {WEB_TIMEOUT_SECONDS:g} seconds"
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy cannot be used: {error.original_error}"
    if isinstance(error, (exceptions.ProtocolError, exceptions.SSLError)):
        return f"the connection broke: {reason}"
    return str(error)


def _request_file(url: str, check: Callable[[], None], *, allow_unsafe: bool) -> Any:
    """Return the response for `url`, or for the address to which it redirects."""
    for redirects in range(MAX_REDIRECTS + 1):
        check()
        try:
            manager = _get_manager(url, allow_unsafe=allow_unsafe, is_redirect=redirects > 0)
            response = manager.request(
                "GET", url, headers=_HEADERS, preload_content=False, redirect=False, retries=False, decode_content=False
            )
        except InternalHost as error:
            advice = "" if redirects else advise_public_address(error.kind)
            subject = f"{error.host}, to which the server redirects," if redirects else error.host
            raise ForbiddenAddress(f"{subject} is {error.address}, {error.kind}{advice}") from None
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or not location:
            return response
        response.close()
        try:
            url = urljoin(url, location)
        except ValueError:
            raise ForbiddenAddress(f"{location!r}, to which the server redirects, is not a valid web address") from None
    raise WebRefusal(f"more than {MAX_REDIRECTS} redirects")


def _get_manager(url: str, *, allow_unsafe: bool, is_redirect: bool) -> urllib3.PoolManager:
    """Return the connection manager for `url`: a direct one, or one for the proxy that the environment names."""
    try:
        check_web_address(url, allow_unsafe=allow_unsafe, is_redirect=is_redirect)
    except ValueError as error:  # BadAddress, or a redirect to something that is not an address
        raise ForbiddenAddress(str(error)) from None
    proxy = ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url)
    if proxy is not None and not allow_unsafe:
        _check_proxied_host(url)
    return _build_manager(proxy, _find_certificates(), allow_unsafe=allow_unsafe)


def _check_proxied_host(url: str) -> None:
    """Raise InternalHost if the host is internal. Behind a proxy, some names can be resolved only by the proxy."""
    parts = urlsplit(url)
    try:
        resolve_host(parts.hostname or "", parts.port or 443)
    except socket.gaierror:
        return


def _find_certificates() -> str:
    """Return the file with the certificates to trust: the user's, or botocore's, because the image may have none."""
    variable = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        return str(get_cert_path(True))
    if not Path(os.environ[variable]).is_file():
        raise WebRefusal(f"{variable} is {os.environ[variable]!r}, which is not a file")
    return os.environ[variable]


@lru_cache(maxsize=16)
def _build_manager(proxy: str | None, certificates: str, *, allow_unsafe: bool) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=WEB_CONNECT_SECONDS, read=WEB_TIMEOUT_SECONDS)
    if proxy is not None:
        headers = ProxyConfiguration().proxy_headers_for(proxy)
        return urllib3.ProxyManager(proxy, ca_certs=certificates, timeout=timeout, proxy_headers=headers)
    manager = urllib3.PoolManager(ca_certs=certificates, timeout=timeout)
    if not allow_unsafe:
        manager.pool_classes_by_scheme = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
    return manager


def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host. Raise InternalHost if one is internal, and gaierror if there are none."""
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if kind := classify_ip(address):
            raise InternalHost(host, address, kind)
    return addresses


class _PublicConnection(HTTPConnection):
    """A connection that is made only to a public address, which is resolved and checked first."""

    def _new_conn(self) -> socket.socket:
        try:
            addresses = resolve_host(self._dns_host, self.port)
        except (socket.gaierror, UnicodeError) as error:
            raise exceptions.NewConnectionError(self, f"the name cannot be resolved: {error}") from None
        errors: list[OSError] = []
        for address in addresses:
            try:
                return create_connection((address, self.port), self.timeout, socket_options=self.socket_options)
            except OSError as error:
                errors.append(error)
        raise exceptions.NewConnectionError(self, f"the connection failed: {errors[-1]}")


class _PublicHTTPSConnection(_PublicConnection, HTTPSConnection):
    """A connection with TLS that is made only to a public address."""


class _PublicHTTPPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPSConnection
