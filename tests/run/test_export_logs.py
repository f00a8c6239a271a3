"""The log export is begun, never waited for, and what cannot be begun is one line with its remedy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st
from moto import mock_aws

from distributed_something.account.policies import build_log_export_statements
from distributed_something.aws.clients import Clients
from distributed_something.core.names import AwsAccount
from distributed_something.run.cleanup.export_logs import (
    ExportOutcome,
    ExportStatus,
    build_export_prefix,
    continue_log_export,
    format_export_outcome,
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
    return start_log_exports(aws.clients.logs, MONITOR_FILE, "us-east-1", NOW, groups or GROUPS)


def test_both_log_groups_go_to_the_bucket_from_the_runs_start_to_now(aws: Exact) -> None:
    for number, group in enumerate(GROUPS):
        aws.answer("logs.create_export_task", request(group), taskId=f"task-{number}")
    outcomes = begin(aws)
    assert [outcome.status for outcome in outcomes] == [ExportStatus.BEGUN] * 2
    assert format_export_outcome(outcomes[0]) == (
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
    assert (first.settled, second.settled, second.status) == (True, False, ExportStatus.BUSY)
    assert "another export of this account is at work" in format_export_outcome(second)
    aws.answer("logs.create_export_task", request("AppLogs_perInstance"), taskId="2")
    (again,) = begin(aws, *[outcome.group for outcome in (first, second) if not outcome.settled])
    assert again.status is ExportStatus.BEGUN


def test_the_command_by_hand_asks_for_the_same(aws: Exact) -> None:
    """Held against botocore, whose names the AWS command line takes its options from."""
    aws.refuse("logs.create_export_task", "LimitExceededException")
    (outcome,) = begin(aws, "AppLogs")
    assert format_export_outcome(outcome).endswith(f" type: {outcome.command}")
    words = shlex.split(outcome.command)
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
    line = format_export_outcome(outcome)
    assert BUCKET_MESSAGE in line
    assert "setupAWS writes the bucket policy" in line
    assert "\n" not in line
    assert outcome.settled


@pytest.mark.parametrize(
    ("code", "told", "status"),
    [
        ("AccessDeniedException", "ask your administrator for this right", ExportStatus.FAILED),
        ("ThrottlingException", "beginning the export: ThrottlingException", ExportStatus.FAILED),
        ("ServiceUnavailableException", "ServiceUnavailableException", ExportStatus.FAILED),
        ("ResourceNotFoundException", "there is none of this name", ExportStatus.MISSING),
        ("OperationAbortedException", "another export", ExportStatus.BUSY),
    ],
)
def test_no_refusal_leaves_it_and_each_group_is_tried(aws: Exact, code: str, told: str, status: ExportStatus) -> None:
    for group in GROUPS:
        aws.refuse("logs.create_export_task", code, wanted=request(group))
    for outcome in begin(aws):
        line = format_export_outcome(outcome)
        assert told in line
        assert line.startswith(f"log group {outcome.group} is not exported")
        assert (outcome.status, outcome.settled) == (status, status is ExportStatus.MISSING)


def test_an_export_on_an_emulated_account_leaves_the_logs_in_the_bucket() -> None:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        clients.s3.create_bucket(Bucket="app-bucket")
        for group in GROUPS:
            clients.logs.create_log_group(logGroupName=group)
            clients.logs.create_log_stream(logGroupName=group, logStreamName="i-0a-1")
        event = {"timestamp": int((START + 60) * 1000), "message": "start a-1 (attempt 1)"}
        clients.logs.put_log_events(logGroupName="AppLogs", logStreamName="i-0a-1", logEvents=[event])
        outcomes = start_log_exports(clients.logs, MONITOR_FILE, "us-east-1", NOW, GROUPS)
        assert outcomes[0].status is ExportStatus.BEGUN, outcomes
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
    assert first[1].status is ExportStatus.BUSY

    assert continue_log_export(clients, MONITOR_FILE, NOW) == first  # another monitor, or the same one started again
    assert clients.logs.begun == GROUPS[:1]

    clients.logs.busy = False
    assert continue_log_export(clients, MONITOR_FILE, NOW) == [
        first[0],
        replace(first[1], status=ExportStatus.BEGUN, task="task-2"),
    ]
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
    assert told[0].status is ExportStatus.BEGUN


class Silent:
    """A bucket that refuses everything."""

    def get_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "GetObject")

    def put_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "PutObject")


# What the bucket remembers

texts = st.text(max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(GROUPS), inner, max_size=3),
)


@given(st.lists(st.sampled_from([None, "LimitExceededException", "InvalidParameterException", "ThrottlingException",
                                 "ResourceNotFoundException"]), min_size=2, max_size=2), texts)  # fmt: skip
def test_a_later_monitor_is_told_the_outcomes_that_an_earlier_one_settled_and_asks_only_for_the_others(
    codes: list[str | None], words: str
) -> None:
    logs = ScriptedLogs(dict(zip(GROUPS, codes, strict=True)), words)
    clients: Any = SimpleNamespace(logs=logs, s3=FakeBucket())

    first = continue_log_export(clients, MONITOR_FILE, NOW)
    assert logs.asked == GROUPS
    logs.asked.clear()
    second = continue_log_export(clients, MONITOR_FILE, NOW)

    assert second == first
    assert logs.asked == [outcome.group for outcome in first if not outcome.settled]


@given(documents.map(json.dumps).map(str.encode) | st.binary(max_size=50))
@example(json.dumps(dict.fromkeys(GROUPS, "log group AppLogs is being exported")).encode())
@example(json.dumps([GROUPS]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "begun"}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "on", "destination": "", "command": ""}]).encode())
@example(json.dumps([{"group": [], "status": "begun", "destination": "", "command": ""}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "begun", "destination": 7, "command": None}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "busy", "destination": "", "command": ""}]).encode())
def test_what_is_no_list_of_outcomes_in_the_bucket_counts_as_none(body: bytes) -> None:
    """Older versions wrote an object there: a line for each group."""
    clients: Any = SimpleNamespace(logs=ScriptedLogs({}), s3=FakeBucket())
    clients.s3.put_object(Key=MONITOR_FILE.keys.exports, Body=body)

    outcomes = continue_log_export(clients, MONITOR_FILE, NOW)

    assert clients.logs.asked == GROUPS
    assert [outcome.status for outcome in outcomes] == [ExportStatus.BEGUN] * 2


class ScriptedLogs:
    """CloudWatch Logs that refuses the export of a group with the code that is told for it, in these words."""

    def __init__(self, codes: dict[str, str | None], words: str = "no") -> None:
        self.codes, self.words = codes, words
        self.asked: list[str] = []
        self.meta = SimpleNamespace(region_name="us-east-1")

    def create_export_task(self, *, logGroupName: str, **_: Any) -> dict[str, str]:
        self.asked.append(logGroupName)
        if code := self.codes.get(logGroupName):
            raise ClientError({"Error": {"Code": code, "Message": self.words}}, "CreateExportTask")
        return {"taskId": f"task of {logGroupName}"}
