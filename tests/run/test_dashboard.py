"""The dashboard: within CloudWatch's limits and form, and its log queries find what the worker really writes."""

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
from tests.support.account import Account, account
from tests.support.emulator import Lab, ministack, until
from tests.support.fakes import ANY, SETTINGS, Exact, exact
from tests.support.paths import ROOT

FLEET = "sfr-0123abcd"
BODY = build_dashboard(SETTINGS, FLEET)
WIDGETS: list[dict[str, Any]] = BODY["widgets"]
QUERIES = {one["properties"]["title"]: one["properties"]["query"] for one in WIDGETS if one["type"] == "log"}
METRICS = [metric for one in WIDGETS for metric in one["properties"].get("metrics", [])]
# What CloudWatch publishes for each namespace: the dimensions that each metric is asked by.
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
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


# Its form
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html


def test_widgets_lie_within_24_columns_and_none_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for one in WIDGETS:
        assert 1 <= one["width"] <= 24
        assert 1 <= one["height"] <= 1000
        assert 0 <= one["x"] <= 24 - one["width"]
        cells = {(one["x"] + x, one["y"] + y) for x in range(one["width"]) for y in range(one["height"])}
        assert not cells & taken, one["properties"]["title"]
        taken |= cells
    assert len(taken) == 24 * WIDGET_HEIGHT_ROWS * len(DASHBOARD_ROWS), "there is a hole"
    assert len(WIDGETS) <= MAX_WIDGETS


def test_widgets_have_the_keys_that_cloudwatch_asks_for_and_no_others() -> None:
    common = {"title", "region", "view"}
    for one in WIDGETS:
        assert one.keys() == {"type", "x", "y", "width", "height", "properties"}
        properties = one["properties"]
        assert properties["region"] == "us-east-1"
        if one["type"] == "log":
            assert properties.keys() == common | {"query"}
            assert properties["view"] in ("table", "timeSeries", "bar", "pie")
        else:
            assert one["type"] == "metric"
            assert properties.keys() == common | {"metrics", "stat", "period"}
            assert properties["view"] == "timeSeries"
            assert properties["stat"] in ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
            assert properties["period"] % 60 == 0
            assert 1 <= len(properties["metrics"]) <= 500


def test_every_metric_is_one_that_aws_publishes_by_just_these_dimensions() -> None:
    for namespace, name, *dimensions in METRICS:
        names, keys = PUBLISHED[namespace]
        assert name in names
        assert dimensions[::2] == keys
    assert {metric[0] for metric in METRICS} == PUBLISHED.keys()


def test_the_runs_own_names_are_filled_in() -> None:
    values = {value for metric in METRICS for value in metric[3::2]}
    assert values == {FLEET, "AppQueue", "AppDead", "app-cluster", "AppService"}
    assert all(query.startswith("SOURCE 'AppLogs' | ") for query in QUERIES.values())
    assert "$" not in json.dumps(BODY)


# What it asks the logs, held against what the worker writes


def rows(title: str, lines: list[str]) -> list[dict[str, str]]:
    """What the query's pattern finds, as Logs Insights would: its parse or its filter, line by line."""
    query = QUERIES[title]
    pattern = re.search(r"(?:parse @message|filter @message like) /(.*?)/(?: \||$)", query)
    assert pattern is not None, query
    python = pattern[1].replace("(?<", "(?P<")
    return [found.groupdict() for line in lines if (found := re.search(python, line))]


