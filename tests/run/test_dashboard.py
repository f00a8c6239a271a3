"""Tests that the dashboard meets CloudWatch's limits and format, and that its queries match the worker's log lines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.observe.dashboards import find_dashboard_fleet, is_dashboard_of_app
from distributed_something.run.dashboard import (
    DASHBOARD_ROWS,
    MAX_WIDGETS,
    WIDGET_HEIGHT_ROWS,
    build_dashboard,
    ensure_dashboard,
)
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.logs.container_log import CloudWatchHandler
from tests.support.account import emulate_account
from tests.support.emulator import WorkerLab, run_ministack, wait_until
from tests.support.fakes import ANY, SETTINGS, ExactClients, expect_exact_calls
from tests.support.paths import ROOT

FLEET = "sfr-0123abcd"
BODY = build_dashboard(SETTINGS, FLEET)
WIDGETS: list[dict[str, Any]] = BODY["widgets"]
QUERIES = {
    widget["properties"]["title"]: widget["properties"]["query"] for widget in WIDGETS if widget["type"] == "log"
}
METRICS = [metric for widget in WIDGETS for metric in widget["properties"].get("metrics", [])]
# The metrics that AWS publishes in each namespace, and the dimensions of these metrics.
PUBLISHED = {
    "AWS/EC2Spot": ({"TargetCapacity", "FulfilledCapacity", "PendingCapacity"}, ["FleetRequestId"]),
    "AWS/SQS": (
        {
            "NumberOfMessagesReceived",
            "NumberOfMessagesDeleted",
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
        },
        ["QueueName"],
    ),
    "AWS/ECS": ({"MemoryUtilization", "CPUUtilization"}, ["ClusterName", "ServiceName"]),
}


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


# Format
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html


def test_widgets_fill_24_columns_and_do_not_overlap() -> None:
    used_cells: set[tuple[int, int]] = set()
    for widget in WIDGETS:
        assert 1 <= widget["width"] <= 24
        assert 1 <= widget["height"] <= 1000
        assert 0 <= widget["x"] <= 24 - widget["width"]
        cells = {(widget["x"] + x, widget["y"] + y) for x in range(widget["width"]) for y in range(widget["height"])}
        assert not cells & used_cells, widget["properties"]["title"]
        used_cells |= cells
    assert len(used_cells) == 24 * WIDGET_HEIGHT_ROWS * len(DASHBOARD_ROWS), "a cell is empty"
    assert len(WIDGETS) <= MAX_WIDGETS


def test_widgets_have_exactly_the_keys_that_cloudwatch_requires() -> None:
    common = {"title", "region", "view"}
    for widget in WIDGETS:
        assert widget.keys() == {"type", "x", "y", "width", "height", "properties"}
        properties = widget["properties"]
        assert properties["region"] == "us-east-1"
        if widget["type"] == "log":
            assert properties.keys() == common | {"query"}
            assert properties["view"] in ("table", "timeSeries", "bar", "pie")
        else:
            assert widget["type"] == "metric"
            assert properties.keys() == common | {"metrics", "stat", "period"}
            assert properties["view"] == "timeSeries"
            assert properties["stat"] in ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
            assert properties["period"] % 60 == 0
            assert 1 <= len(properties["metrics"]) <= 500


def test_each_metric_has_the_dimensions_that_aws_publishes() -> None:
    for namespace, name, *dimensions in METRICS:
        names, keys = PUBLISHED[namespace]
        assert name in names
        assert dimensions[::2] == keys
    assert {metric[0] for metric in METRICS} == PUBLISHED.keys()


def test_the_run_names_are_filled_in() -> None:
    values = {value for metric in METRICS for value in metric[3::2]}
    assert values == {FLEET, "AppQueue", "AppDead", "app-cluster", "AppService"}
    assert all(query.startswith("SOURCE 'AppLogs' | ") for query in QUERIES.values())
    assert "$" not in json.dumps(BODY)


# Log queries, tested against the worker's log lines


def match_lines(title: str, lines: list[str]) -> list[dict[str, str]]:
    """Return the named groups that the query's pattern matches in each line, as in Logs Insights."""
    query = QUERIES[title]
    pattern = re.search(r"(?:parse @message|filter @message like) /(.*?)/(?: \||$)", query)
    assert pattern is not None, query
    python_pattern = pattern[1].replace("(?<", "(?P<")
    return [match.groupdict() for line in lines if (match := re.search(python_pattern, line))]


def test_queries_use_only_logs_insights_commands() -> None:
    for query in QUERIES.values():
        _, *commands = (part.strip() for part in re.sub(r"/.*?/(?= \|)", "/x/", query).split(" | "))
        assert {command.split()[0] for command in commands} <= {"fields", "parse", "filter", "stats", "sort", "limit"}


@pytest.fixture(scope="module")
def worker_lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return a real worker's log lines for a job that succeeds, a job that fails twice, and a bad message."""
    folder = tmp_path_factory.mktemp("dashboard")
    with run_ministack(folder) as url:
        lab = WorkerLab(url, folder)
        try:
            lab.send_job(command=["sh", "-c", "echo fine > {output_dir}/a"], output_location="out", group={"n": "good"})
            lab.send_job(command=["false"], output_location="out2", group={"n": "bad"})
            lab.send_text("not a job message")
            worker = lab.start_worker(LOG_GROUP_NAME="AppLogs", JOB_RETRIES="2")
            wait_for_log(lab, ("done good-", "(attempt 2): ", "bad message"))
            worker.terminate()
            worker.wait(30)
            log = lab.read_log()
        finally:
            lab.kill_workers()
    console = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
    return [console.sub("", line) for line in log.splitlines() if console.match(line)]


