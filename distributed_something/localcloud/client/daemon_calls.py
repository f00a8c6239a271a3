"""Requests to the daemon, and whether it is running."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import Any

from distributed_something.localcloud.base.endpoints import CONTROL_PATH
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import CloudLayout, CloudState, read_cloud_state


def find_live_state(layout: CloudLayout) -> CloudState | None:
    """Return the state of the running local cloud, or None.

    The state file alone is not enough: another project's local cloud may be using the port now.
    """
    state = read_cloud_state(layout)
    return state if state and is_cloud_running(state) else None


def is_cloud_running(state: CloudState) -> bool:
    try:
        return bool(call_daemon(state, "ping")["pid"] == state.pid)
    except LocalCloudError:
        return False


def call_daemon(state: CloudState, action: str, **arguments: object) -> dict[str, Any]:
    """Have the daemon run an action, and return the result.

    Raise LocalCloudError if the action fails or the daemon does not respond.
    """
    request = urllib.request.Request(
        f"{state.moto}{CONTROL_PATH}{action}",
        data=json.dumps(arguments).encode(),
        headers={"Content-Type": "application/json", "X-Token": state.token},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=10) as response:
            result: dict[str, Any] = json.load(response)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalCloudError(f"the local cloud does not respond: {error}") from error
    if problem := result.get("error"):
        raise LocalCloudError(str(problem))
    return result
