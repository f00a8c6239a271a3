"""Leases: extended in time, in few calls, and lost where SQS says so or nobody could be asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.machine.times import read_boot_clock

HOUR = 3600
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def batch(first: int, last: int, first_id: int = 0) -> dict[str, Any]:
    """The request that extends the leases of receipts `first` to `last`."""
    entries = [
        {"Id": str(n), "ReceiptHandle": f"r{receipt}", "VisibilityTimeout": 30}
        for n, receipt in enumerate(range(first, last + 1), first_id)
    ]
    return {"QueueUrl": URL, "Entries": entries}


def extended(count: int, *refused: str) -> dict[str, Any]:
    successful = [{"Id": str(n)} for n in range(count) if str(n) not in refused]
    failed = [{"Id": one, "SenderFault": True, "Code": "MessageNotInflight"} for one in refused]
    return {"Successful": successful, "Failed": failed}


@pytest.fixture
def sqs() -> Any:
    return boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def test_leases_are_extended_in_batches_of_ten(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(12)]
    clock.now += 10
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(10), batch(0, 9))
        stub.add_response("change_message_visibility_batch", extended(2), batch(10, 11))
        keeper.tick()
        stub.assert_no_pending_responses()
    assert {lease.expires for lease in leases} == {1040.0}


def test_a_lease_that_sqs_refuses_to_extend_is_lost_and_the_others_are_not(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(3)]
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(3, "1"), batch(0, 2))
        keeper.tick()
    assert [lease.is_lost for lease in leases] == [False, True, False]


def test_a_lease_that_could_not_be_extended_before_it_ended_is_lost(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    lease = keeper.add_lease("r0", clock())
    lost = []
    with Stubber(sqs) as stub:
        for _ in range(3):
            stub.add_client_error("change_message_visibility_batch", "ServiceUnavailable", http_status_code=503)
            clock.now += 10
            keeper.tick()
            lost.append(lease.is_lost)
    assert lost == [False, False, True]


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has a clock that goes on meanwhile")
def test_a_lease_runs_out_while_the_computer_sleeps(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    awake, asleep = time.clock_gettime(time.CLOCK_BOOTTIME), 3600.0
    held = LeaseKeeper(sqs, URL, 30, read_boot_clock).add_lease("r0", read_boot_clock())
    assert not held.is_lost
    monkeypatch.setattr(time, "clock_gettime", lambda which: awake + asleep if which == time.CLOCK_BOOTTIME else awake)
    assert held.is_lost


@pytest.mark.parametrize(
    "odd", [b"null", b"[]", b'"x"', b"\xff\xfe", b'{"Successful": [{"Id": "z"}]}', b'{"Successful": [{"Id": "99"}]}',
            b'{"Successful": [null]}', b'{"Failed": [{"Id": "-1", "SenderFault": true}]}', b"<html>", b""]
)  # fmt: skip
def test_an_odd_answer_ends_neither_the_round_nor_the_leases(sqs: Any, odd: bytes) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(11)]
    right = json.dumps({"Successful": [{"Id": "0"}]}).encode()
    answers = [odd, right, json.dumps(extended(10)).encode(), right]

    def answer(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {}, Raw(answers.pop(0)))

    sqs.meta.events.register("before-send.sqs", answer)
    clock.now += 10
    keeper.tick()
    assert {lease.expires for lease in leases[:10]} == {1030.0}
    assert leases[10].expires == 1040.0
    keeper.tick()
    assert {lease.expires for lease in leases} == {1040.0}
    assert not any(lease.is_lost for lease in leases)


class Raw:
    """The bytes of an answer, as botocore reads them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def test_a_lease_that_is_lost_is_not_extended_any_more(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    keeper.add_lease("r0", clock())
    clock.now += 30
    keeper.add_lease("r1", clock())
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(1), batch(1, 1, first_id=1))
        keeper.tick()
        stub.assert_no_pending_responses()


def test_a_released_lease_is_not_extended(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    keeper.release_lease(keeper.add_lease("r0", clock()))
    with Stubber(sqs):
        keeper.tick()


def test_a_lease_is_extended_up_to_sqss_twelve_hours_and_not_refused_for_asking_more(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 8 * HOUR, clock := Clock())
    lease = keeper.add_lease("r0", clock(), age=HOUR)  # received an hour ago by another worker
    asked: list[int] = []
    with Stubber(sqs) as stub:
        sqs.meta.events.register(
            "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
            lambda params, **_: asked.extend(entry["VisibilityTimeout"] for entry in params["Entries"]),
        )
        for _ in range(2):
            stub.add_response("change_message_visibility_batch", extended(1))
            clock.now += 2 * HOUR
            keeper.tick()
        clock.now += 7 * HOUR
        keeper.tick()  # nothing to ask for any more
    assert asked == [8 * HOUR, 7 * HOUR - 60]
    assert lease.is_lost