def test_the_queries_are_made_of_commands_that_logs_insights_knows() -> None:
    for query in QUERIES.values():
        _, *commands = (part.strip() for part in re.sub(r"/.*?/(?= \|)", "/x/", query).split(" | "))
        assert {command.split()[0] for command in commands} <= {"fields", "parse", "filter", "stats", "sort", "limit"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a real worker sends to its log group: a job that succeeds, one that fails twice, a message that is none."""
    folder = tmp_path_factory.mktemp("dashboard")
    with ministack(folder) as url:
        lab = Lab(url, folder)
        try:
            lab.send(command=["sh", "-c", "echo fine > {output_dir}/a"], output_location="out", group={"n": "good"})
            lab.send(command=["false"], output_location="out2", group={"n": "bad"})
            lab.send_text("no message of ours")
            worker = lab.worker(LOG_GROUP_NAME="AppLogs", JOB_RETRIES="2")
            wanted = ("done good-", "(attempt 2): ", "bad message")
            wait_for(lab, wanted)
            worker.terminate()
            worker.wait(30)
            log = lab.log()
        finally:
            lab.end()
    console = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
    return [console.sub("", line) for line in log.splitlines() if console.match(line)]


def wait_for(lab: Lab, wanted: tuple[str, ...]) -> None:
    until(lambda: all(one in lab.log() for one in wanted), "the worker does not do what the test waits for", 40)


def test_what_goes_to_cloudwatch_is_the_bare_line() -> None:
    """On the console time and level stand before it; CloudWatch has a time of its own. The patterns rest on that."""
    sent: list[str] = []

    class Stream:
        waiting_events = 0

        def send(self, text: str, when: float) -> None:
            sent.append(text)

    stream: Any = Stream()
    CloudWatchHandler(stream).emit(logging.makeLogRecord({"msg": "start %s (attempt %d)", "args": ("a-1", 2)}))
    assert sent == ["start a-1 (attempt 2)"]


@pytest.mark.parametrize("title", [title for title in QUERIES if title.startswith("Starts")])
def test_starts_are_counted_all_and_distinct(written: list[str], title: str) -> None:
    found = rows(title, written)
    jobs = [row["job"] for row in found]
    assert len(jobs) == 3, written
    assert len(set(jobs)) == 2
    assert [row["attempt"] for row in found if row["job"].startswith("bad-")] == ["1", "2"]
    assert "count(*) as starts, count_distinct(job) as distinct_jobs" in QUERIES[title]


def test_errors_are_shown_and_nothing_else(written: list[str]) -> None:
    (title,) = [title for title in QUERIES if title.startswith("Errors")]
    shown = [line for line in written if rows(title, [line])]
    assert len(shown) == 3, written
    assert sum(line.startswith("failed bad-") for line in shown) == 2
    assert sum(line.startswith("bad message ") for line in shown) == 1


@pytest.mark.parametrize("line", ["start the engine", "I start a-1 (attempt 1)", "failed: 0", "done", "job failed"])
def test_what_programs_say_in_the_same_log_group_is_not_counted(line: str) -> None:
    assert [title for title in QUERIES if rows(title, [line])] == []


def test_a_lost_lease_is_among_the_errors(caplog: pytest.LogCaptureFixture) -> None:
    """It takes a worker that stands still for minutes, so no worker of this test wrote it."""
    nothing: Any = None
    attempt: Any = SimpleNamespace(name="a-1")
    finisher = AttemptFinisher(WorkerContext(nothing, nothing, nothing), nothing, nothing, nothing)
    with caplog.at_level(logging.INFO):
        finisher.log_lost_lease(attempt)
    assert_error(*caplog.messages)


def test_the_end_of_a_container_whose_mount_was_lost_is_among_the_errors() -> None:
    """It takes a mounted bucket, so its line is read from the source."""
    call = 'log.error("this container ends: %s"'
    assert call in (ROOT / "distributed_something" / "worker" / "container" / "container.py").read_text()
    assert_error(call.partition('"')[2].rstrip('"') % "its mount was lost")


def assert_error(*lines: str) -> None:
    (title,) = [title for title in QUERIES if title.startswith("Errors")]
    assert lines
    assert [line for line in lines if rows(title, [line])] == [*lines]


# Made, and known again


def test_it_is_put_under_the_apps_name(aws: Exact) -> None:
    wanted = {"DashboardName": "App", "DashboardBody": json.dumps(BODY)}
    aws.answer("cloudwatch.put_dashboard", wanted, DashboardValidationMessages=[])
    said = ensure_dashboard(aws.clients.cloudwatch, SETTINGS, FLEET)
    address = "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1#dashboards:name=App"
    assert said == f"dashboard       {address}"


def test_what_cloudwatch_notes_is_said(aws: Exact) -> None:
    notes = [{"DataPath": "/widgets/0", "Message": "Should be other"}]
    aws.answer("cloudwatch.put_dashboard", {"DashboardName": "App", "DashboardBody": ANY},
               DashboardValidationMessages=notes)  # fmt: skip
    assert ensure_dashboard(aws.clients.cloudwatch, SETTINGS, FLEET).endswith("; AWS notes: Should be other")


@pytest.mark.parametrize("code", ["AccessDenied", "Throttling", "InvalidParameterInput"])
def test_a_refusal_costs_the_dashboard_and_not_the_run(code: str) -> None:
    with account({}) as made:
        refused: Account = made
        refused.refuse("cloudwatch.PutDashboard", code)
        said = ensure_dashboard(refused.clients.cloudwatch, SETTINGS, FLEET)
    assert said.startswith(f"no dashboard, the run goes on without: while making the dashboard: {code}")


def test_ours_is_known_by_what_it_shows() -> None:
    text = json.dumps(BODY)
    assert find_dashboard_fleet(text) == FLEET
    assert is_dashboard_of_app(text, "App")
    assert not is_dashboard_of_app(text, "AppTwo")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"widgets": 7}', '{"widgets": [{"properties": 1}]}',
                                  '{"widgets": [{"properties": {"metrics": [["AWS/EC2", "CPUUtilization"]]}}]}',
                                  '{"widgets": [{"properties": {"metrics": [["AWS/EC2Spot", "X", "FleetRequestId"]]}}]}'])  # fmt: skip  # noqa: E501
def test_others_dashboards_show_no_fleet(text: str) -> None:
    assert find_dashboard_fleet(text) is None
    assert not is_dashboard_of_app(text, "App")
