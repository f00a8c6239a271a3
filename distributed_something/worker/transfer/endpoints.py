"""S3 servers other than AWS's, to which the keys `input_endpoint` and `output_endpoint` of a Job file lead.

A server gets only the credentials that the image has for it: those in the file ENDPOINT_CREDENTIALS_FILE, or else those
in ENDPOINT_ACCESS_KEY_ID and ENDPOINT_SECRET_ACCESS_KEY. It never gets the credentials of the machine's role, whose
session token could be used by whoever receives it. Without credentials for a server, requests to it are not signed.
"""

from __future__ import annotations

import configparser
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed_something.worker.job.addresses import BadAddress, check_endpoint
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.worker_settings import BadEnvironment
from distributed_something.worker.transfer.web import ForbiddenAddress, resolve_host

FILE_VARIABLE = "ENDPOINT_CREDENTIALS_FILE"
KEY_VARIABLE, SECRET_VARIABLE, REGION_VARIABLE = (
    f"ENDPOINT_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION")
)
_FILE_KEYS = ("aws_access_key_id", "aws_secret_access_key")
DEFAULT_REGION = "us-east-1"  # in signatures; most servers accept it, whatever their own setting is


@dataclass(frozen=True)
class EndpointCredentials:
    """What requests to a server are signed with. Without a key, they are not signed."""

    key_id: str = ""
    secret: str = ""
    region: str = DEFAULT_REGION


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
                except (BadAddress, ForbiddenAddress) as error:
                    raise Failed(f"the S3 server is refused: {error}", "bad message") from None
                credentials = self._by_host.get(urlsplit(endpoint).netloc.lower(), self._default)
                self._clients[endpoint] = self._build_client(endpoint, credentials)
            return self._clients[endpoint]

    def _check_host(self, endpoint: str) -> None:
        """Raise ForbiddenAddress if the server's name stands for an internal address that the config does not allow.

        The address must then be an `https://` one, so a name that changes its meaning later leads to an error.
        """
        parts = urlsplit(endpoint)
        try:
            resolve_host(parts.hostname or "", parts.port or 443, allow_internal=self._allow_unsafe)
        except (socket.gaierror, UnicodeError):
            return  # perhaps only a proxy can resolve the name; if not, the first request explains it


def read_endpoint_credentials(
    env: Mapping[str, str] = os.environ,
) -> tuple[EndpointCredentials, dict[str, EndpointCredentials]]:
    """Return the credentials for all servers, and those for servers that the file names, by host (and port).

    Raise BadEnvironment if the file cannot be read, or if a part of the credentials is missing.
    """
    key_id, secret = env.get(KEY_VARIABLE, ""), env.get(SECRET_VARIABLE, "")
    if bool(key_id) != bool(secret):
        missing = SECRET_VARIABLE if key_id else KEY_VARIABLE
        raise BadEnvironment(f"the environment variable {missing} is not set; set both or neither of the two")
    default = EndpointCredentials(key_id, secret, env.get(REGION_VARIABLE) or DEFAULT_REGION)
    return default, _read_credentials_file(env[FILE_VARIABLE], default.region) if env.get(FILE_VARIABLE) else {}


def _read_credentials_file(name: str, region: str) -> dict[str, EndpointCredentials]:
    """Return the credentials in a file with a section for each server, in the format of AWS's credentials file."""
    start = f"the environment variable {FILE_VARIABLE} is {name!r}:"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadEnvironment(
            f"{start} {getattr(error, 'strerror', None) or 'it is not a text file in UTF-8'}"
        ) from None
    except configparser.Error as error:  # its message may quote a line, and with it a secret
        problem = type(error).__name__
        raise BadEnvironment(f"{start} it is not in the format of an AWS credentials file ({problem})") from None
    credentials = {}
    for host in parser.sections():
        section = parser[host]
        if missing := [key for key in _FILE_KEYS if not section.get(key)]:
            raise BadEnvironment(f"{start} [{host}] has no {' and no '.join(missing)}")
        key_id, secret = (section[key] for key in _FILE_KEYS)
        credentials[host.lower()] = EndpointCredentials(key_id, secret, section.get("region") or region)
    return credentials
