"""The worker's own clients of AWS."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.emulator import KEYS
from worker.machinery.clients import Clients


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return Clients(2)


def test_an_upload_is_sent_in_one_round_trip(clients: Clients) -> None:
    s3, headers = clients("s3"), list[Any]()

    class Sent(Exception):
        pass

    def look(request: Any, **_: Any) -> None:
        headers.append({name.lower() for name in request.headers})
        raise Sent

    s3.meta.events.register("before-send.s3", look)
    with pytest.raises(Sent):
        s3.put_object(Bucket="bucket", Key="key", Body=io.BytesIO(b"x"))
    assert "expect" not in headers[0]


def test_a_log_is_not_waited_for_as_long_as_a_job(clients: Clients) -> None:
    assert (
        clients("logs").meta.config.retries["total_max_attempts"]
        < clients("sqs").meta.config.retries["total_max_attempts"]
    )
    assert clients("logs").meta.config.read_timeout < clients("s3").meta.config.read_timeout
