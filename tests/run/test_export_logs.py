"""Tests that log exports are started without waiting, and that a failed start is reported in one line with a remedy."""

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
from tests.support.fakes import MONITOR_FILE, RUN, START, ExactClients, FakeBucket, expect_exact_calls

NOW = START + 3600
GROUPS = ["AppLogs", "AppLogs_perInstance"]
BUCKET_MESSAGE = (
    "GetBucketAcl call on the given bucket failed. Please check if CloudWatch Logs has been granted permission"
)


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


def build_request(group: str) -> dict[str, Any]:
    return {
        "taskName": f"App-{RUN}-{group}",
        "logGroupName": group,
        "fromTime": 1_795_430_700_000,
        "to": 1_795_434_300_000,
        "destination": "app-bucket",
        "destinationPrefix": f"exportedlogs/App/{RUN}",
    }


def start_exports(aws: ExactClients, *groups: str) -> list[ExportOutcome]:
    return start_log_exports(aws.clients.logs, MONITOR_FILE, "us-east-1", groups or GROUPS, NOW)


def test_both_log_groups_are_exported_from_the_start_of_the_run_until_now(aws: ExactClients) -> None:
    for number, group in enumerate(GROUPS):
        aws.expect_call("logs.create_export_task", build_request(group), taskId=f"task-{number}")
    outcomes = start_exports(aws)
    assert [outcome.status for outcome in outcomes] == [ExportStatus.BEGUN] * 2
    assert format_export_outcome(outcomes[0]) == (
        f"log group AppLogs is being exported to s3://app-bucket/exportedlogs/App/{RUN}/ (task task-0); the last 12"
        " hours of logs may be missing from it (each job's log is beside its record); to export them too, run this 12"
        f" hours from now: {outcomes[0].command}"
    )
    assert len(aws.calls) == 2


def test_the_bucket_policy_allows_writing_to_the_export_prefix(aws: ExactClients) -> None:
    _, write = build_log_export_statements(AwsAccount("123456789012", "us-east-1"), "app-bucket")
    assert write["Resource"] == "arn:aws:s3:::app-bucket/exportedlogs/*"
    assert build_export_prefix(MONITOR_FILE).startswith("exportedlogs/")


def test_an_export_that_aws_rejects_while_another_is_running_can_be_started_later(aws: ExactClients) -> None:
    aws.expect_call("logs.create_export_task", build_request("AppLogs"), taskId="1")
    aws.expect_error("logs.create_export_task", "LimitExceededException", "Resource limit exceeded.")
    first, second = start_exports(aws)
    assert (first.is_settled, second.is_settled, second.status) == (True, False, ExportStatus.BUSY)
    assert "another export is running in this account" in format_export_outcome(second)
    aws.expect_call("logs.create_export_task", build_request("AppLogs_perInstance"), taskId="2")
    (third,) = start_exports(aws, *[outcome.group for outcome in (first, second) if not outcome.is_settled])
    assert third.status is ExportStatus.BEGUN


