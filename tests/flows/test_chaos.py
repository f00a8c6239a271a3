"""A short chaos test on both emulators, and tests of its parts: the plan, the final checks, and the proxy."""

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

from distributed_something.worker import reject_truncated_responses
from tests.support import emulator
from tests.support.chaos import havoc, proxy, verdict
from tests.support.chaos.__main__ import format_outcome
from tests.support.chaos.cases import APP, Case, draw_cases
from tests.support.chaos.run import Size, run_chaos
from tests.support.emulator import KEYS, WorkerLab, run_ministack

BRIEF = Size(jobs=100, workers=3, seconds=14, seed=11, lease=3, calm_seconds=100, program_seconds=0.2)


LONG = Size(jobs=1000, workers=8, seconds=240, seed=7, calm_seconds=900)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ministack", "roto"])
def test_a_long_chaos_with_a_silent_s3_loses_nothing_and_every_container_is_gone_before_its_deadline(
    name: str, tmp_path: Path
) -> None:
    outcome = run_chaos(LONG, getattr(emulator, f"run_{name}"), tmp_path)
    assert outcome.is_ok, f"{format_outcome(outcome, name)}\n{outcome.log[-20_000:]}"
    assert {"s3 silence", "stop", "kill"} <= set(outcome.havoc)
    assert outcome.requests["s3 silence"] + outcome.requests["s3 silent"] >= 10
    assert outcome.requests["s3 trickle"] >= 5
    assert outcome.verdict.counts["done"] >= 950


@pytest.mark.parametrize("name", ["ministack", pytest.param("roto", marks=pytest.mark.long)])
def test_chaos_does_not_lose_jobs_and_every_result_and_record_is_correct(name: str, tmp_path: Path) -> None:
    outcome = run_chaos(BRIEF, getattr(emulator, f"run_{name}"), tmp_path)
    assert outcome.is_ok, f"{format_outcome(outcome, name)}\n{outcome.log[-20_000:]}"
    assert len({"kill", "stop", "spot notice", "freeze worker", "freeze machine"} & set(outcome.havoc)) >= 3
    assert sum(outcome.requests.values()) - outcome.requests["requests"] >= 20
    assert outcome.verdict.counts["done"] >= 90


def test_the_same_seed_produces_the_same_plan(tmp_path: Path) -> None:
    def build_plans(seed: int) -> tuple[list[Case], list[havoc.Event], list[str]]:
        faults = proxy.Faults(random.Random(seed))
        fault_kinds = [faults.draw("s3") for _ in range(5000)]
        return (
            draw_cases(50, 1.0, tmp_path, random.Random(seed)),
            havoc.draw_events(random.Random(seed), 60, 4, 3),
            fault_kinds,
        )

    assert build_plans(1) == build_plans(1)
    assert build_plans(1) != build_plans(2)
    assert set(build_plans(1)[2]) == {*proxy.SHARES, *proxy.S3_SHARES, ""}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield WorkerLab(url, tmp_path_factory.mktemp("lab"))


CODE_BY_FAULT = {
    "unavailable": {"s3": "ServiceUnavailable", "sqs": "ServiceUnavailable"},
    "throttled": {"s3": "SlowDown", "sqs": "RequestThrottled"},
}
# If a response body is cut off, urllib3 raises an error that botocore does not convert to one of its own.
CONNECTION_ERRORS = (BotoCoreError, ProtocolError)


class CorrectFinalState(verdict.End):
    """The state after one successful job. Each test then damages a part of the state."""

    def __init__(self, lab: WorkerLab, case: Case) -> None:
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
        self.record_content: dict[str, Any] = {
            "state": "done", "attempts": 1, "outputs": outputs, "exit_code": 0, "reason": None,
            "started": "2026-11-23T10:45:00Z", "message": case.message,
            "bytes_out": sum(len(self.bodies[output["key"]]) for output in outputs),
            "log": f"s3://{lab.name}/{verdict.RECORDS}{case.id}.1-abcdef.log.txt",
        }  # fmt: skip

    def body(self, key: str) -> bytes | None:
        return self.bodies.get(key)

    def record(self, case: Case) -> dict[str, Any] | None:
        return self.record_content or None

    def find_violations(self, case: Case, folder: Path) -> set[str]:
        self.sizes = {key: len(body) for key, body in self.bodies.items()}
        return set(verdict.check_cases([case], self, folder).violations)


def _shorten_output(end: CorrectFinalState, case: Case) -> None:
    key = next(iter(case.outputs()))
    end.bodies[key] = end.bodies[key][:-1]


def _add_to_dead_letter_queue(end: CorrectFinalState, case: Case) -> None:
    end.dead = [{"Body": case.body, "MessageAttributes": {"reason": {}}}]


