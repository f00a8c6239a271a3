"""Features that are added to the emulators, and injected faults."""

from __future__ import annotations

import json
from collections import Counter

import pytest

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
