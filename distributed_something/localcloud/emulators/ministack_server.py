"""Runs ministack with injected faults, and with an SQS operation that the commands need but ministack lacks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app
from ministack.services import sqs

from distributed_something.localcloud.emulators.faults import Fault, FaultGenerator, FaultResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_ministack_app = ministack.app.app
_fault_generator = FaultGenerator()


def list_dead_letter_sources(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """Return SQS's response to ListDeadLetterSourceQueues: the queues whose redrive policy points to this queue."""
    queue = sqs._queues.get(request.get("QueueUrl", ""))
    if queue is None:
        raise sqs._Err("QueueDoesNotExist", "The specified queue does not exist.")
    name = queue["name"]

    def is_source(attributes: dict[str, str]) -> bool:
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return bool(str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1] == name)

    return {"queueUrls": [url for url, queue in sqs._queues.items() if is_source(queue["attributes"])]}


async def serve_with_faults(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request with ministack's application, or fail it with a random fault. Health checks never fail."""
    path = str(scope.get("path", ""))
    fault = Fault.NONE if scope["type"] != "http" or path.startswith("/_ministack") else _fault_generator.draw_fault()
    if fault is Fault.NONE:
        await _ministack_app(scope, receive, send)
        return
    if fault is Fault.RESPONSE_LOST:
        await _ministack_app(scope, receive, _discard_message)
    else:
        await _read_request_body(receive)
    is_json = any(name == b"x-amz-target" for name, _ in scope["headers"])
    await _send_response(send, _fault_generator.build_error_response(is_json=is_json))


async def _discard_message(_message: Any) -> None:
    return


async def _read_request_body(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _send_response(send: Send, response: FaultResponse) -> None:
    status, content_type, body = response
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    sqs._HANDLERS["ListDeadLetterSourceQueues"] = list_dead_letter_sources
    ministack.app.app = serve_with_faults
    ministack.app.main()
