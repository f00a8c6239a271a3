"""Task scale-in protection: while this container has a job, ECS does not choose it when the service is lowered.

The ECS agent is asked, at an address that it puts into the container's environment; elsewhere there is none, and
nothing is asked. Source: «Protect your Amazon ECS tasks from being terminated by scale-in events», ECS's guide.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from urllib.request import ProxyHandler, Request, build_opener

PROTECTION_MINUTES = 120  # ECS allows 1 to 2,880; after that the protection of a worker that hangs ends by itself
PROTECTION_RENEW_SECONDS = 30 * 60.0
UNPROTECT_AFTER_SECONDS = 10.0  # without a job, before the protection is given up: short jobs must not ask for each
AGENT_TIMEOUT_SECONDS = 5.0
PROTECTION_PATH = "/task-protection/v1/state"
log = logging.getLogger("worker")


def put_protection_state(address: str, body: bytes) -> None:
    """Sends one state to the agent. Raises OSError or HTTPException where it does not take it."""
    request = Request(address, data=body, method="PUT", headers={"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=AGENT_TIMEOUT_SECONDS):
        pass


class ScaleInProtection:
    """`busy()`: whether the container has a job. `tick(now)` is one look; `now` in seconds, only going forward."""

    def __init__(
        self,
        busy: Callable[[], bool],
        env: Mapping[str, str] = os.environ,
        put: Callable[[str, bytes], None] = put_protection_state,
    ) -> None:
        uri = env.get("ECS_AGENT_URI", "")
        self._address = f"{uri}{PROTECTION_PATH}" if uri else ""
        self._busy, self._put = busy, put
        self._protected_at: float | None = None
        self._last_busy = float("-inf")
        self._failed = False

    @property
    def has_agent(self) -> bool:
        """Whether there is an agent to ask."""
        return bool(self._address)

    def tick(self, now: float) -> None:
        """Protects, renews or releases. What the agent refuses is said once and tried again at the next look."""
        if self._busy():
            self._last_busy = now
            if self._protected_at is None or now - self._protected_at >= PROTECTION_RENEW_SECONDS:
                self._send_state({"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}, now)
        elif self._protected_at is not None and now - self._last_busy >= UNPROTECT_AFTER_SECONDS:
            self._send_state({"ProtectionEnabled": False}, None)

    def run(self, ended: threading.Event, clock: Callable[[], float]) -> None:
        """Looks every second until `ended`."""
        while not ended.wait(1.0):
            self.tick(clock())

    def _send_state(self, state: dict[str, object], protected_at: float | None) -> None:
        try:
            self._put(self._address, json.dumps(state).encode())
            self._protected_at, self._failed = protected_at, False
        except (OSError, HTTPException) as error:
            if not self._failed:
                log.warning("the ECS agent does not protect this container from scale-in: %s", error)
            self._failed = True
