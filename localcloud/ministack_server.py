"""ministack with what the commands need of SQS and it lacks, and with faults on purpose where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app
from ministack.services import sqs

from .faults import Answer, Fault, Faults

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_inner = ministack.app.app
_faults = Faults()


def dead_letter_sources(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """ListDeadLetterSourceQueues: the queues whose redrive policy names this one."""
    queue = sqs._queues.get(request.get("QueueUrl", ""))
    if queue is None:
        raise sqs._Err("QueueDoesNotExist", "The specified queue does not exist.")
    name = queue["name"]

    def feeds(attributes: dict[str, str]) -> bool:
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return bool(str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1] == name)

    return {"queueUrls": [url for url, one in sqs._queues.items() if feeds(one["attributes"])]}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """ministack's application behind a draw of faults; its own health page is spared."""
    path = str(scope.get("path", ""))
    fault = Fault.NONE if scope["type"] != "http" or path.startswith("/_ministack") else _faults.draw()
    if fault is Fault.NONE:
        await _inner(scope, receive, send)
        return
    if fault is Fault.ANSWER_LOST:
        await _inner(scope, receive, _to_nowhere)
    else:
        await _read_all(receive)
    is_json = any(name == b"x-amz-target" for name, _ in scope["headers"])
    await _send_answer(send, _faults.answer(is_json=is_json))


async def _to_nowhere(_message: Any) -> None:
    return


async def _read_all(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _send_answer(send: Send, answer: Answer) -> None:
    status, content_type, body = answer
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    sqs._HANDLERS["ListDeadLetterSourceQueues"] = dead_letter_sources
    ministack.app.app = app
    ministack.app.main()
