"""Task scale-in protection: while this container has a job, ECS does not stop it when the service is scaled in.

The container requests protection from the ECS agent, whose address is in its environment. Outside ECS there is no
address, and no requests are made. Source: "Protect your Amazon ECS tasks from being terminated by scale-in events" in
the ECS developer guide.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

PROTECTION_MINUTES = 13 * 60  # ECS allows 1 to 2,880; a job runs for at most 12 hours (SQS's visibility limit)
PROTECTION_RENEW_SECONDS = 30 * 60.0
UNPROTECT_AFTER_SECONDS = 10.0  # without a job, so that not every short job causes a request
RETRY_SECONDS = (30.0, 60.0)  # after a refusal; at random, so that many containers do not ask at the same time
AGENT_TIMEOUT_SECONDS = 5.0
MAX_REFUSAL_CHARACTERS = 300
PROTECTION_PATH = "/task-protection/v1/state"
log = logging.getLogger("worker")


def put_protection_state(address: str, body: bytes) -> Any:
    """Send the protection state to the agent, and return its response, a JSON object.

    The agent sends most refusals with status 200 and the key `failure` or `error` instead of `protection`. Raise
    OSError, HTTPException, or ValueError if the agent cannot be reached or does not respond as documented.
    """
    request = Request(address, data=body, method="PUT", headers={"Content-Type": "application/json"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=AGENT_TIMEOUT_SECONDS) as response:
            return json.loads(response.read())
    except HTTPError as error:
        with error:
            return json.loads(error.read())


class ProtectionRefusal(NamedTuple):
    """Why ECS refused the protection. `code`: ECS's, such as DEPLOYMENT_BLOCKED, or ""; `reason`: with its details."""

    code: str
    reason: str


class ScaleInProtection:
    """This container's protection, as requested from the ECS agent.

    `has_jobs()` returns whether the container has a job. Times are monotonic, in seconds. `choose_pause` returns how
    long to wait after a refusal, in seconds.
    """

    def __init__(
        self,
        has_jobs: Callable[[], bool],
        env: Mapping[str, str] = os.environ,
        put_state: Callable[[str, bytes], Any] = put_protection_state,
        choose_pause: Callable[[], float] = lambda: random.uniform(*RETRY_SECONDS),
    ) -> None:
        uri = env.get("ECS_AGENT_URI", "")
        self._address = f"{uri}{PROTECTION_PATH}" if uri else ""
        self._has_jobs, self._put_state, self._choose_pause = has_jobs, put_state, choose_pause
        self._lock = threading.Lock()
        self._protected_until = self._renew_at = self._retry_at = self._last_job_at = float("-inf")
        self._logged_problem = ""
        self._refusal: ProtectionRefusal | None = None

    @property
    def refusal(self) -> ProtectionRefusal | None:
        """Why ECS refused the last request; None if it did not."""
        return self._refusal

    @property
    def has_agent(self) -> bool:
        """Whether there is an ECS agent."""
        return bool(self._address)

    def request_for_job(self, now: float) -> float:
        """Request protection before a new job begins, and return how many seconds to take no jobs; usually 0.

        If ECS refuses the protection, it may stop this container at any time, so the job must be returned to the queue.
        If the agent cannot be reached, the job begins without protection: if it is interrupted, it is repeated.
        """
        if not self.has_agent:
            return 0.0
        with self._lock:
            self._last_job_at = now
            if now < self._protected_until:
                return 0.0
            if now >= self._retry_at:
                self._request_protection(now)
            return max(0.0, self._retry_at - now) if self._refusal else 0.0

    def tick(self, now: float) -> None:
        """Renew the protection while there are jobs; release it when there have been none for a while."""
        with self._lock:
            if self._has_jobs():
                self._last_job_at = now
                if now >= max(self._renew_at, self._retry_at):
                    self._request_protection(now)
            elif now < self._protected_until and now >= max(
                self._last_job_at + UNPROTECT_AFTER_SECONDS, self._retry_at
            ):
                self._release_protection(now)

    def run(self, ended: threading.Event, clock: Callable[[], float]) -> None:
        """Update the protection every second until `ended`."""
        while not ended.wait(1.0):
            self.tick(clock())

    def _request_protection(self, now: float) -> None:
        if self._send_state({"ProtectionEnabled": True, "ExpiresInMinutes": PROTECTION_MINUTES}, now):
            self._protected_until = now + PROTECTION_MINUTES * 60
            self._renew_at = now + PROTECTION_RENEW_SECONDS

    def _release_protection(self, now: float) -> None:
        if self._send_state({"ProtectionEnabled": False}, now):
            self._protected_until = self._renew_at = float("-inf")

    def _send_state(self, state: dict[str, object], now: float) -> bool:
        """Return whether ECS accepted the state. Otherwise, wait before the next request, and log each new problem."""
        self._refusal = None
        try:
            response = self._put_state(self._address, json.dumps(state).encode())
        except (OSError, HTTPException, ValueError) as error:
            problem = f"the ECS agent did not respond to a request for scale-in protection: {error}"
        else:
            protection = response.get("protection") if isinstance(response, dict) else None
            if isinstance(protection, dict) and protection.get("ProtectionEnabled") is state["ProtectionEnabled"]:
                self._logged_problem = ""
                return True
            self._refusal = _parse_refusal(response)
            problem = f"ECS refused to change this container's scale-in protection: {self._refusal.reason}"
        self._retry_at = now + self._choose_pause()
        self._log_problem(problem)
        return False

    def _log_problem(self, problem: str) -> None:
        if problem != self._logged_problem:
            log.warning("%s (it will be retried)", problem)
        self._logged_problem = problem


def _parse_refusal(response: Any) -> ProtectionRefusal:
    """Return what the agent's `failure` or `error` object says as one line; otherwise, the whole response."""
    content = response if isinstance(response, dict) else {}
    details = next((value for key in ("failure", "error") if isinstance(value := content.get(key), dict)), {})
    reasons = [str(details[key]) for key in ("Reason", "Code", "Detail", "Message") if details.get(key)]
    reason = " ".join((": ".join(reasons) or str(response)).split())[:MAX_REFUSAL_CHARACTERS]
    return ProtectionRefusal(str(details.get("Reason") or details.get("Code") or ""), reason)
