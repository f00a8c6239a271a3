"""The end of a failed container's output is copied to CloudWatch, where ECS's log driver would write it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.localcloud.base.layout import CloudLayout, build_layout
from distributed_something.localcloud.play.runners import TaskStartError
from distributed_something.localcloud.play.task_logs import MAX_COPIED_BYTES, CloudWatchTaskLogs
from tests.support.fakes import START

OPTIONS = {"awslogs-group": "Plum_perInstance", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "Plum"}
CONTAINER = {"name": "Worker", "logConfiguration": {"logDriver": "awslogs", "options": OPTIONS}}


@pytest.fixture
def layout(tmp_path: Path) -> CloudLayout:
    layout = build_layout(tmp_path)
    layout.make_folders()
    return layout


def copy_log(layout: CloudLayout, container: dict[str, Any] = CONTAINER, groups: tuple[str, ...] = ()) -> list[str]:
    """Copy the log of the task `1234`, and return the messages in its stream."""
    with mock_aws():
        logs = boto3.client("logs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        for name in groups or ("Plum_perInstance",):
            logs.create_log_group(logGroupName=name)
        task_logs = CloudWatchTaskLogs(layout, lambda _: logs, lambda: START)
        with suppress(TaskStartError):
            task_logs.open_stream("us-east-1", container, "1234")
        task_logs.copy_log("us-east-1", container, "1234")
        streams = logs.describe_log_streams(logGroupName=(groups or ("Plum_perInstance",))[0])["logStreams"]
        if not streams:
            return []
        assert [stream["logStreamName"] for stream in streams] == ["Plum/Worker/1234"]
        events = logs.get_log_events(logGroupName="Plum_perInstance", logStreamName="Plum/Worker/1234")["events"]
        return [event["message"] for event in events]


def test_the_lines_are_in_the_stream_of_the_log_driver_and_empty_ones_are_left_out(layout: CloudLayout) -> None:
    (layout.task_logs / "1234.log").write_bytes(b"Traceback\n\n  File x\nImportError: \xff\n")
    assert copy_log(layout) == ["Traceback", "  File x", "ImportError: \N{REPLACEMENT CHARACTER}"]


def test_only_whole_lines_at_the_end_of_a_long_output_are_copied(layout: CloudLayout) -> None:
    (layout.task_logs / "1234.log").write_text("".join(f"line {n:09}\n" for n in range(10_000)))
    lines = copy_log(layout)
    assert lines[-1] == "line 000009999"
    assert MAX_COPIED_BYTES - 30 < sum(len(line) + 1 for line in lines) <= MAX_COPIED_BYTES
    assert {len(line) for line in lines} == {14}


@pytest.mark.parametrize(
    "container", [{"name": "Worker"}, CONTAINER | {"logConfiguration": {"logDriver": "json-file"}}]
)
def test_a_container_with_another_log_driver_has_no_stream(layout: CloudLayout, container: dict[str, Any]) -> None:
    (layout.task_logs / "1234.log").write_text("line\n")
    assert copy_log(layout, container) == []


def test_a_missing_log_or_group_does_not_stop_the_local_cloud(layout: CloudLayout) -> None:
    assert copy_log(layout) == []
    (layout.task_logs / "1234.log").write_text("line\n")
    assert copy_log(layout, groups=("Other",)) == []


def test_a_container_whose_log_group_does_not_exist_cannot_start(layout: CloudLayout) -> None:
    with mock_aws():
        logs = boto3.client("logs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        task_logs = CloudWatchTaskLogs(layout, lambda _: logs, lambda: START)
        with pytest.raises(TaskStartError, match="failed to initialize logging driver"):
            task_logs.open_stream("us-east-1", CONTAINER, "1234")
        logs.create_log_group(logGroupName="Plum_perInstance")
        for _ in range(2):  # a stream that exists is used
            task_logs.open_stream("us-east-1", CONTAINER, "1234")
