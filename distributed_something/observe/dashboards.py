"""What a dashboard's body shows: which fleet, and whether it is an app's own."""

from __future__ import annotations

import json
from typing import Any

from distributed_something.core.names import AppNames


def find_dashboard_fleet(text: str) -> str | None:
    """The fleet whose capacity a dashboard's body shows, ours or a published one's; None if it shows none."""
    for metric in _parse_metrics(text):
        if metric[:1] == ["AWS/EC2Spot"] and "FleetRequestId" in metric[:-1]:
            return str(metric[metric.index("FleetRequestId") + 1])
    return None


def is_dashboard_of_app(text: str, app: str) -> bool:
    """Whether the body shows the app's own service and a fleet, as ours does."""
    shows = any(metric[:1] == ["AWS/ECS"] and AppNames(app).service in metric for metric in _parse_metrics(text))
    return shows and find_dashboard_fleet(text) is not None


def _parse_metrics(text: str) -> list[list[Any]]:
    try:
        widgets = json.loads(text)["widgets"]
        found = [metric for widget in widgets for metric in widget.get("properties", {}).get("metrics", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []  # somebody else's, in a form that we do not know
    return [metric for metric in found if isinstance(metric, list)]