def test_the_printed_command_starts_the_same_export(aws: ExactClients) -> None:
    """The test compares the options with botocore's model, from which the AWS CLI also derives its options."""
    aws.expect_error("logs.create_export_task", "LimitExceededException")
    (outcome,) = start_exports(aws, "AppLogs")
    assert format_export_outcome(outcome).endswith(f" run: {outcome.command}")
    words = shlex.split(outcome.command)
    assert words[:3] == ["aws", "logs", "create-export-task"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.pop("--region") == "us-east-1"
    members = aws.clients.logs.meta.service_model.operation_model("CreateExportTask").input_shape
    assert members is not None
    parameters = {convert_to_camel_case(option): value for option, value in options.items()}
    parameters["fromTime"] = parameters.pop("from")
    assert {"fromTime" if name == "from" else name for name in members.members} >= parameters.keys()  # type: ignore[attr-defined]
    assert parameters == {key: str(value) for key, value in build_request("AppLogs").items() if key != "taskName"}


def convert_to_camel_case(option: str) -> str:
    first, *rest = option.removeprefix("--").split("-")
    return first + "".join(word.title() for word in rest)


def test_a_missing_bucket_policy_is_reported_in_one_line_with_its_remedy(aws: ExactClients) -> None:
    aws.expect_error("logs.create_export_task", "InvalidParameterException", BUCKET_MESSAGE)
    (outcome,) = start_exports(aws, "AppLogs")
    line = format_export_outcome(outcome)
    assert BUCKET_MESSAGE in line
    assert "run setupAWS to write the bucket policy" in line
    assert "\n" not in line
    assert outcome.is_settled


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        ("AccessDeniedException", "ask your administrator for this permission", ExportStatus.FAILED),
        ("ThrottlingException", "starting the export: ThrottlingException", ExportStatus.FAILED),
        ("ServiceUnavailableException", "ServiceUnavailableException", ExportStatus.FAILED),
        ("ResourceNotFoundException", "it does not exist", ExportStatus.MISSING),
        ("OperationAbortedException", "another export", ExportStatus.BUSY),
    ],
)
def test_an_error_is_reported_in_the_outcome_and_each_group_is_attempted(
    aws: ExactClients, code: str, text: str, status: ExportStatus
) -> None:
    for group in GROUPS:
        aws.expect_error("logs.create_export_task", code, request=build_request(group))
    for outcome in start_exports(aws):
        line = format_export_outcome(outcome)
        assert text in line
        assert line.startswith(f"log group {outcome.group} was not exported")
        assert (outcome.status, outcome.is_settled) == (status, status is ExportStatus.MISSING)


def test_an_export_in_an_emulated_account_writes_the_logs_to_the_bucket() -> None:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        clients.s3.create_bucket(Bucket="app-bucket")
        for group in GROUPS:
            clients.logs.create_log_group(logGroupName=group)
            clients.logs.create_log_stream(logGroupName=group, logStreamName="i-0a-1")
        event = {"timestamp": int((START + 60) * 1000), "message": "start a-1 (attempt 1)"}
        clients.logs.put_log_events(logGroupName="AppLogs", logStreamName="i-0a-1", logEvents=[event])
        outcomes = start_log_exports(clients.logs, MONITOR_FILE, "us-east-1", GROUPS, NOW)
        assert outcomes[0].status is ExportStatus.BEGUN, outcomes
        response = clients.s3.list_objects_v2(Bucket="app-bucket", Prefix=f"exportedlogs/App/{RUN}/")
        assert response["KeyCount"] >= 1
        assert {entry["Key"].split("/")[0] for entry in response["Contents"]} == {"exportedlogs"}


# Several attempts by one or two monitors


class FakeLogs:
    """A fake CloudWatch Logs client that allows only one export at a time."""

    def __init__(self) -> None:
        self.is_busy = False
        self.exported_groups: list[str] = []
        self.meta = SimpleNamespace(region_name="us-east-1")

    def create_export_task(self, *, logGroupName: str, **_: Any) -> dict[str, str]:
        if self.is_busy:
            raise ClientError({"Error": {"Code": "LimitExceededException", "Message": "one"}}, "CreateExportTask")
        self.exported_groups.append(logGroupName)
        self.is_busy = True
        return {"taskId": f"task-{len(self.exported_groups)}"}


def test_the_second_export_is_started_at_a_later_attempt_and_no_export_is_started_twice() -> None:
    clients: Any = SimpleNamespace(logs=FakeLogs(), s3=FakeBucket())

    first = continue_log_export(clients, MONITOR_FILE, NOW)
    assert clients.logs.exported_groups == GROUPS[:1]
    assert first[1].status is ExportStatus.BUSY

    assert continue_log_export(clients, MONITOR_FILE, NOW) == first  # another monitor, or a restarted one
    assert clients.logs.exported_groups == GROUPS[:1]

    clients.logs.is_busy = False
    assert continue_log_export(clients, MONITOR_FILE, NOW) == [
        first[0],
        replace(first[1], status=ExportStatus.BEGUN, task="task-2"),
    ]
    clients.logs.is_busy = False
    continue_log_export(clients, MONITOR_FILE, NOW)
    assert clients.logs.exported_groups == GROUPS


