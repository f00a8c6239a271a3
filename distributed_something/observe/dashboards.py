"""Reads CloudWatch dashboards to find out which fleet they show and whether they belong to an app."""

from __future__ import annotations

import json
from typing import Any

from distributed_something.core.names import AppNames


def find_dashboard_fleet(text: str) -> str | None:
    """Return the fleet whose capacity the dashboard shows, or None.

    Works for dashboards created by this package and by the published system.
    """
    for metric in _parse_metrics(text):
        if metric[:1] == ["AWS/EC2Spot"] and "FleetRequestId" in metric[:-1]:
            return str(metric[metric.index("FleetRequestId") + 1])
    return None


def is_dashboard_of_app(text: str, app: str) -> bool:
    """Return whether the dashboard shows the app's service and a fleet, as this package's dashboards do."""
    has_service = any(metric[:1] == ["AWS/ECS"] and AppNames(app).service in metric for metric in _parse_metrics(text))
    return has_service and find_dashboard_fleet(text) is not None


def _parse_metrics(text: str) -> list[list[Any]]:
    try:
        widgets = json.loads(text)["widgets"]
        metrics = [metric for widget in widgets for metric in widget.get("properties", {}).get("metrics", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []  # another program's dashboard, in an unknown format
    return [metric for metric in metrics if isinstance(metric, list)]
