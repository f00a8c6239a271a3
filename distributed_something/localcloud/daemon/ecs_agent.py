"""The ECS agent's task scale-in protection, played: one address a task, which ECS_AGENT_URI tells its container.

What a task asks for is refused as ECS refuses it: with status 200 and a `failure`. Sources: «Amazon ECS task scale-in
protection endpoint» and «… considerations» in ECS's guide; the status as in the agent's own code (`tmds`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from distributed_something.localcloud.play.services import RunningTask, ServiceSimulator

PROTECTION_STATE_PATH = "/task-protection/v1/state"
DEFAULT_PROTECTION_MINUTES, MAX_PROTECTION_MINUTES = 120, 2880
_REASON_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

TaskFinder = Callable[[str], tuple[ServiceSimulator, RunningTask] | None]


class AgentEndpoint:
    """A WSGI application at `…/TASK_ID/task-protection/v1/state`. `find`: the task of an id, where it runs."""

    def __init__(self, find: TaskFinder, now: Callable[[], float] = time.time) -> None:
        self._find, self._now = find, now

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, answer = self._answer(environ)
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {_REASON_PHRASES[status]}", headers)
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, Any]:
        path = environ["PATH_INFO"]
        found = (
            self._find(path.removesuffix(PROTECTION_STATE_PATH).rsplit("/", 1)[-1])
            if path.endswith(PROTECTION_STATE_PATH)
            else None
        )
        if found is None:
            return 404, build_agent_error(
                "", "ResourceNotFoundException", "unknown task, or not the endpoint of task protection"
            )
        services, run = found
        if environ["REQUEST_METHOD"] == "GET":
            return 200, self._build_protection_answer(run)
        if environ["REQUEST_METHOD"] != "PUT":
            return 405, build_agent_error(run.task.task_arn, "InvalidParameterException", "only GET and PUT are known")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return self._put(services, run, body)

    def _put(self, services: ServiceSimulator, run: RunningTask, body: bytes) -> tuple[int, Any]:
        try:
            minutes = parse_protection_minutes(body)
        except (ValueError, TypeError, KeyError) as reason:
            return 400, build_agent_error(run.task.task_arn, "InvalidParameterException", str(reason))
        now = self._now()
        refusal = services.find_protection_refusal(run, now) if minutes else None
        if refusal:
            return 200, {"failure": {"Arn": run.task.task_arn, "Detail": None, "Reason": refusal}}
        run.protected_until = now + minutes * 60 if minutes else 0.0
        return 200, self._build_protection_answer(run)

    def _build_protection_answer(self, run: RunningTask) -> Any:
        protection: dict[str, Any] = {"ProtectionEnabled": run.is_protected(self._now()), "TaskArn": run.task.task_arn}
        if protection["ProtectionEnabled"]:
            protection["ExpirationDate"] = datetime.fromtimestamp(run.protected_until, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        return {"protection": protection}


def parse_protection_minutes(body: bytes) -> int:
    """Minutes of protection; 0 for none. Raises ValueError, TypeError or KeyError for what ECS does not take."""
    state = json.loads(body)
    enabled, minutes = state["ProtectionEnabled"], state.get("ExpiresInMinutes", DEFAULT_PROTECTION_MINUTES)
    if not isinstance(enabled, bool):
        raise TypeError("ProtectionEnabled must be true or false")
    if not isinstance(minutes, int) or not 1 <= minutes <= MAX_PROTECTION_MINUTES:
        raise ValueError(f"ExpiresInMinutes must be from 1 to {MAX_PROTECTION_MINUTES}")
    return minutes if enabled else 0


def build_agent_error(arn: str, code: str, message: str) -> Any:
    return {"error": {"Arn": arn, "Code": code, "Message": message}}
