"""Task scale-in protection: while this container has a job, ECS does not stop it when the service is scaled in.

The container requests protection from the ECS agent, whose address is in its environment. Outside ECS there is no
address, and no requests are made. Source: "Protect your Amazon ECS tasks from being terminated by scale-in events" in
the ECS developer guide.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from urllib.request import ProxyHandler, Request, build_opener

PROTECTION_MINUTES = 120  # ECS allows 1 to 2,880; a hung worker's protection expires after this time
PROTECTION_RENEW_SECONDS = 30 * 60.0
UNPROTECT_AFTER_SECONDS = 10.0  # without a job, so that not every short job causes a request
AGENT_TIMEOUT_SECONDS = 5.0
PROTECTION_PATH = "/task-protection/v1/state"
log = logging.getLogger("worker")


def put_protection_state(address: str, body: bytes) -> None:
    """Send the protection state to the agent. Raise OSError or HTTPException if the agent does not accept it."""
    request = Request(address, data=body, method="PUT", headers={"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=AGENT_TIMEOUT_SECONDS):
        pass


class ScaleInProtection:
    """This container's protection, as requested from the ECS agent.

    `has_jobs()` returns whether the container has a job. `tick(now)` updates the protection; `now` is a monotonic
    time in seconds.
    """

    def __init__(
        self,
        has_jobs: Callable[[], bool],
        env: Mapping[str, str] = os.environ,
        put_state: Callable[[str, bytes], None] = put_protection_state,
    ) -> None:
        uri = env.get("ECS_AGENT_URI", "")
        self._address = f"{uri}{PROTECTION_PATH}" if uri else ""
        self._has_jobs, self._put_state = has_jobs, put_state
        self._protected_at: float | None = None
        self._last_job_at = float("-inf")
        self._has_failed = False

    @property
    def has_agent(self) -> bool:
        """Whether there is an ECS agent."""
        return bool(self._address)

    def tick(self, now: float) -> None:
        """Request, renew, or release the protection. A failure is logged once and retried at the next tick."""
        if self._has_jobs():
            self._last_job_at = now
            if self._protected_at is None or now - self._protected_at >= PROTECTION_RENEW_SECONDS:
                self._send_state({"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}, now)
        elif self._protected_at is not None and now - self._last_job_at >= UNPROTECT_AFTER_SECONDS:
            self._send_state({"ProtectionEnabled": False}, None)

    def run(self, ended: threading.Event, clock: Callable[[], float]) -> None:
        """Update the protection every second until `ended`."""
        while not ended.wait(1.0):
            self.tick(clock())

    def _send_state(self, state: dict[str, object], protected_at: float | None) -> None:
        try:
            self._put_state(self._address, json.dumps(state).encode())
            self._protected_at, self._has_failed = protected_at, False
        except (OSError, HTTPException) as error:
            if not self._has_failed:
                log.warning("the ECS agent did not accept the scale-in protection; it will be retried: %s", error)
            self._has_failed = True
