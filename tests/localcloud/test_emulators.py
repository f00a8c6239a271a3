"""What is put into the emulators: what they lack, and faults for those who ask for them."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from distributed_something.localcloud.emulators.faults import (
    RATE_VARIABLE,
    SEED_VARIABLE,
    Fault,
    FaultGenerator,
)
from tests.support.local_lab import Lab


def test_service_linked_roles_have_awss_names(lab: Lab) -> None:
    iam = lab.cloud.build_client("iam")
    for service, name in (("spot", "EC2Spot"), ("spotfleet", "EC2SpotFleet"), ("ecs", "ECS")):
        made = iam.create_service_linked_role(AWSServiceName=f"{service}.amazonaws.com")
        assert made["Role"]["RoleName"] == f"AWSServiceRoleFor{name}"


def test_a_dead_letter_queue_knows_the_queues_that_feed_it(lab: Lab) -> None:
    sqs = lab.cloud.build_client("sqs")
    dead = sqs.create_queue(QueueName="rotten")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    feeding = sqs.create_queue(QueueName="fresh", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    sqs.create_queue(QueueName="rotten-not")
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [feeding]
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.list_dead_letter_source_queues(QueueUrl=f"{dead}-gone")


def draw_faults(rate: str, seed: str, count: int = 2000) -> list[Fault]:
    faults = FaultGenerator({RATE_VARIABLE: rate, SEED_VARIABLE: seed})
    return [faults.draw_fault() for _ in range(count)]


def test_faults_befall_the_share_of_calls_that_was_asked_for_and_none_unasked() -> None:
    assert set(draw_faults("", "1")) == {Fault.NONE}
    counts = Counter(draw_faults("0.1", "1"))
    assert 150 <= counts[Fault.REFUSED] + counts[Fault.ANSWER_LOST] <= 250
    assert 0 < counts[Fault.ANSWER_LOST] < counts[Fault.REFUSED]


def test_a_seed_gives_the_same_faults_again() -> None:
    assert draw_faults("0.3", "5") == draw_faults("0.3", "5")
    assert draw_faults("0.3", "5") != draw_faults("0.3", "6")


def test_a_refusal_speaks_the_callers_protocol() -> None:
    faults = FaultGenerator({})
    of_json, of_xml = ([faults.build_refusal(is_json=kind) for _ in range(50)] for kind in (True, False))
    assert {(status, json.loads(body)["__type"]) for status, _, body in of_json} == {
        (400, "ThrottlingException"),
        (503, "ServiceUnavailable"),
    }
    assert {status for status, _, _ in of_xml} == {503}
    assert all(body.startswith(b"<Error><Code>") for _, _, body in of_xml)