def wait_for_log(lab: WorkerLab, texts: tuple[str, ...]) -> None:
    wait_until(lambda: all(text in lab.read_log() for text in texts), f"the worker's log does not contain {texts}", 40)


def test_lines_in_cloudwatch_have_no_time_or_level() -> None:
    """The console log starts each line with both, but the patterns expect lines without them."""
    sent: list[str] = []

    class Stream:
        waiting_events = 0

        def send(self, text: str, when: float) -> None:
            sent.append(text)

    stream: Any = Stream()
    CloudWatchHandler(stream).emit(logging.makeLogRecord({"msg": "start %s (attempt %d)", "args": ("a-1", 2)}))
    assert sent == ["start a-1 (attempt 2)"]


@pytest.mark.parametrize("title", [title for title in QUERIES if title.startswith("Job starts")])
def test_the_total_number_of_job_starts_and_the_number_of_distinct_jobs_are_counted(
    worker_lines: list[str], title: str
) -> None:
    rows = match_lines(title, worker_lines)
    jobs = [row["job"] for row in rows]
    assert len(jobs) == 3, worker_lines
    assert len(set(jobs)) == 2
    assert [row["attempt"] for row in rows if row["job"].startswith("bad-")] == ["1", "2"]
    assert "count(*) as starts, count_distinct(job) as distinct_jobs" in QUERIES[title]


def test_the_errors_widget_shows_only_errors(worker_lines: list[str]) -> None:
    (title,) = [title for title in QUERIES if title.startswith("Errors")]
    shown = [line for line in worker_lines if match_lines(title, [line])]
    assert len(shown) == 3, worker_lines
    assert sum(line.startswith("failed bad-") for line in shown) == 2
    assert sum(line.startswith("bad message ") for line in shown) == 1


@pytest.mark.parametrize("line", ["start the engine", "I start a-1 (attempt 1)", "failed: 0", "done", "job failed"])
def test_program_output_in_the_same_log_group_is_not_matched(line: str) -> None:
    assert [title for title in QUERIES if match_lines(title, [line])] == []


def test_the_errors_widget_shows_a_lost_lease(caplog: pytest.LogCaptureFixture) -> None:
    """A lease is lost only if a worker hangs for minutes, so the test calls the function that logs the line."""
    unused: Any = None
    attempt: Any = SimpleNamespace(name="a-1", lease=SimpleNamespace(is_lost=True))
    finisher = AttemptFinisher(WorkerContext(unused, unused, unused), unused, unused, unused)
    with caplog.at_level(logging.INFO):
        finisher.discard_attempt(attempt)
    check_error_lines(*caplog.messages)


def test_the_errors_widget_shows_the_end_of_a_container_whose_mount_was_lost() -> None:
    """A real case would require a mounted bucket, so the test reads the line from the source code."""
    call = 'log.error("this container is stopping: %s"'
    assert call in (ROOT / "distributed_something" / "worker" / "container" / "container.py").read_text()
    check_error_lines(call.partition('"')[2].rstrip('"') % "its mount was lost")


def check_error_lines(*lines: str) -> None:
    (title,) = [title for title in QUERIES if title.startswith("Errors")]
    assert lines
    assert [line for line in lines if match_lines(title, [line])] == [*lines]


# Creating and identifying the dashboard


def test_the_dashboard_is_named_after_the_app(aws: ExactClients) -> None:
    expected = {"DashboardName": "App", "DashboardBody": json.dumps(BODY)}
    aws.expect_call("cloudwatch.put_dashboard", expected, DashboardValidationMessages=[])
    line = ensure_dashboard(aws.clients.cloudwatch, SETTINGS, FLEET)
    address = "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1#dashboards:name=App"
    assert line == f"dashboard       {address}"


def test_cloudwatch_notes_are_printed(aws: ExactClients) -> None:
    notes = [{"DataPath": "/widgets/0", "Message": "Should be other"}]
    aws.expect_call("cloudwatch.put_dashboard", {"DashboardName": "App", "DashboardBody": ANY},
               DashboardValidationMessages=notes)  # fmt: skip
    assert ensure_dashboard(aws.clients.cloudwatch, SETTINGS, FLEET).endswith("; AWS notes: Should be other")


@pytest.mark.parametrize("code", ["AccessDenied", "Throttling", "InvalidParameterInput"])
def test_an_aws_error_prevents_the_dashboard_but_not_the_run(code: str) -> None:
    with emulate_account({}) as refusing_account:
        refusing_account.refuse_call("cloudwatch.PutDashboard", code)
        line = ensure_dashboard(refusing_account.clients.cloudwatch, SETTINGS, FLEET)
    assert line.startswith(f"the run continues without a dashboard: while creating the dashboard: {code}")


def test_the_app_dashboard_is_identified_by_its_metrics() -> None:
    text = json.dumps(BODY)
    assert find_dashboard_fleet(text) == FLEET
    assert is_dashboard_of_app(text, "App")
    assert not is_dashboard_of_app(text, "AppTwo")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"widgets": 7}', '{"widgets": [{"properties": 1}]}',
                                  '{"widgets": [{"properties": {"metrics": [["AWS/EC2", "CPUUtilization"]]}}]}',
                                  '{"widgets": [{"properties": {"metrics": [["AWS/EC2Spot", "X", "FleetRequestId"]]}}]}'])  # fmt: skip  # noqa: E501
def test_a_dashboard_from_elsewhere_is_not_mistaken_for_one_of_ours(text: str) -> None:
    assert find_dashboard_fleet(text) is None
    assert not is_dashboard_of_app(text, "App")
