"""Messages of jobs that are through are deleted in batches, and none that SQS refuses does harm."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.fakes import QUEUE_URL
from worker.machinery.delete import BATCH, Deleter


class Sqs:
    """Remembers batches; a receipt named `refused` is, and the network may be down."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.down = False

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        if self.down:
            raise EndpointConnectionError(endpoint_url="sqs")
        self.batches.append([entry["ReceiptHandle"] for entry in Entries])
        return {"Failed": [{"Message": "stale"} for entry in Entries if entry["ReceiptHandle"] == "refused"]}


def test_no_call_has_more_messages_than_sqs_takes() -> None:
    deleter = Deleter(sqs := Sqs(), QUEUE_URL)
    for n in range(2 * BATCH + 3):
        deleter.delete(f"r{n}")
    deleter.send()
    assert [len(batch) for batch in sqs.batches] == [BATCH, BATCH, 3]
    deleter.send()
    assert len(sqs.batches) == 3


@pytest.mark.parametrize("down", [True, False])
def test_what_sqs_refuses_is_told_and_left_to_its_lease(caplog: pytest.LogCaptureFixture, down: bool) -> None:
    deleter = Deleter(sqs := Sqs(), QUEUE_URL)
    sqs.down = down
    deleter.delete("refused")
    with caplog.at_level(logging.WARNING):
        deleter.send()
    assert [record.getMessage().endswith("stale") for record in caplog.records] == [not down]


def test_all_is_sent_before_the_container_ends() -> None:
    deleter = Deleter(sqs := Sqs(), QUEUE_URL)
    sending = threading.Thread(target=deleter.run)
    sending.start()
    for n in range(25):
        deleter.delete(f"r{n}")
    deleter.end()
    sending.join(10)
    assert sorted(receipt for batch in sqs.batches for receipt in batch) == sorted(f"r{n}" for n in range(25))
