"""EC2 instance metadata, read with IMDSv2 (which requires a token) and only the standard library.

botocore's reader is not public and reads only credentials. This reader honors the same two environment variables.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from http.client import HTTPException
from urllib.request import HTTPHandler, OpenerDirector, Request

METADATA_ADDRESS = "http://169.254.169.254"  # link-local, the same on every EC2 machine
TOKEN_PATH = "/latest/api/token"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TOKEN_LIFE_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_SECONDS = 21_600  # EC2 allows 1 to 21,600
TOKEN_RENEW_SECONDS = 300.0  # how long before its expiration a token is renewed
METADATA_TIMEOUT_SECONDS = 1.0  # botocore's value; the service is on the same host
METADATA_ATTEMPTS = 3  # outside EC2, each attempt may take the full timeout and delay the start
# A machine that is still starting may respond slowly, and without metadata the worker would miss spot notices.
METADATA_ATTEMPTS_ON_ECS = 30
MAX_METADATA_BYTES = 16 * 1024  # limit for a response; EC2's responses have a few hundred bytes
INSTANCE_ID_PATH = "/latest/meta-data/instance-id"
_INSTANCE_ID_PATTERN = re.compile(r"i-[0-9a-f]{8,17}")
# Some networks return a login page for any address, which must not be mistaken for a token.
_TOKEN_PATTERN = re.compile(r"[\w.+/=-]{1,1024}", re.ASCII)


def build_direct_opener() -> OpenerDirector:
    """Return an opener for addresses on this machine: without proxies, redirects, or schemes other than http."""
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    return opener


class InstanceMetadata:
    """A reader for instance metadata that threads can share. `now` is a monotonic clock in seconds."""

    def __init__(self, env: Mapping[str, str] = os.environ, now: Callable[[], float] = time.monotonic) -> None:
        self._base = (env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA_ADDRESS).rstrip("/")
        self._now = now
        self._token, self._renew_at = "", 0.0
        self._disabled = env.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true"
        self._attempts = METADATA_ATTEMPTS_ON_ECS if "ECS_CONTAINER_METADATA_URI_V4" in env else METADATA_ATTEMPTS
        self._opener = build_direct_opener()

    @cached_property
    def is_on_ec2(self) -> bool:
        """Whether this machine is on EC2; determined once, on first use."""
        return not self._disabled and any(self._renew_token() for _ in range(self._attempts))

    def get(self, path: str) -> str | None:
        """Return the text at `path` (such as `/latest/meta-data/instance-id`), or None.

        None means that the path does not exist, that the service did not respond, or that the machine is not on EC2.
        """
        if not self.is_on_ec2:
            return None
        for _ in range(METADATA_ATTEMPTS):
            if self._now() >= self._renew_at and not self._renew_token():
                continue
            status, text = self._request_text("GET", path, {TOKEN_HEADER: self._token})
            if status in (200, 404):
                return text if status == 200 else None
            if status == 401:  # the token is no longer valid, for example, after a hibernation
                self._renew_at = 0.0
        return None

    def _renew_token(self) -> bool:
        requested_at = self._now()
        status, text = self._request_text("PUT", TOKEN_PATH, {TOKEN_LIFE_HEADER: str(TOKEN_SECONDS)})
        is_valid = status == 200 and _TOKEN_PATTERN.fullmatch(text) is not None
        if is_valid:
            self._token, self._renew_at = text, requested_at + TOKEN_SECONDS - TOKEN_RENEW_SECONDS
        return is_valid

    def _request_text(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Return the response's status and text. The status is 0 if no valid response was received."""
        try:
            request = Request(self._base + path, headers=headers, method=method)
            response = self._opener.open(request, timeout=METADATA_TIMEOUT_SECONDS)
            if response is None:  # the scheme is not http
                return 0, ""
            with response:
                body = response.read(MAX_METADATA_BYTES + 1)
                return (response.status, body.decode()) if len(body) <= MAX_METADATA_BYTES else (0, "")
        except (OSError, HTTPException, ValueError):
            return 0, ""


def find_instance_id(metadata: InstanceMetadata) -> str | None:
    """Return this machine's EC2 instance ID; None outside EC2 or if the response is not an instance ID."""
    text = (metadata.get(INSTANCE_ID_PATH) or "").strip()
    return text if _INSTANCE_ID_PATTERN.fullmatch(text) else None


def get_machine_id(metadata: InstanceMetadata, env: Mapping[str, str] = os.environ) -> str:
    """Return this machine's ID for records and logs: INSTANCE_ID, else the EC2 instance ID, else the host name."""
    return env.get("INSTANCE_ID") or find_instance_id(metadata) or socket.gethostname()
