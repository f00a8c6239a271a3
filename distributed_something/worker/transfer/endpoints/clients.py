"""The S3 clients for servers other than AWS's."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore import UNSIGNED
from botocore.config import Config

from distributed_something.worker.job.addresses import BadAddress, check_endpoint
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.transfer.endpoints.credentials import EndpointCredentials, read_endpoint_credentials
from distributed_something.worker.transfer.web import InternalHost, resolve_host


def build_endpoint_arguments(endpoint: str, credentials: EndpointCredentials, config: Config) -> dict[str, Any]:
    """Return the arguments of an S3 client for a server other than AWS's, with `config` for its timeouts and retries.

    The bucket is part of the path, as all of these servers accept.
    """
    own_config = Config(
        s3={"addressing_style": "path"},
        # Not every server knows AWS's newer checksums. The worker sends and compares its own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **({} if credentials.key_id else {"signature_version": UNSIGNED}),
    )
    return {
        "endpoint_url": endpoint,
        "region_name": credentials.region,
        "aws_access_key_id": credentials.key_id or None,
        "aws_secret_access_key": credentials.secret or None,
        "config": config.merge(own_config),
    }


class EndpointClients:
    """The S3 clients for other servers, created on demand. Threads may share one object.

    `build_client` returns a new client for an address and its credentials. `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in
    the config.
    """

    def __init__(
        self, build_client: Callable[[str, EndpointCredentials], Any], *, allow_unsafe: bool,
        env: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """Raise BadEnvironment if the credentials cannot be read."""
        self._build_client, self._allow_unsafe = build_client, allow_unsafe
        self._default, self._by_host = read_endpoint_credentials(env)
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def get_client(self, endpoint: str) -> Any:
        """Return the client for an address. Raise Failed if the config does not allow the address."""
        with self._lock:
            if endpoint not in self._clients:
                try:
                    check_endpoint(endpoint, allow_unsafe=self._allow_unsafe)
                    self._check_host(endpoint)
                except BadAddress as error:
                    raise Failed(f"the S3 server is refused: {error}", "bad message") from None
                credentials = self._by_host.get(urlsplit(endpoint).netloc.lower(), self._default)
                self._clients[endpoint] = self._build_client(endpoint, credentials)
            return self._clients[endpoint]

    def _check_host(self, endpoint: str) -> None:
        """Raise BadAddress if the server's name stands for an internal address that the config does not allow.

        The address must then be an `https://` one, so a name that changes its meaning later leads to an error.
        """
        parts = urlsplit(endpoint)
        if self._allow_unsafe:
            return
        try:
            resolve_host(parts.hostname or "", parts.port or 443)
        except InternalHost as error:
            raise BadAddress(f"{error.host} is {error.address}, {error.kind}") from None
        except (socket.gaierror, UnicodeError):
            return  # perhaps only a proxy can resolve the name; if not, the first request explains it
