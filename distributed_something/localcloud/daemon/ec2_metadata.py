"""What EC2 tells a machine about itself, played as far as workers ask: its id, and that spot takes it away.

One address a machine, which AWS_EC2_METADATA_SERVICE_ENDPOINT tells its containers; a token is needed, as with IMDSv2.
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
MAX_TOKEN_TTL_SECONDS = 21_600
"""Seconds; EC2's own limit."""


class MetadataEndpoint:
    """A WSGI application at `…/INSTANCE_ID/latest/…`. `find`: the machine of an id, while it runs."""

    def __init__(self, find: Callable[[str], Machine | None]) -> None:
        self._find, self._token = find, secrets.token_urlsafe(16)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, text = self._answer(environ)
        body = text.encode()
        start_response(f"{status.value} {status.phrase}", [("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[HTTPStatus, str]:
        address, _, path = environ["PATH_INFO"].partition("/latest/")
        machine = self._find(address.rsplit("/", 1)[-1])
        if machine is None:
            return HTTPStatus.NOT_FOUND, ""
        if environ["REQUEST_METHOD"] == "PUT" and path == "api/token":
            life = environ.get(TOKEN_TTL_HEADER, "")
            good = life.isdecimal() and 1 <= int(life) <= MAX_TOKEN_TTL_SECONDS
            return (HTTPStatus.OK, self._token) if good else (HTTPStatus.BAD_REQUEST, "")
        if environ.get(TOKEN_HEADER) != self._token:
            return HTTPStatus.UNAUTHORIZED, ""
        text = build_metadata_texts(machine).get(path)
        return (HTTPStatus.NOT_FOUND, "") if text is None else (HTTPStatus.OK, text)


def build_metadata_texts(machine: Machine) -> dict[str, str]:
    """Path below /latest/ to text; what is not there now is left out."""
    known = {"meta-data/instance-id": machine.instance_id}
    if machine.ends_at is not None:
        when = datetime.fromtimestamp(machine.ends_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        known["meta-data/spot/instance-action"] = dumps({"action": "terminate", "time": when})
    return known
