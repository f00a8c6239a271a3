"""The ECS agent's endpoint for task scale-in protection. Each task has its own address, given in ECS_AGENT_URI.

Like the real ECS agent, it denies protection with status 200 and a `failure` object. The ECS
Developer Guide describes this on the pages "Amazon ECS task scale-in protection endpoint" and "Task scale-in protection
considerations"; the status comes from the agent's source code (`tmds`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from distributed_something.localcloud.emulators.faults import DifficultAnswers
from distributed_something.localcloud.play.services import RunningTask, ServiceSimulator

PROTECTION_STATE_PATH = "/task-protection/v1/state"
DEFAULT_PROTECTION_MINUTES, MAX_PROTECTION_MINUTES = 120, 2880
_REASON_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

TaskFinder = Callable[[str], tuple[ServiceSimulator, RunningTask] | None]


class AgentEndpoint:
    """WSGI application at `…/TASK_ID/task-protection/v1/state`. `find_task` finds a running task by its ID."""

    def __init__(
        self, find_task: TaskFinder, now: Callable[[], float] = time.time, faults: DifficultAnswers | None = None
    ) -> None:
        self._find_task, self._now, self._faults = find_task, now, faults or DifficultAnswers()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, response = self._build_response(environ)
        body = json.dumps(response).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {_REASON_PHRASES[status]}", headers)
        return [body]

    def _build_response(self, environ: dict[str, Any]) -> tuple[int, Any]:
        path = environ["PATH_INFO"]
        match = (
            self._find_task(path.removesuffix(PROTECTION_STATE_PATH).rsplit("/", 1)[-1])
            if path.endswith(PROTECTION_STATE_PATH)
            else None
        )
        if match is None:
            return 404, build_agent_error(
                "", "ResourceNotFoundException", "unknown task, or not the task protection endpoint"
            )
        services, running_task = match
        arn = running_task.task.task_arn
        if environ["REQUEST_METHOD"] == "GET":
            return 200, self._describe_protection(running_task)
        if environ["REQUEST_METHOD"] != "PUT":
            return 405, build_agent_error(arn, "InvalidParameterException", "only GET and PUT are supported")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return self._set_protection(services, running_task, body)

    def _set_protection(self, services: ServiceSimulator, running_task: RunningTask, body: bytes) -> tuple[int, Any]:
        arn = running_task.task.task_arn
        try:
            minutes = parse_protection_minutes(body)
        except (ValueError, TypeError, KeyError) as error:
            return 400, build_agent_error(arn, "InvalidParameterException", str(error))
        now = self._now()
        refusal = services.find_protection_refusal(running_task, now) if minutes else None
        if minutes and not refusal and self._faults.refuse_protection():
            refusal = "DEPLOYMENT_BLOCKED"
        if refusal:
            return 200, {"failure": {"Arn": arn, "Detail": None, "Reason": refusal}}
        running_task.task.protected_until = now + minutes * 60 if minutes else 0.0
        return 200, self._describe_protection(running_task)

    def _describe_protection(self, running_task: RunningTask) -> Any:
        is_protected = running_task.is_protected(self._now())
        protection: dict[str, Any] = {"ProtectionEnabled": is_protected, "TaskArn": running_task.task.task_arn}
        if is_protected:
            expiration = datetime.fromtimestamp(running_task.task.protected_until, UTC)
            protection["ExpirationDate"] = expiration.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"protection": protection}


def parse_protection_minutes(body: bytes) -> int:
    """Return the minutes of protection; 0 turns it off.

    Raise ValueError, TypeError, or KeyError if ECS would reject the request.
    """
    state = json.loads(body)
    enabled, minutes = state["ProtectionEnabled"], state.get("ExpiresInMinutes", DEFAULT_PROTECTION_MINUTES)
    if not isinstance(enabled, bool):
        raise TypeError("ProtectionEnabled must be true or false")
    if not isinstance(minutes, int) or not 1 <= minutes <= MAX_PROTECTION_MINUTES:
        raise ValueError(f"ExpiresInMinutes must be from 1 to {MAX_PROTECTION_MINUTES}")
    return minutes if enabled else 0


def build_agent_error(arn: str, code: str, message: str) -> Any:
    return {"error": {"Arn": arn, "Code": code, "Message": message}}
