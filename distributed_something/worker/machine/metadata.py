"""What EC2 tells a machine about itself, asked with IMDSv2 (a token first) and nothing but the standard library.

botocore's own reader is not public and keeps to credentials. The two variables that steer it are obeyed here too.
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

METADATA_ADDRESS = "http://169.254.169.254"  # link-local, the same on every machine of EC2
TOKEN_PATH = "/latest/api/token"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TOKEN_LIFE_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_SECONDS = 21_600  # EC2 allows 1 to 21,600
TOKEN_RENEW_SECONDS = 300.0  # before a token's end
METADATA_TIMEOUT_SECONDS = 1.0  # botocore's own; the service is on the same host
METADATA_ATTEMPTS = 3  # off EC2 the address may swallow what is sent: a start takes at most so many time-outs longer
# A machine that is busy starting may be slow to answer, and without it no spot notice is heard.
METADATA_ATTEMPTS_ON_ECS = 30
MAX_METADATA_BYTES = 16 * 1024  # of an answer that is read; EC2's own have a few hundred
INSTANCE_ID_PATH = "/latest/meta-data/instance-id"
_INSTANCE_ID_PATTERN = re.compile(r"i-[0-9a-f]{8,17}")
_TOKEN_PATTERN = re.compile(r"[\w.+/=-]{1,1024}", re.ASCII)  # some networks answer with a page: that is no token


class InstanceMetadata:
    """Instance metadata. `now`: a clock that only goes forward, seconds. Threads may share it."""

    def __init__(self, env: Mapping[str, str] = os.environ, now: Callable[[], float] = time.monotonic) -> None:
        self._base = (env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA_ADDRESS).rstrip("/")
        self._now = now
        self._token, self._renew_at = "", 0.0
        self._disabled = env.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true"
        self._attempts = METADATA_ATTEMPTS_ON_ECS if "ECS_CONTAINER_METADATA_URI_V4" in env else METADATA_ATTEMPTS
        self._opener = OpenerDirector()  # bare: without proxies, redirects, or any scheme but http
        self._opener.add_handler(HTTPHandler())

    @cached_property
    def is_on_ec2(self) -> bool:
        """Whether this machine is on EC2. Found out at the first use, and for good."""
        return not self._disabled and any(self._renew_token() for _ in range(self._attempts))

    def get(self, path: str) -> str | None:
        """The text at `path` («/latest/meta-data/…»). None: no such text now, or not on EC2 (see `is_on_ec2`)."""
        if not self.is_on_ec2:
            return None
        for _ in range(METADATA_ATTEMPTS):
            if self._now() >= self._renew_at and not self._renew_token():
                continue
            status, text = self._request_text("GET", path, {TOKEN_HEADER: self._token})
            if status in (200, 404):
                return text if status == 200 else None
            if status == 401:  # the token is not known any more, such as after a hibernation
                self._renew_at = 0.0
        return None

    def _renew_token(self) -> bool:
        asked = self._now()
        status, text = self._request_text("PUT", TOKEN_PATH, {TOKEN_LIFE_HEADER: str(TOKEN_SECONDS)})
        good = status == 200 and _TOKEN_PATTERN.fullmatch(text) is not None
        if good:
            self._token, self._renew_at = text, asked + TOKEN_SECONDS - TOKEN_RENEW_SECONDS
        return good

    def _request_text(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Status and text; status 0 where there is no answer, or one that cannot be EC2's."""
        try:
            request = Request(self._base + path, headers=headers, method=method)
            answer = self._opener.open(request, timeout=METADATA_TIMEOUT_SECONDS)
            if answer is None:  # another scheme than http
                return 0, ""
            with answer:
                body = answer.read(MAX_METADATA_BYTES + 1)
                return (answer.status, body.decode()) if len(body) <= MAX_METADATA_BYTES else (0, "")
        except (OSError, HTTPException, ValueError):
            return 0, ""


def find_instance_id(metadata: InstanceMetadata) -> str | None:
    """EC2's id of this machine; None elsewhere, or where the answer is no such id."""
    text = (metadata.get(INSTANCE_ID_PATH) or "").strip()
    return text if _INSTANCE_ID_PATTERN.fullmatch(text) else None


def get_machine_id(metadata: InstanceMetadata, env: Mapping[str, str] = os.environ) -> str:
    """What records and logs call this machine: INSTANCE_ID, else EC2's id, else the host name."""
    return env.get("INSTANCE_ID") or find_instance_id(metadata) or socket.gethostname()
