"""How the local cloud answers if it is to answer like AWS where AWS is difficult. The clock is passed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from distributed_something.localcloud.base.endpoints import DUMMY_CREDENTIALS, OWN_ACCESS_KEY
from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.mode import STRICT_VARIABLE, check_mode, describe_other_mode, is_strict
from distributed_something.localcloud.emulators.aws_requests import Answer, AwsRequest, build_json_answer, parse_request
from distributed_something.localcloud.emulators.faults import REFUSAL_RATE_VARIABLE, DifficultAnswers
from distributed_something.localcloud.emulators.strict import StrictAnswers
from distributed_something.localcloud.emulators.strict_rules import AFTEREFFECTS, DELAY_SECONDS, RATES

USER = DUMMY_CREDENTIALS["AWS_ACCESS_KEY_ID"]


def build_request(operation: str, key: str = USER, region: str = "us-east-1", **parameters: Any) -> AwsRequest:
    """Return a request with a JSON body or, for EC2 and IAM, with a form."""
    service, _, action = operation.partition(".")
    headers = {"authorization": f"AWS4-HMAC-SHA256 Credential={key}/20261130/{region}/{service}/aws4_request, …"}
    if service in ("ec2", "iam"):
        body = urlencode({"Action": action, **parameters})
    else:
        body = json.dumps(parameters)
        headers["x-amz-target"] = f"Prefix.{action}"
    request = parse_request("POST", "/", "", headers, body.encode())
    assert request is not None
    return request


class Cloud:
    """An emulator that answers every request with `result`, behind the difficult answers."""

    def __init__(self) -> None:
        self.strict, self.now = StrictAnswers(), 1000.0
        self.forwarded: list[AwsRequest] = []

    def call(self, request: AwsRequest, result: Mapping[str, Any] | bytes = b"<Response/>") -> Answer:
        forwarded = self.strict.intercept(request, self.now)
        if isinstance(forwarded, Answer):
            return forwarded
        self.forwarded.append(forwarded)
        answer = Answer(200, (), result) if isinstance(result, bytes) else build_json_answer(result)
        return self.strict.complete(request, forwarded, answer, self.now)

    def call_json(self, operation: str, result: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
        """Return the content of an answer in JSON."""
        return json.loads(self.call(build_request(operation, **parameters), result or {}).body)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def test_only_the_variable_switches_the_difficult_answers_on() -> None:
    assert is_strict({STRICT_VARIABLE: "strict"})
    assert not any(is_strict(environment) for environment in ({}, {STRICT_VARIABLE: ""}, {STRICT_VARIABLE: "1"}))


def test_ecs_refuses_some_protection_in_strict_mode_unless_another_rate_is_given() -> None:
    def count_refusals(**more: str) -> int:
        answers = DifficultAnswers({STRICT_VARIABLE: "strict", **more})
        return sum(answers.refuse_protection() for _ in range(1000))

    assert 60 < count_refusals() < 140
    assert count_refusals(**{REFUSAL_RATE_VARIABLE: "1"}) == 1000


# A request's operation


@pytest.mark.parametrize(
    ("method", "path", "query", "service", "operation"),
    [
        ("POST", "/b", "delete", "s3", "s3.DeleteObjects"),
        ("POST", "/2015-03-31/functions", "", "lambda", "lambda.CreateFunction"),
        ("PUT", "/2015-03-31/functions/f/code", "", "lambda", "lambda.UpdateFunctionCode"),
        ("POST", "/2015-03-31/functions/f/policy", "", "lambda", "lambda.AddPermission"),
    ],
)
def test_operations_that_headers_do_not_name_are_recognized(
    method: str, path: str, query: str, service: str, operation: str
) -> None:
    headers = {"authorization": f"Credential=local/20261130/us-east-1/{service}/aws4_request"}
    request = parse_request(method, path, query, headers, b"")
    assert request is not None
    assert request.operation == operation


def test_objects_and_unsigned_requests_are_left_alone() -> None:
    headers = {"authorization": "Credential=local/20261130/us-east-1/s3/aws4_request"}
    assert parse_request("PUT", "/b/key", "", headers, b"") is None
    assert parse_request("POST", "/", "", {}, b"Action=DescribeInstances") is None


def test_a_name_is_not_found_in_longer_names() -> None:
    request = build_request("sqs.GetQueueUrl", QueueName="AppQueue")
    assert request.mentions("AppQueue")
    assert not request.mentions("Queue")
    assert not request.mentions("App")


# Aftereffects


def test_a_new_queue_cannot_be_used_for_a_second(cloud: Cloud) -> None:
    cloud.call_json("sqs.CreateQueue", QueueName="AppQueue")
    url = "http://127.0.0.1:1/123456789012/AppQueue"
    answer = cloud.call(build_request("sqs.SendMessage", QueueUrl=url))
    assert answer.status == 400
    assert ("x-amzn-query-error", "AWS.SimpleQueueService.NonExistentQueue;Sender") in answer.headers
    cloud.call_json("sqs.SendMessage", QueueUrl="http://127.0.0.1:1/123456789012/AppQueue2")
    assert len(cloud.forwarded) == 2
    cloud.now += DELAY_SECONDS
    assert cloud.call(build_request("sqs.SendMessage", QueueUrl=url)).is_success


def test_a_queue_that_existed_before_stays_usable_when_it_is_created_again(cloud: Cloud) -> None:
    cloud.call_json("sqs.CreateQueue", QueueName="q")
    cloud.now += DELAY_SECONDS
    cloud.call_json("sqs.CreateQueue", QueueName="q")
    assert "__type" not in cloud.call_json("sqs.ReceiveMessage", QueueUrl="http://h/1/q")


def test_the_name_of_a_deleted_queue_is_blocked_and_then_new_again(cloud: Cloud) -> None:
    cloud.call_json("sqs.CreateQueue", QueueName="q")
    cloud.now += 60
    cloud.call_json("sqs.DeleteQueue", QueueUrl="http://h/1/q")
    assert cloud.call_json("sqs.CreateQueue", QueueName="q")["__type"] == "QueueDeletedRecently"
    cloud.now += 60
    assert cloud.call_json("sqs.CreateQueue", QueueName="q") == {}
    assert cloud.call_json("sqs.SendMessage", QueueUrl="http://h/1/q")["__type"] == "QueueDoesNotExist"


def test_a_new_dead_letter_queue_is_not_a_target_yet(cloud: Cloud) -> None:
    cloud.call_json("sqs.CreateQueue", QueueName="dead")
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead"})
    answer = cloud.call_json("sqs.CreateQueue", QueueName="q", Attributes={"RedrivePolicy": policy})
    assert "Dead letter target does not exist" in answer["message"]


def test_a_new_cluster_and_a_new_service_are_missing_inside_an_answer_with_status_200(cloud: Cloud) -> None:
    cloud.call_json("ecs.CreateCluster", clusterName="c")
    failures = [{"arn": "c", "reason": "MISSING"}]
    assert cloud.call_json("ecs.DescribeClusters", clusters=["c"]) == {"clusters": [], "failures": failures}
    assert cloud.call_json("ecs.CreateService", cluster="c", serviceName="s")["__type"] == "ClusterNotFoundException"
    cloud.now += DELAY_SECONDS
    cloud.call_json("ecs.CreateService", cluster="c", serviceName="s")
    assert cloud.call_json("ecs.DescribeServices", cluster="c", services=["s"])["services"] == []
    assert cloud.call_json("ecs.UpdateService", cluster="c", service="s")["__type"] == "ServiceNotFoundException"


def test_a_new_fleet_is_not_found_and_cannot_be_canceled_inside_an_answer_with_status_200(cloud: Cloud) -> None:
    fleet = "sfr-0123abcd-0000"
    cloud.call(build_request("ec2.RequestSpotFleet"), f"<spotFleetRequestId>{fleet}</spotFleetRequestId>".encode())
    described = cloud.call(build_request("ec2.DescribeSpotFleetRequests", **{"SpotFleetRequestId.1": fleet}))
    assert (described.status, b"InvalidSpotFleetRequestId.NotFound" in described.body) == (400, True)
    canceled = cloud.call(build_request("ec2.CancelSpotFleetRequests", **{"SpotFleetRequestId.1": fleet}))
    assert (canceled.status, b"fleetRequestIdDoesNotExist" in canceled.body) == (200, True)


def test_a_fleet_is_busy_after_a_change(cloud: Cloud) -> None:
    request = build_request("ec2.ModifySpotFleetRequest", SpotFleetRequestId="sfr-1", TargetCapacity=3)
    assert cloud.call(request).is_success
    assert b"FleetNotInModifiableState" in cloud.call(request).body
    cloud.now += DELAY_SECONDS
    assert cloud.call(request).is_success


def test_a_new_role_cannot_be_used_by_other_services_in_any_region(cloud: Cloud) -> None:
    cloud.call(build_request("iam.CreateRole", RoleName="r"))
    request = build_request("ecs.RegisterTaskDefinition", region="eu-west-1", taskRoleArn="arn:aws:iam::1:role/r")
    assert b"Role is not valid" in cloud.call(request).body
    assert b"NoSuchEntity" in cloud.call(build_request("iam.PutRolePolicy", RoleName="r")).body


# Stale reads


def test_a_list_shows_a_deleted_resource_for_a_moment(cloud: Cloud) -> None:
    before, after = {"queueUrls": ["q"]}, {"queueUrls": []}
    assert cloud.call_json("sqs.ListQueues", before) == before
    cloud.now += 100
    cloud.call_json("sqs.DeleteQueue", QueueUrl="http://h/1/q")
    assert cloud.call_json("sqs.ListQueues", after) == before
    cloud.now += DELAY_SECONDS
    assert cloud.call_json("sqs.ListQueues", after) == after


def test_changes_in_quick_succession_do_not_make_a_read_stale_forever(cloud: Cloud) -> None:
    cloud.call_json("ecs.DescribeServices", {"services": [0]})
    for number in range(1, 5):
        cloud.call_json("ecs.UpdateService", service="s")
        cloud.now += DELAY_SECONDS * 0.6
        answer = cloud.call_json("ecs.DescribeServices", {"services": [number]})
    assert answer["services"][0] >= 3


def test_changes_in_another_region_do_not_make_a_read_stale(cloud: Cloud) -> None:
    cloud.call_json("sqs.ListQueues", {"queueUrls": ["q"]})
    cloud.call_json("sqs.DeleteQueue", region="eu-west-1", QueueUrl="http://h/1/q")
    assert cloud.call_json("sqs.ListQueues", {"queueUrls": []}) == {"queueUrls": []}


# Throttling


def test_three_alarms_a_second_may_be_put(cloud: Cloud) -> None:
    def put_alarms(count: int) -> list[bool]:
        return [cloud.call(build_request("monitoring.PutMetricAlarm"), {}).is_success for _ in range(count)]

    assert put_alarms(5) == [True, True, True, False, False]
    cloud.now += 1
    assert put_alarms(4) == [True, True, True, False]


def test_ecs_operations_share_a_bucket_and_ec2_operations_do_not(cloud: Cloud) -> None:
    for _ in range(20):
        assert cloud.call(build_request("ecs.CreateCluster", clusterName="c"), {}).is_success
    assert cloud.call_json("ecs.DeleteCluster", cluster="x")["__type"] == "ThrottlingException"
    for _ in range(50):
        assert cloud.call(build_request("ec2.CreateVolume")).is_success
    answer = cloud.call(build_request("ec2.CreateVolume"))
    assert (answer.status, b"RequestLimitExceeded" in answer.body) == (503, True)
    assert cloud.call(build_request("ec2.CreateKeyPair")).is_success


def test_a_list_of_all_instances_has_a_smaller_bucket(cloud: Cloud) -> None:
    assert sum(cloud.call(build_request("ec2.DescribeInstances")).is_success for _ in range(60)) == 50
    assert sum(cloud.call(build_request("ec2.DescribeInstances", MaxResults=9)).is_success for _ in range(110)) == 100


# Empty pages


def test_the_first_page_of_a_list_is_empty(cloud: Cloud) -> None:
    result = {"taskArns": ["a"]}
    first = cloud.call_json("ecs.ListTasks", result, cluster="c")
    assert first["taskArns"] == []
    assert cloud.call_json("ecs.ListTasks", result, cluster="c", nextToken=first["nextToken"]) == result
    assert cloud.forwarded[-1].parameters == {"cluster": "c"}


# Partial failures


def test_an_entry_of_a_batch_fails_inside_an_answer_with_status_200(cloud: Cloud) -> None:
    entries = [{"Id": "0", "MessageBody": "a"}, {"Id": "1", "MessageBody": "b"}]
    answer = cloud.call_json("sqs.SendMessageBatch", {"Successful": [{"Id": "1"}]}, QueueUrl="u", Entries=entries)
    assert [failure["Id"] for failure in answer["Failed"]] == ["0"]
    assert cloud.forwarded[0].parameters["Entries"] == entries[1:]
    cloud.call_json("sqs.SendMessageBatch", QueueUrl="u", Entries=entries)
    assert cloud.forwarded[1].parameters["Entries"] == entries


def test_a_batch_whose_only_entry_fails_does_not_reach_the_emulator(cloud: Cloud) -> None:
    answer = cloud.call_json("events.PutTargets", Rule="r", Targets=[{"Id": "function", "Arn": "a"}])
    assert (answer["FailedEntryCount"], answer["FailedEntries"][0]["TargetId"]) == (1, "function")
    assert cloud.forwarded == []


def test_an_object_of_a_deletion_fails_inside_an_answer_with_status_200(cloud: Cloud) -> None:
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
    headers = {"authorization": f"Credential={USER}/20261130/us-east-1/s3/aws4_request"}
    request = parse_request("POST", "/bucket", "delete", headers, body)
    assert request is not None
    answer = cloud.call(request, b"<DeleteResult><Deleted><Key>b</Key></Deleted></DeleteResult>")
    assert b"<Error><Key>a</Key><Code>InternalError</Code>" in answer.body
    assert cloud.forwarded[0].body == b"<Delete><Object><Key>b</Key></Object></Delete>"


# Everything


def test_the_local_clouds_own_requests_are_never_difficult(cloud: Cloud) -> None:
    cloud.call_json("sqs.CreateQueue", key=OWN_ACCESS_KEY, QueueName="q")
    for _ in range(5):
        request = build_request("monitoring.PutMetricAlarm", key=OWN_ACCESS_KEY)
        assert cloud.call(request, {}).is_success
    assert cloud.call(build_request("sqs.SendMessage", QueueUrl="http://h/1/q"), {}).is_success


def test_every_rule_names_its_source_and_every_rate_can_be_met() -> None:
    assert all(effect.source and effect.affected and effect.seconds > 0 for effect in AFTEREFFECTS)
    assert all(rate.size >= 1 and rate.per_second > 0 for rate in RATES)


@pytest.mark.parametrize("value", ["STRICT", "true", "strict "])
def test_another_value_of_the_variable_is_an_error_with_the_value_to_write(value: str) -> None:
    with pytest.raises(
        LocalCloudError, match=r"LOCALCLOUD_AWS: .* is not 'strict'; write LOCALCLOUD_AWS=strict"
    ) as error:
        check_mode({STRICT_VARIABLE: value})
    assert error.value.exit_code == 2


def test_only_a_running_cloud_that_is_not_as_strict_as_asked_needs_a_note() -> None:
    check_mode({})
    check_mode({STRICT_VARIABLE: ""})
    asked: dict[str, str] = {STRICT_VARIABLE: "strict"}
    assert "already running without it" in (describe_other_mode(False, asked) or "")
    assert [describe_other_mode(True, asked), describe_other_mode(False, {}), describe_other_mode(True, {})] == [
        None
    ] * 3