def test_without_export_logs_nothing_is_exported() -> None:
    clients: Any = SimpleNamespace(logs=FakeLogs(), s3=FakeBucket())
    assert continue_log_export(clients, replace(MONITOR_FILE, MONITOR_EXPORT_LOGS=False), NOW) == []
    assert clients.logs.exported_groups == []


def test_exports_are_started_even_if_every_s3_call_fails() -> None:
    clients: Any = SimpleNamespace(logs=FakeLogs(), s3=FailingBucket())
    outcomes = continue_log_export(clients, MONITOR_FILE, NOW)
    assert outcomes[0].status is ExportStatus.BEGUN


class FailingBucket:
    """A bucket for which every call fails."""

    def get_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "GetObject")

    def put_object(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "m"}}, "PutObject")


# Outcomes stored in the bucket

texts = st.text(max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(GROUPS), inner, max_size=3),
)


@given(st.lists(st.sampled_from([None, "LimitExceededException", "InvalidParameterException", "ThrottlingException",
                                 "ResourceNotFoundException"]), min_size=2, max_size=2), texts)  # fmt: skip
def test_a_later_monitor_reuses_final_outcomes_and_attempts_the_other_exports(
    codes: list[str | None], message: str
) -> None:
    logs = ScriptedLogs(dict(zip(GROUPS, codes, strict=True)), message)
    clients: Any = SimpleNamespace(logs=logs, s3=FakeBucket())

    first = continue_log_export(clients, MONITOR_FILE, NOW)
    assert logs.requested_groups == GROUPS
    logs.requested_groups.clear()
    second = continue_log_export(clients, MONITOR_FILE, NOW)

    assert second == first
    assert logs.requested_groups == [outcome.group for outcome in first if not outcome.is_settled]


@given(documents.map(json.dumps).map(str.encode) | st.binary(max_size=50))
@example(json.dumps(dict.fromkeys(GROUPS, "log group AppLogs is being exported")).encode())
@example(json.dumps([GROUPS]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "begun"}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "on", "destination": "", "command": ""}]).encode())
@example(json.dumps([{"group": [], "status": "begun", "destination": "", "command": ""}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "begun", "destination": 7, "command": None}]).encode())
@example(json.dumps([{"group": GROUPS[0], "status": "busy", "destination": "", "command": ""}]).encode())
def test_a_file_that_is_not_a_list_of_outcomes_is_ignored(body: bytes) -> None:
    """Older versions wrote a JSON object with a line for each group."""
    clients: Any = SimpleNamespace(logs=ScriptedLogs({}), s3=FakeBucket())
    clients.s3.put_object(Key=MONITOR_FILE.keys.exports, Body=body)

    outcomes = continue_log_export(clients, MONITOR_FILE, NOW)

    assert clients.logs.requested_groups == GROUPS
    assert [outcome.status for outcome in outcomes] == [ExportStatus.BEGUN] * 2


class ScriptedLogs:
    """A fake CloudWatch Logs client. `codes`: the error code for each log group, or None if the export starts."""

    def __init__(self, codes: dict[str, str | None], message: str = "no") -> None:
        self.codes, self.message = codes, message
        self.requested_groups: list[str] = []
        self.meta = SimpleNamespace(region_name="us-east-1")

    def create_export_task(self, *, logGroupName: str, **_: Any) -> dict[str, str]:
        self.requested_groups.append(logGroupName)
        if code := self.codes.get(logGroupName):
            raise ClientError({"Error": {"Code": code, "Message": self.message}}, "CreateExportTask")
        return {"taskId": f"task of {logGroupName}"}
