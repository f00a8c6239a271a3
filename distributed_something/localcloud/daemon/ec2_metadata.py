"""The part of the EC2 instance metadata that workers read: what the machine is, and its spot interruption notice.

Each machine has its own address, which its containers get in AWS_EC2_METADATA_SERVICE_ENDPOINT. Requests need a token,
as with IMDSv2.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from json import dumps
from typing import Any

from distributed_something.localcloud.play.machines import Machine

TOKEN_TTL_HEADER, TOKEN_HEADER = "HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", "HTTP_X_AWS_EC2_METADATA_TOKEN"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
MAX_TOKEN_TTL_SECONDS = 21_600
"""Maximum lifetime of a token on EC2, in seconds."""


class MetadataEndpoint:
    """WSGI application at `…/INSTANCE_ID/latest/…`. `find_machine` finds a running machine by its ID."""

    def __init__(self, find_machine: Callable[[str], Machine | None]) -> None:
        self._find_machine, self._token = find_machine, secrets.token_urlsafe(16)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, text = self._build_response(environ)
        body = text.encode()
        start_response(f"{status.value} {status.phrase}", [("Content-Length", str(len(body)))])
        return [body]

    def _build_response(self, environ: dict[str, Any]) -> tuple[HTTPStatus, str]:
        address, _, path = environ["PATH_INFO"].partition("/latest/")
        machine = self._find_machine(address.rsplit("/", 1)[-1])
        if machine is None:
            return HTTPStatus.NOT_FOUND, ""
        if environ["REQUEST_METHOD"] == "PUT" and path == "api/token":
            ttl = environ.get(TOKEN_TTL_HEADER, "")
            is_valid = ttl.isdecimal() and 1 <= int(ttl) <= MAX_TOKEN_TTL_SECONDS
            return (HTTPStatus.OK, self._token) if is_valid else (HTTPStatus.BAD_REQUEST, "")
        if environ.get(TOKEN_HEADER) != self._token:
            return HTTPStatus.UNAUTHORIZED, ""
        text = build_metadata_texts(machine).get(path)
        return (HTTPStatus.NOT_FOUND, "") if text is None else (HTTPStatus.OK, text)


def build_metadata_texts(machine: Machine) -> dict[str, str]:
    """Return the texts, keyed by their paths below /latest/. Include the interruption notice only if there is one."""
    instance = machine.instance
    identity = {
        "instanceId": machine.instance_id,
        "instanceType": instance.instance_type,
        "availabilityZone": instance.placement.zone,
        "pendingTime": instance.launch_time.strftime(TIME_FORMAT),
    }
    texts = {
        "meta-data/instance-id": machine.instance_id,
        "meta-data/instance-life-cycle": instance.lifecycle or "on-demand",
        "dynamic/instance-identity/document": dumps(identity),
    }
    if machine.ends_at is not None:
        end_time = datetime.fromtimestamp(machine.ends_at, UTC).strftime(TIME_FORMAT)
        texts["meta-data/spot/instance-action"] = dumps({"action": "terminate", "time": end_time})
    return texts
