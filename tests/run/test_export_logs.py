"""The log export is begun, never waited for, and what cannot be begun is one line with its remedy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from distributed_something.account.policies import build_log_export_statements
from distributed_something.aws.clients import Clients
from distributed_something.core.names import AwsAccount
from distributed_something.run.cleanup.export_logs import (
    ExportOutcome,
    build_export_prefix,
    continue_log_export,
    start_log_exports,
)
from tests.support.fakes import MONITOR_FILE, RUN, START, Exact, FakeBucket, exact

NOW = START + 3600
GROUPS = ["AppLogs", "AppLogs_perInstance"]
BUCKET_MESSAGE = (
    "GetBucketAcl call on the given bucket failed. Please check if CloudWatch Logs has been granted permission"
)


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def request(group: str) -> dict[str, Any]:
    return {
        "taskName": f"App-{RUN}-{group}",
        "logGroupName": group,
        "fromTime": 1_795_430_700_000,
        "to": 1_795_434_300_000,
        "destination": "app-bucket",
        "destinationPrefix": f"exportedlogs/App/{RUN}",
    }


def begin(aws: Exact, *groups: str) -> list[ExportOutcome]:
    return start_log_exports(aws.clients.logs, MONITOR_FILE, "us-east-1", NOW, groups or None)


def test_both_log_groups_go_to_the_bucket_from_the_runs_start_to_now(aws: Exact) -> None:
    for number, group in enumerate(GROUPS):
        aws.answer("logs.create_export_task", request(group), taskId=f"task-{number}")
    outcomes = begin(aws)
    assert [one.begun for one in outcomes] == [True, True]
    assert outcomes[0].line == (
        f"log group AppLogs is being exported to s3://app-bucket/exportedlogs/App/{RUN}/ (task task-0)"
    )
    assert len(aws.calls) == 2


def test_it_goes_where_the_bucket_policy_lets_it(aws: Exact) -> None:
    _, write = build_log_export_statements(AwsAccount("123456789012", "us-east-1"), "app-bucket")
    assert write["Resource"] == "arn:aws:s3:::app-bucket/exportedlogs/*"
    assert build_export_prefix(MONITOR_FILE).startswith("exportedlogs/")


def test_the_second_is_refused_while_the_first_is_at_work_and_can_be_asked_for_again(aws: Exact) -> None:
    aws.answer("logs.create_export_task", request("AppLogs"), taskId="1")
    aws.refuse("logs.create_export_task", "LimitExceededException", "Resource limit exceeded.")
    first, second = begin(aws)
    assert (first.again, second.again, second.begun) == (False, True, False)
    assert "another export of this account is at work" in second.line
    aws.answer("logs.create_export_task", request("AppLogs_perInstance"), taskId="2")
    (again,) = begin(aws, *[one.group for one in (first, second) if one.again])
    assert again.begun


def test_the_command_by_hand_asks_for_the_same(aws: Exact) -> None:
    """Held against botocore, whose names the AWS command line takes its options from."""
    aws.refuse("logs.create_export_task", "LimitExceededException")
    (outcome,) = begin(aws, "AppLogs")
    words = shlex.split(outcome.line.rpartition(" type: ")[2])
    assert words[:3] == ["aws", "logs", "create-export-task"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.pop("--region") == "us-east-1"
    members = aws.clients.logs.meta.service_model.operation_model("CreateExportTask").input_shape
    assert members is not None
    known = {"from": "fromTime"}
    asked = {known.get(name, name): value for name, value in ((camel(key), value) for key, value in options.items())}
    assert {"fromTime" if name == "from" else name for name in members.members} >= asked.keys()  # type: ignore[attr-defined]
    assert asked == {key: str(value) for key, value in request("AppLogs").items() if key != "taskName"}


def camel(option: str) -> str:
    first, *rest = option.removeprefix("--").split("-")
    return first + "".join(word.title() for word in rest)


def test_a_missing_bucket_policy_is_one_line_with_its_remedy(aws: Exact) -> None:
    aws.refuse("logs.create_export_task", "InvalidParameterException", BUCKET_MESSAGE)
    (outcome,) = begin(aws, "AppLogs")
    assert BUCKET_MESSAGE in outcome.line
    assert "setupAWS writes the bucket policy" in outcome.line
    assert "\n" not in outcome.line
    assert not outcome.again


@pytest.mark.parametrize(
    ("code", "told", "again"),
    [
        ("AccessDeniedException", "ask your administrator for this right", True),
        ("ThrottlingException", "beginning the export: ThrottlingException", True),
        ("ServiceUnavailableException", "ServiceUnavailableException", True),
        ("ResourceNotFoundException", "there is none of this name", False),
        ("OperationAbortedException", "another export", True),
    ],
)
def test_no_refusal_leaves_it_and_each_group_is_tried(aws: Exact, code: str, told: str, again: bool) -> None:
    for group in GROUPS:
        aws.refuse("logs.create_export_task", code, wanted=request(group))
    for outcome in begin(aws):
        assert told in outcome.line
        assert outcome.line.startswith(f"log group {outcome.group} is not exported")
        assert (outcome.begun, outcome.again) == (False, again)


def test_an_export_on_an_emulated_account_leaves_the_logs_in_the_bucket() -> None:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        clients.s3.create_bucket(Bucket="app-bucket")
        for group in GROUPS:
            clients.logs.create_log_group(logGroupName=group)
            clients.logs.create_log_stream(logGroupName=group, logStreamName="i-0a-1")
        event = {"timestamp": int((START + 60) * 1000), "message": "start a-1 (attempt 1)"}
        clients.logs.put_log_events(logGroupName="AppLogs", logStreamName="i-0a-1", logEvents=[event])
        outcomes = start_log_exports(clients.logs, MONITOR_FILE, "us-east-1", NOW)
        assert outcomes[0].begun, outcomes
        found = clients.s3.list_objects_v2(Bucket="app-bucket", Prefix=f"exportedlogs/App/{RUN}/")
        assert found["KeyCount"] >= 1
        assert {one["Key"].split("/")[0] for one in found["Contents"]} == {"exportedlogs"}


# Over several tries, by one monitor or two


class Logs:
    """CloudWatch Logs, as far as exports go: one at a time."""

    def __init__(self) -> None:
        self.busy = False
        self.begun: list[str] = []
        self.meta = SimpleNamespace(region_name="us-east-1")

    def create_export_task(self, *, logGroupName: str, **_: Any) -> dict[str, str]:
        if self.busy:
            raise ClientError({"Error": {"Code": "LimitExceededException", "Message": "one"}}, "CreateExportTask")
        self.begun.append(logGroupName)
        self.busy = True
        return {"taskId": f"task-{len(self.begun)}"}


def test_a_second_group_is_begun_at_a_later_try_and_none_is_begun_twice() -> None:
    clients: Any = SimpleNamespace(logs=Logs(), s3=FakeBucket())

    first = continue_log_export(clients, MONITOR_FILE, NOW)
    assert clients.logs.begun == GROUPS[:1]
    assert "another export of this account is at work" in first[1]

    assert continue_log_export(clients, MONITOR_FILE, NOW) == first  # another monitor, or the same one started again
    assert clients.logs.begun == GROUPS[:1]

    clients.logs.busy = False
    where = f"s3://app-bucket/exportedlogs/App/{RUN}/"
    second = f"log group AppLogs_perInstance is being exported to {where} (task task-2)"
    assert continue_log_export(clients, MONITOR_FILE, NOW) == [first[0], second]
    clients.logs.busy = False
    continue_log_export(clients, MONITOR_FILE, NOW)
    assert clients.logs.begun == GROUPS


def test_a_run_that_asks_for_no_export_has_none() -> None:
    clients: Any = SimpleNamespace(logs=Logs(), s3=FakeBucket())
    assert continue_log_export(clients, replace(MONITOR_FILE, MONITOR_EXPORT_LOGS=False), NOW) == []
    assert clients.logs.begun == []


def test_a_bucket_that_does_not_answer_holds_up_no_export() -> None:
    clients: Any = SimpleNamespace(logs=Logs(), s3=Silent())
    told = continue_log_export(clients, MONITOR_FILE, NOW)
    assert "is being exported" in told[0]


class Silent:
    """A bucket that refuses everything."""

    def get_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "GetObject")

    def put_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "PutObject")