DAMAGE_BY_VIOLATION: dict[str, Callable[[CorrectFinalState, Case], None]] = {
    "an output is missing or incomplete": _shorten_output,
    "an output is from a different attempt than its record": lambda end, case: end.bodies.update(
        {case.nonce_key: b"n2"}
    ),
    "a log is not from the published attempt": lambda end, case: end.bodies.update(
        {f"{verdict.RECORDS}{case.id}.1-abcdef.log.txt": b"n3\n"}
    ),
    "a record does not list the job's outputs": lambda end, case: end.record_content["outputs"].pop(),
    "a record contains an incorrect size": lambda end, case: end.record_content["outputs"][0].update(size=1),
    "the record of a done job is incorrect": lambda end, case: end.record_content.update(exit_code=3),
    "a record's bytes_out is not the sum of its outputs": lambda end, case: end.record_content.update(bytes_out=1),
    "a worker moved a done job to the dead-letter queue": _add_to_dead_letter_queue,
    "a job is neither done nor in the dead-letter queue": lambda end, case: end.record_content.clear(),
    "an unexpected object within the app's prefixes": lambda end, case: end.bodies.update(
        {f"{APP}/{case.id}/partial.bin": b"x"}
    ),
    "an unexpected object outside the app's prefixes": lambda end, case: end.bodies.update({"elsewhere": b"x"}),
}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return next(case for case in draw_cases(20, 1.0, tmp_path, random.Random(1)) if case.fate == "done")


def test_a_correct_final_state_has_no_violations(lab: WorkerLab, case: Case, tmp_path: Path) -> None:
    assert CorrectFinalState(lab, case).find_violations(case, tmp_path) == set()


@pytest.mark.parametrize("violation", DAMAGE_BY_VIOLATION)
def test_each_violation_is_reported(violation: str, lab: WorkerLab, case: Case, tmp_path: Path) -> None:
    end = CorrectFinalState(lab, case)
    DAMAGE_BY_VIOLATION[violation](end, case)
    assert violation in end.find_violations(case, tmp_path)


@pytest.mark.parametrize("fault", [fault for fault in proxy.SHARES if fault != "slow"])
@pytest.mark.parametrize("service", ["s3", "sqs"])
def test_each_fault_raises_the_matching_error_in_the_client(fault: str, service: str, lab: WorkerLab) -> None:
    class ConstantFault(proxy.Faults):
        def draw(self, service: str) -> str:
            return fault

    def send_request(url: str) -> Any:
        options: dict[str, Any] = {
            "endpoint_url": url,
            "config": Config(retries={"total_max_attempts": 1}, read_timeout=5),
        }
        session = boto3.Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        reject_truncated_responses(session)
        if service == "s3":
            return session.client("s3", **options).get_object(Bucket=lab.name, Key="input")["Body"].read()
        return session.client("sqs", **options).get_queue_attributes(QueueUrl=lab.queue_url, AttributeNames=["All"])

    lab.put_object("input", b"0123456789")
    with (
        proxy.run_proxy(
            lab.s3.meta.endpoint_url, ConstantFault(random.Random(1), unanswered_seconds=0.1)
        ) as fault_proxy,
        pytest.raises(CONNECTION_ERRORS if fault not in CODE_BY_FAULT else ClientError) as error,
    ):
        send_request(fault_proxy.url)
    if fault in CODE_BY_FAULT:
        assert error.value.response["Error"]["Code"] == CODE_BY_FAULT[fault][service]


@pytest.mark.parametrize("fault", proxy.S3_SHARES)
def test_a_silent_or_trickling_s3_makes_the_client_wait_until_it_gives_up(
    fault: str, lab: WorkerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ConstantFault(proxy.Faults):
        def draw(self, service: str) -> str:
            return fault

    monkeypatch.setattr(proxy, "TRICKLE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(proxy, "TRICKLE_SECONDS", 0.05)
    lab.put_object("input", b"0123456789")
    with proxy.run_proxy(lab.s3.meta.endpoint_url, ConstantFault(random.Random(1))) as fault_proxy:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=0.3)
        client = boto3.Session("test", "test", region_name="us-east-1").client(
            "s3", endpoint_url=fault_proxy.url, config=config
        )
        with pytest.raises(CONNECTION_ERRORS):
            client.get_object(Bucket=lab.name, Key="input")["Body"].read()


def test_without_a_fault_the_proxy_forwards_a_request_unchanged(lab: WorkerLab) -> None:
    with proxy.run_proxy(lab.s3.meta.endpoint_url, proxy.Faults(random.Random(1), on=False)) as fault_proxy:
        session = boto3.Session("test", "test", region_name="us-east-1")
        client = session.client("s3", endpoint_url=fault_proxy.url)
        client.put_object(Bucket=lab.name, Key="a b/\u00e9", Body=b"x" * 100_000)
        assert client.head_object(Bucket=lab.name, Key="a b/\u00e9")["ContentLength"] == 100_000
        assert client.get_object(Bucket=lab.name, Key="a b/\u00e9")["Body"].read() == b"x" * 100_000
        sqs = session.client("sqs", endpoint_url=fault_proxy.url)
        lab.send_text(json.dumps({"a": 1}))
        assert sqs.receive_message(QueueUrl=lab.queue_url)["Messages"][0]["ReceiptHandle"] == fault_proxy.receipts[-1]
