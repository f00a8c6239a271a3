"""Runs ministack with injected faults, difficult answers, an SQS operation that ministack lacks, and refusals if the
disk is full: ministack itself accepts objects that it cannot write, and loses them when it ends."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

import ministack.app
from ministack.services import s3, sqs

from distributed_something.localcloud.base.mode import is_strict
from distributed_something.localcloud.emulators.aws_requests import (
    Answer,
    build_xml_answer,
    find_service,
    parse_request,
)
from distributed_something.localcloud.emulators.faults import Fault, FaultGenerator
from distributed_something.localcloud.emulators.strict import StrictAnswers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

MIN_FREE_BYTES = 64 * 1024 * 1024  # for what is written at the same time, also by others
_FULL_DISK_STATUS = 507  # "Insufficient Storage"
_ministack_app = ministack.app.app
_fault_generator = FaultGenerator()
_strict_answers = StrictAnswers() if is_strict() else None


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
        if (refusal := _refuse_without_room(scope)) is not None:
            await _read_body(receive)
            await _send_answer(send, refusal)
            return
        serve = _serve_strictly if _strict_answers and scope["type"] == "http" else _ministack_app
        await serve(scope, receive, send)
        return
    if fault is Fault.RESPONSE_LOST:
        await _ministack_app(scope, receive, _discard_message)
    else:
        await _read_body(receive)
    is_json = any(name == b"x-amz-target" for name, _ in scope["headers"])
    status, content_type, content = _fault_generator.build_error_response(is_json=is_json)
    await _send_answer(send, Answer(status, (("content-type", content_type),), content))


def _refuse_without_room(scope: Scope) -> Answer | None:
    """Return the answer to an S3 request that stores something if the disk has no room for it."""
    if scope["type"] != "http" or scope["method"] not in ("PUT", "POST") or b"delete" in scope.get("query_string", b""):
        return None
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    if find_service(headers) != "s3":
        return None
    parts = sum(len(part["body"]) for upload in s3._multipart_uploads.values() for part in upload["parts"].values())
    free = shutil.disk_usage(".").free  # objects are below the current folder
    if free >= int(headers.get("content-length") or 0) + parts + MIN_FREE_BYTES:
        return None
    message = f"the disk of this computer is full: {free / 1e6:,.0f} MB are left"
    error = f"<Error><Code>InsufficientStorage</Code><Message>{escape(message)}</Message></Error>"
    return build_xml_answer(error, _FULL_DISK_STATUS)


async def _discard_message(_message: Any) -> None:
    return


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _serve_strictly(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request as AWS would where AWS is difficult. Requests of unknown operations are served as usual."""
    assert _strict_answers
    method, path, query = scope["method"], scope["path"], scope.get("query_string", b"").decode()
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    if parse_request(method, path, query, headers, b"") is None:  # an object, which is not held in memory
        await _ministack_app(scope, receive, send)
        return
    body = await _read_body(receive)
    request = parse_request(method, path, query, headers, body)
    forwarded = _strict_answers.intercept(request, time.time()) if request else None
    if isinstance(forwarded, Answer):
        await _send_answer(send, forwarded)
        return
    answer = await _ask_ministack(scope, forwarded.body if forwarded else body, receive)
    if request and forwarded:
        answer = _strict_answers.complete(request, forwarded, answer, time.time())
    await _send_answer(send, answer)


async def _ask_ministack(scope: Scope, body: bytes, receive: Receive) -> Answer:
    """Return ministack's answer to a request with another body."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
    changed = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive_body() -> Any:
        return messages.pop() if messages else await receive()

    async def note_message(message: Any) -> None:
        sent.append(message)

    await _ministack_app(changed, receive_body, note_message)
    lines = [(name.decode(), value.decode()) for name, value in sent[0].get("headers", ())]
    kept = tuple((name, value) for name, value in lines if name.lower() != "content-length")
    return Answer(sent[0]["status"], kept, b"".join(message.get("body", b"") for message in sent[1:]))


async def _send_answer(send: Send, answer: Answer) -> None:
    lines = [*answer.headers, ("content-length", str(len(answer.body)))]
    headers = [(name.encode(), value.encode()) for name, value in lines]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


if __name__ == "__main__":
    sqs._HANDLERS["ListDeadLetterSourceQueues"] = list_dead_letter_sources
    ministack.app.app = serve_with_faults
    ministack.app.main()
