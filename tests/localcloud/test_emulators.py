"""Features that are added to the emulators, and injected faults."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.localcloud.emulators import ministack_server
from distributed_something.localcloud.emulators.faults import (
    NOT_JOINING_VARIABLE,
    RATE_VARIABLE,
    REFUSAL_RATE_VARIABLE,
    SEED_VARIABLE,
    DifficultAnswers,
    Fault,
    FaultGenerator,
)
from tests.support.local_lab import Lab


def test_service_linked_roles_have_the_same_names_as_on_aws(lab: Lab) -> None:
    iam = lab.cloud.build_client("iam")
    for service, name in (("spot", "EC2Spot"), ("spotfleet", "EC2SpotFleet"), ("ecs", "ECS")):
        response = iam.create_service_linked_role(AWSServiceName=f"{service}.amazonaws.com")
        assert response["Role"]["RoleName"] == f"AWSServiceRoleFor{name}"


def test_the_source_queues_of_a_dead_letter_queue_are_listed(lab: Lab) -> None:
    sqs = lab.cloud.build_client("sqs")
    dead_letter_url = sqs.create_queue(QueueName="rotten")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=dead_letter_url, AttributeNames=["QueueArn"])["Attributes"]
    redrive = json.dumps({"deadLetterTargetArn": attributes["QueueArn"], "maxReceiveCount": "3"})
    source_url = sqs.create_queue(QueueName="fresh", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    sqs.create_queue(QueueName="unrelated")
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead_letter_url)["queueUrls"] == [source_url]
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.list_dead_letter_source_queues(QueueUrl=f"{dead_letter_url}-missing")


def ask_ministack(method: str, query: str, length: int, service: str = "s3") -> tuple[int, bytes]:
    """Return the status and the body of ministack's answer to a request about an object."""
    headers = {"authorization": f"Credential=test/20261201/us-east-1/{service}/aws4_request", "content-length": length}
    scope = {"type": "http", "method": method, "path": "/no-such-bucket/key", "query_string": query.encode(),
             "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()]}  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(ministack_server.serve_with_faults(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("method", "query", "length", "is_refused"),
    [
        ("PUT", "", 1000, False),
        ("PUT", "", 1001, True),
        ("PUT", "partNumber=1&uploadId=u", 1001, True),
        ("POST", "uploads", 0, False),
        ("POST", "delete", 1001, False),
        ("DELETE", "", 1001, False),
        ("GET", "", 1001, False),
    ],
)
def test_an_object_for_which_the_disk_has_no_room_is_refused(
    monkeypatch: pytest.MonkeyPatch, method: str, query: str, length: int, *, is_refused: bool
) -> None:
    """ministack would accept it, and lose it when it ends."""
    usage = SimpleNamespace(free=ministack_server.MIN_FREE_BYTES + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    status, body = ask_ministack(method, query, length)
    assert (status == 507) is is_refused
    assert (b"the disk of this computer is full: 67 MB are left" in body) is is_refused


def test_parts_of_unfinished_uploads_need_room_too_because_they_are_in_memory_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = SimpleNamespace(free=ministack_server.MIN_FREE_BYTES + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    monkeypatch.setitem(ministack_server.s3._multipart_uploads, "u", {"parts": {1: {"body": bytes(1001)}}})
    assert ask_ministack("POST", "uploadId=u", 0)[0] == 507
    assert ask_ministack("POST", "", 0, service="sns")[0] != 507


def draw_faults(rate: str, seed: str, count: int = 2000) -> list[Fault]:
    faults = FaultGenerator({RATE_VARIABLE: rate, SEED_VARIABLE: seed})
    return [faults.draw_fault() for _ in range(count)]


def test_the_fault_rate_matches_its_variable_and_is_zero_by_default() -> None:
    assert set(draw_faults("", "1")) == {Fault.NONE}
    counts = Counter(draw_faults("0.1", "1"))
    assert 150 <= counts[Fault.REJECTED] + counts[Fault.RESPONSE_LOST] <= 250
    assert 0 < counts[Fault.RESPONSE_LOST] < counts[Fault.REJECTED]


def test_the_same_seed_gives_the_same_faults() -> None:
    assert draw_faults("0.3", "5") == draw_faults("0.3", "5")
    assert draw_faults("0.3", "5") != draw_faults("0.3", "6")


def test_an_error_response_uses_the_callers_protocol() -> None:
    faults = FaultGenerator({})
    json_errors, xml_errors = (
        [faults.build_error_response(is_json=is_json) for _ in range(50)] for is_json in (True, False)
    )
    assert {(status, json.loads(body)["__type"]) for status, _, body in json_errors} == {
        (400, "ThrottlingException"),
        (503, "ServiceUnavailable"),
    }
    assert {status for status, _, _ in xml_errors} == {503}
    assert all(body.startswith(b"<Error><Code>") for _, _, body in xml_errors)


def test_difficult_answers_are_given_only_if_they_are_switched_on() -> None:
    usual = DifficultAnswers({})
    assert not any(usual.refuse_protection() or usual.lose_machine() for _ in range(100))
    difficult = DifficultAnswers({REFUSAL_RATE_VARIABLE: "0.3", NOT_JOINING_VARIABLE: "2"})
    assert 200 < sum(difficult.refuse_protection() for _ in range(1000)) < 400
    assert [difficult.lose_machine() for _ in range(4)] == [True, True, False, False]
