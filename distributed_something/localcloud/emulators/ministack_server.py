"""ministack with what the commands need of SQS and it lacks, and with faults on purpose where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app
from ministack.services import sqs

from distributed_something.localcloud.emulators.faults import Fault, FaultAnswer, FaultGenerator

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_ministack_app = ministack.app.app
_fault_generator = FaultGenerator()


def list_dead_letter_sources(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """ListDeadLetterSourceQueues: the queues whose redrive policy names this one."""
    queue = sqs._queues.get(request.get("QueueUrl", ""))
    if queue is None:
        raise sqs._Err("QueueDoesNotExist", "The specified queue does not exist.")
    name = queue["name"]

    def feeds(attributes: dict[str, str]) -> bool:
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return bool(str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1] == name)

    return {"queueUrls": [url for url, one in sqs._queues.items() if feeds(one["attributes"])]}


async def serve_with_faults(scope: Scope, receive: Receive, send: Send) -> None:
    """ministack's application behind a draw of faults; its own health page is spared."""
    path = str(scope.get("path", ""))
    fault = Fault.NONE if scope["type"] != "http" or path.startswith("/_ministack") else _fault_generator.draw_fault()
    if fault is Fault.NONE:
        await _ministack_app(scope, receive, send)
        return
    if fault is Fault.ANSWER_LOST:
        await _ministack_app(scope, receive, _discard_message)
    else:
        await _read_request_body(receive)
    is_json = any(name == b"x-amz-target" for name, _ in scope["headers"])
    await _send_answer(send, _fault_generator.build_refusal(is_json=is_json))


async def _discard_message(_message: Any) -> None:
    return


async def _read_request_body(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _send_answer(send: Send, answer: FaultAnswer) -> None:
    status, content_type, body = answer
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    sqs._HANDLERS["ListDeadLetterSourceQueues"] = list_dead_letter_sources
    ministack.app.app = serve_with_faults
    ministack.app.main()
