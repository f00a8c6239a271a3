"""The CloudWatch dashboard of a run: what it shows is data, filled in with the run's names.

It is looked at by people who watch a run in AWS's console. `monitor` shows the same and more; nothing rests on it, so a
refusal costs the dashboard and never the run.
"""

from __future__ import annotations

import json
from string import Template
from typing import TYPE_CHECKING, Any

from control.errors import AWSError, explain, one_line

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from control.settings import Settings

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
COLUMNS = 24
MOST_WIDGETS = 500
HEIGHT = 6  # rows of a widget
MINUTE, FIVE_MINUTES = 60, 300  # seconds; EC2Spot's metrics come every five minutes

# The lines that the worker writes into LOG_GROUP_NAME, which holds the programs' own lines too: so the whole beginning
# of a line is asked for. `tests/test_dashboard.py` holds these against what the worker really logs.
STARTS = r"/^start (?<job>\S+) \(attempt (?<attempt>\d+)\)/"
ERRORS = r"/^(failed \S+.* \(attempt \d+\): |bad message |lost lease of |this container ends: )/"

_COUNTED = "stats count(*) as starts, count_distinct(job) as distinct_jobs"
_STARTED = f"SOURCE '$logs' | parse @message {STARTS} | filter ispresent(job) | {_COUNTED}"

# Each row: titles and contents, from left to right; the widgets of a row share its width.
ROWS: tuple[tuple[dict[str, Any], ...], ...] = (
    (
        {
            "title": "Machines of the fleet",
            "metrics": [
                ["AWS/EC2Spot", "TargetCapacity", "FleetRequestId", "$fleet"],
                ["AWS/EC2Spot", "FulfilledCapacity", "FleetRequestId", "$fleet"],
                ["AWS/EC2Spot", "PendingCapacity", "FleetRequestId", "$fleet"],
            ],
            "stat": "Average",
            "period": FIVE_MINUTES,
        },
        {
            "title": "Messages received and deleted (jobs begun and through)",
            "metrics": [
                ["AWS/SQS", "NumberOfMessagesReceived", "QueueName", "$queue"],
                ["AWS/SQS", "NumberOfMessagesDeleted", "QueueName", "$queue"],
            ],
            "stat": "Sum",
            "period": MINUTE,
        },
        {
            "title": "Memory and CPU of the containers, of what they reserve",
            "metrics": [
                ["AWS/ECS", "MemoryUtilization", "ClusterName", "$cluster", "ServiceName", "$service"],
                ["AWS/ECS", "CPUUtilization", "ClusterName", "$cluster", "ServiceName", "$service"],
            ],
            "stat": "Maximum",
            "period": MINUTE,
        },
    ),
    (
        {
            "title": "Messages visible and in flight (jobs that wait and that run)",
            "metrics": [
                ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "$queue"],
                ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", "$queue"],
            ],
            "stat": "Maximum",
            "period": MINUTE,
        },
        {
            "title": "Jobs that failed for good (dead-letter queue)",
            "metrics": [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "$dead"]],
            "stat": "Maximum",
            "period": FIVE_MINUTES,
        },
    ),
    (
        {"title": "Starts of jobs, all and distinct", "query": _STARTED, "view": "table"},
        {
            "title": "Starts of jobs every five minutes, all and distinct",
            "query": f"{_STARTED} by bin(5m)",
            "view": "timeSeries",
        },
    ),
    (
        {
            "title": "Errors, the newest first",
            "query": f"SOURCE '$logs' | fields @timestamp, @message, @logStream | filter @message like {ERRORS}"
            " | sort @timestamp desc | limit 50",
            "view": "table",
        },
    ),
)


def body(settings: Settings, fleet_id: str) -> dict[str, Any]:
    """The dashboard's body, as CloudWatch takes it (as JSON)."""
    names = {
        "fleet": fleet_id,
        "queue": settings.SQS_QUEUE_NAME,
        "dead": settings.SQS_DEAD_LETTER_QUEUE,
        "cluster": settings.ECS_CLUSTER,
        "service": settings.service_name,
        "logs": settings.LOG_GROUP_NAME,
    }
    widgets = [
        _widget(_filled(content, names), row, place, len(contents), settings.AWS_REGION)
        for row, contents in enumerate(ROWS)
        for place, content in enumerate(contents)
    ]
    return {"widgets": widgets}


def put_dashboard(cloudwatch: CloudWatchClient, settings: Settings, fleet_id: str) -> str:
    """Makes the dashboard APP_NAME, or replaces an older run's. The line to say; never raises for what AWS says."""
    try:
        answer = cloudwatch.put_dashboard(
            DashboardName=settings.APP_NAME, DashboardBody=json.dumps(body(settings, fleet_id))
        )
    except AWSError as error:
        return f"no dashboard, the run goes on without: {explain('making the dashboard', error)}"
    told = [one.get("Message", "") for one in answer.get("DashboardValidationMessages", [])]
    return f"dashboard       {address(settings)}" + "".join(f"; AWS notes: {one_line(text)}" for text in told)


def address(settings: Settings) -> str:
    """Where a browser shows it."""
    region = settings.AWS_REGION
    host = "console.amazonaws.cn" if region.startswith("cn-") else "console.aws.amazon.com"
    return f"https://{host}/cloudwatch/home?region={region}#dashboards:name={settings.APP_NAME}"


def fleet_of(text: str) -> str | None:
    """The fleet whose capacity a dashboard's body shows, ours or a published one's; None if it shows none."""
    for metric in _metrics(text):
        if metric[:1] == ["AWS/EC2Spot"] and "FleetRequestId" in metric[:-1]:
            return str(metric[metric.index("FleetRequestId") + 1])
    return None


def is_of(text: str, app: str) -> bool:
    """Whether the body shows the app's own service and a fleet, as ours does."""
    shows = any(metric[:1] == ["AWS/ECS"] and f"{app}Service" in metric for metric in _metrics(text))
    return shows and fleet_of(text) is not None


def _metrics(text: str) -> list[list[Any]]:
    try:
        widgets = json.loads(text)["widgets"]
        found = [metric for widget in widgets for metric in widget.get("properties", {}).get("metrics", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []  # somebody else's, in a form that we do not know
    return [metric for metric in found if isinstance(metric, list)]


def _widget(content: dict[str, Any], row: int, place: int, places: int, region: str) -> dict[str, Any]:
    width = COLUMNS // places
    kind = {"type": "log"} if "query" in content else {"type": "metric"}
    shape = {"x": place * width, "y": row * HEIGHT, "width": width, "height": HEIGHT}
    return kind | shape | {"properties": {"region": region, "view": "timeSeries", **content}}


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, names) for inner in value]
    return Template(value).substitute(names) if isinstance(value, str) else value
