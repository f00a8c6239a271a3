"""The daemon's HTTP interface for commands: JSON requests and responses on moto's port, protected by a token."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable
from typing import Any

from distributed_something.localcloud.base.errors import LocalCloudError

ControlAction = Callable[..., dict[str, Any] | None]


class ControlEndpoint:
    """WSGI application that runs actions. The path ends with the action's name; the body contains its arguments."""

    def __init__(self, token: str, actions: dict[str, ControlAction]) -> None:
        self.token = token
        self.actions = actions

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        is_authorized = hmac.compare_digest(environ.get("HTTP_X_TOKEN", ""), self.token)
        response = (
            self._run_action(environ) if is_authorized else {"error": "this address belongs to another local cloud"}
        )
        body = json.dumps(response).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _run_action(self, environ: dict[str, Any]) -> dict[str, Any]:
        action = self.actions.get(environ["PATH_INFO"].rpartition("/")[2])
        if action is None:
            return {"error": "the running local cloud is a different version; stop it and start it again"}
        arguments = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        try:
            return action(**arguments) or {}
        except LocalCloudError as error:
            return {"error": str(error)}
