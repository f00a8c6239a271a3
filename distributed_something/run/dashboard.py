"""The CloudWatch dashboard for a run: a grid of widgets, filled in with the names of the run's resources.

The dashboard is for people who watch a run in the AWS console; `monitor` shows the same information and more. The run
does not depend on the dashboard, so the run continues if AWS reports an error while the dashboard is created.
"""

from __future__ import annotations

import json
from string import Template
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import AWSError, explain_aws_error
from distributed_something.core.text import format_one_line, format_row

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from distributed_something.core.config_settings import Settings


# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
DASHBOARD_COLUMNS = 24
MAX_WIDGETS = 500
WIDGET_HEIGHT_ROWS = 6  # grid rows per widget
MINUTE_SECONDS, FIVE_MINUTES_SECONDS = 60, 300  # EC2Spot publishes its metrics every five minutes

# Patterns for lines that the worker writes to LOG_GROUP_NAME. The log group also contains the output of users'
# programs, so each pattern is anchored at the start of the line. `tests/run/test_dashboard.py` tests the patterns
# against the log of a real worker.
JOB_START_PATTERN = r"/^start (?<job>\S+) \(attempt (?<attempt>\d+)\)/"
ERROR_LINE_PATTERN = r"/^(failed \S+.* \(attempt \d+\): |bad message |lost lease of |this container is stopping: )/"

_START_STATISTICS = "stats count(*) as starts, count_distinct(job) as distinct_jobs"
_START_QUERY = f"SOURCE '$logs' | parse @message {JOB_START_PATTERN} | filter ispresent(job) | {_START_STATISTICS}"

# Rows of widgets, each from left to right. All widgets in a row have the same width.
DASHBOARD_ROWS: tuple[tuple[dict[str, Any], ...], ...] = (
    (
        {
            "title": "Fleet machines",
            "metrics": [
                ["AWS/EC2Spot", "TargetCapacity", "FleetRequestId", "$fleet"],
                ["AWS/EC2Spot", "FulfilledCapacity", "FleetRequestId", "$fleet"],
                ["AWS/EC2Spot", "PendingCapacity", "FleetRequestId", "$fleet"],
            ],
            "stat": "Average",
            "period": FIVE_MINUTES_SECONDS,
        },
        {
            "title": "Messages received and deleted (jobs started and finished)",
            "metrics": [
                ["AWS/SQS", "NumberOfMessagesReceived", "QueueName", "$queue"],
                ["AWS/SQS", "NumberOfMessagesDeleted", "QueueName", "$queue"],
            ],
            "stat": "Sum",
            "period": MINUTE_SECONDS,
        },
        {
            "title": "Container memory and CPU, as a percentage of the reservation",
            "metrics": [
                ["AWS/ECS", "MemoryUtilization", "ClusterName", "$cluster", "ServiceName", "$service"],
                ["AWS/ECS", "CPUUtilization", "ClusterName", "$cluster", "ServiceName", "$service"],
            ],
            "stat": "Maximum",
            "period": MINUTE_SECONDS,
        },
    ),
    (
        {
            "title": "Messages visible and in flight (jobs waiting and running)",
            "metrics": [
                ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "$queue"],
                ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", "$queue"],
            ],
            "stat": "Maximum",
            "period": MINUTE_SECONDS,
        },
        {
            "title": "Messages in the dead-letter queue (also of earlier runs and other apps)",
            "metrics": [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "$dead"]],
            "stat": "Maximum",
            "period": FIVE_MINUTES_SECONDS,
        },
    ),
    (
        {"title": "Job starts, total and distinct", "query": _START_QUERY, "view": "table"},
        {
            "title": "Job starts per five minutes, total and distinct",
            "query": f"{_START_QUERY} by bin(5m)",
            "view": "timeSeries",
        },
    ),
    (
        {
            "title": "Errors, newest first",
            "query": "SOURCE '$logs' | fields @timestamp, @message, @logStream"
            f" | filter @message like {ERROR_LINE_PATTERN}"
            " | sort @timestamp desc | limit 50",
            "view": "table",
        },
    ),
)


def build_dashboard(settings: Settings, fleet_id: str) -> dict[str, Any]:
    """Return the dashboard's body, which CloudWatch expects as JSON."""
    names = {
        "fleet": fleet_id,
        "queue": settings.SQS_QUEUE_NAME,
        "dead": settings.SQS_DEAD_LETTER_QUEUE,
        "cluster": settings.ECS_CLUSTER,
        "service": settings.names.service,
        "logs": settings.LOG_GROUP_NAME,
    }
    widgets = [
        _build_widget(_fill_names(content, names), row, position, len(contents), settings.AWS_REGION)
        for row, contents in enumerate(DASHBOARD_ROWS)
        for position, content in enumerate(contents)
    ]
    return {"widgets": widgets}


def ensure_dashboard(cloudwatch: CloudWatchClient, settings: Settings, fleet_id: str) -> str:
    """Create the dashboard APP_NAME, or replace an older run's dashboard; return the line to print.

    An AWS error is reported in the line and is not raised.
    """
    try:
        response = cloudwatch.put_dashboard(
            DashboardName=settings.APP_NAME, DashboardBody=json.dumps(build_dashboard(settings, fleet_id))
        )
    except AWSError as error:
        return f"the run continues without a dashboard: {explain_aws_error('creating the dashboard', error)}"
    notes = [note.get("Message", "") for note in response.get("DashboardValidationMessages", [])]
    return format_row("dashboard", build_dashboard_url(settings)) + "".join(
        f"; AWS notes: {format_one_line(note)}" for note in notes
    )


def build_dashboard_url(settings: Settings) -> str:
    """Return the dashboard's URL in the AWS console."""
    region = settings.AWS_REGION
    host = "console.amazonaws.cn" if region.startswith("cn-") else "console.aws.amazon.com"
    return f"https://{host}/cloudwatch/home?region={region}#dashboards:name={settings.APP_NAME}"


def _build_widget(content: dict[str, Any], row: int, position: int, count: int, region: str) -> dict[str, Any]:
    """Return the widget at this position in a row of `count` widgets."""
    width = DASHBOARD_COLUMNS // count
    kind = {"type": "log"} if "query" in content else {"type": "metric"}
    shape = {"x": position * width, "y": row * WIDGET_HEIGHT_ROWS, "width": width, "height": WIDGET_HEIGHT_ROWS}
    return kind | shape | {"properties": {"region": region, "view": "timeSeries", **content}}


def _fill_names(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill_names(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_names(inner, names) for inner in value]
    return Template(value).substitute(names) if isinstance(value, str) else value
