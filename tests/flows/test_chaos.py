"""A brief chaos on both emulators, and proof that its judge sees what it is there to see."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import ProtocolError

from tests.support import emulator
from tests.support.chaos import havoc, proxy, verdict
from tests.support.chaos.__main__ import table
from tests.support.chaos.cases import APP, Case, draw
from tests.support.chaos.run import Size, chaos
from tests.support.emulator import KEYS, Lab, ministack

BRIEF = Size(jobs=100, workers=3, seconds=14, seed=11, lease=3, calm_seconds=100, program_seconds=0.2)


@pytest.mark.parametrize("name", ["ministack", "roto"])
def test_amid_chaos_no_job_is_lost_and_every_result_and_record_is_right(name: str, tmp_path: Path) -> None:
    outcome = chaos(BRIEF, getattr(emulator, name), tmp_path)
    assert outcome.ok, f"{table(outcome, name)}\n{outcome.log[-20_000:]}"
    assert len({"kill", "stop", "spot notice", "freeze worker", "freeze machine"} & set(outcome.havoc)) >= 3
    assert sum(outcome.requests.values()) - outcome.requests["requests"] >= 20
    assert outcome.verdict.counts["done"] >= 90


def test_a_seed_gives_the_same_plan_again(tmp_path: Path) -> None:
    def plans(seed: int) -> tuple[list[Case], list[havoc.Event], list[str]]:
        faults = proxy.Faults(random.Random(seed))
        kinds = [faults.draw("s3") for _ in range(5000)]
        return draw(50, 1.0, tmp_path, random.Random(seed)), havoc.plan(random.Random(seed), 60, 4, 3), kinds

    assert plans(1) == plans(1)
    assert plans(1) != plans(2)
    assert set(plans(1)[2]) == {*proxy.SHARES, ""}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield Lab(url, tmp_path_factory.mktemp("lab"))


CODES = {
    "unavailable": {"s3": "ServiceUnavailable", "sqs": "ServiceUnavailable"},
    "throttled": {"s3": "SlowDown", "sqs": "RequestThrottled"},
}
# An answer that boto3 reads whole and that is cut off raises urllib3's error, which botocore does not make its own.
CONNECTION_ERRORS = (BotoCoreError, ProtocolError)


class End(verdict.End):
    """The end of one good job, which a test then spoils."""

    def __init__(self, lab: Lab, case: Case) -> None:
        self.bodies = case.outputs() | {case.nonce_key: b"n1", f"{verdict.RECORDS}{case.id}.1-abcdef.log.txt": b"n1\n"}
        super().__init__(lab, {}, [])
        outputs = [
            {
                "bucket": lab.name,
                "key": key,
                "size": len(body),
                "checksum_sha256": min(verdict.list_digests(body), key=len),
            }
            for key, body in self.bodies.items()
            if key.startswith(f"{APP}/")
        ]
        self.told: dict[str, Any] = {
            "state": "done", "attempts": 1, "outputs": outputs, "exit_code": 0, "reason": None,
            "started": "2026-11-23T10:45:00Z", "message": case.message,
            "bytes_out": sum(len(self.bodies[output["key"]]) for output in outputs),
            "log": f"s3://{lab.name}/{verdict.RECORDS}{case.id}.1-abcdef.log.txt",
        }  # fmt: skip

    def body(self, key: str) -> bytes | None:
        return self.bodies.get(key)

    def record(self, case: Case) -> dict[str, Any] | None:
        return self.told or None

    def judge(self, case: Case, folder: Path) -> set[str]:
        self.sizes = {key: len(body) for key, body in self.bodies.items()}
        return set(verdict.judge([case], self, folder).violations)


def _shorten(end: End, case: Case) -> None:
    key = next(iter(case.outputs()))
    end.bodies[key] = end.bodies[key][:-1]


def _bury(end: End, case: Case) -> None:
    end.dead = [{"Body": case.body, "MessageAttributes": {"reason": {}}}]


SPOILS: dict[str, Callable[[End, Case], None]] = {
    "an output is missing or incomplete": _shorten,
    "an output is from a different attempt than its record": lambda end, case: end.bodies.update(
        {case.nonce_key: b"n2"}
    ),
    "a log is not from the published attempt": lambda end, case: end.bodies.update(
        {f"{verdict.RECORDS}{case.id}.1-abcdef.log.txt": b"n3\n"}
    ),
    "a record does not list the job's outputs": lambda end, case: end.told["outputs"].pop(),
    "a record contains an incorrect size": lambda end, case: end.told["outputs"][0].update(size=1),
    "the record of a done job is incorrect": lambda end, case: end.told.update(exit_code=3),
    "a record's bytes_out is not the sum of its outputs": lambda end, case: end.told.update(bytes_out=1),
    "a worker moved a done job to the dead-letter queue": _bury,
    "a job is neither done nor in the dead-letter queue": lambda end, case: end.told.clear(),
    "an unexpected object within the app's prefixes": lambda end, case: end.bodies.update(
        {f"{APP}/{case.id}/partial.bin": b"x"}
    ),
    "an unexpected object outside the app's prefixes": lambda end, case: end.bodies.update({"elsewhere": b"x"}),
}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return next(case for case in draw(20, 1.0, tmp_path, random.Random(1)) if case.fate == "done")


def test_the_judge_finds_nothing_wrong_with_a_good_end(lab: Lab, case: Case, tmp_path: Path) -> None:
    assert End(lab, case).judge(case, tmp_path) == set()


@pytest.mark.parametrize("kind", SPOILS)
def test_the_judge_sees_what_is_wrong(kind: str, lab: Lab, case: Case, tmp_path: Path) -> None:
    end = End(lab, case)
    SPOILS[kind](end, case)
    assert kind in end.judge(case, tmp_path)


@pytest.mark.parametrize("fault", [kind for kind in proxy.SHARES if kind != "slow"])
@pytest.mark.parametrize("service", ["s3", "sqs"])
def test_each_fault_reaches_a_client_as_the_error_that_it_plays(fault: str, service: str, lab: Lab) -> None:
    class Always(proxy.Faults):
        def draw(self, service: str) -> str:
            return fault

    def ask(url: str) -> Any:
        told: dict[str, Any] = {
            "endpoint_url": url,
            "config": Config(retries={"total_max_attempts": 1}, read_timeout=5),
        }
        session = boto3.Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        if service == "s3":
            return session.client("s3", **told).get_object(Bucket=lab.name, Key="there")["Body"].read()
        return session.client("sqs", **told).get_queue_attributes(QueueUrl=lab.queue_url, AttributeNames=["All"])

    lab.put("there", b"0123456789")
    with (
        proxy.running(lab.s3.meta.endpoint_url, Always(random.Random(1), unanswered_seconds=0.1)) as between,
        pytest.raises(CONNECTION_ERRORS if fault not in CODES else ClientError) as found,
    ):
        ask(between.url)
    if fault in CODES:
        assert found.value.response["Error"]["Code"] == CODES[fault][service]


def test_without_a_fault_a_request_passes_as_it_is(lab: Lab) -> None:
    with proxy.running(lab.s3.meta.endpoint_url, proxy.Faults(random.Random(1), on=False)) as between:
        session = boto3.Session("test", "test", region_name="us-east-1")
        client = session.client("s3", endpoint_url=between.url)
        client.put_object(Bucket=lab.name, Key="a b/\u00e9", Body=b"x" * 100_000)
        assert client.head_object(Bucket=lab.name, Key="a b/\u00e9")["ContentLength"] == 100_000
        assert client.get_object(Bucket=lab.name, Key="a b/\u00e9")["Body"].read() == b"x" * 100_000
        sqs = session.client("sqs", endpoint_url=between.url)
        lab.send_text(json.dumps({"a": 1}))
        assert sqs.receive_message(QueueUrl=lab.queue_url)["Messages"][0]["ReceiptHandle"] == between.receipts[-1]
