"""AWS names on which the worker and the commands must agree."""

from __future__ import annotations


def build_alarm_name(app_name: str, instance_id: str) -> str:
    """Return the name of a machine's idle alarm."""
    return f"{app_name}_{instance_id}"


def build_machine_log_group(log_group_name: str) -> str:
    """Return the log group for reports about machines and containers; job logs are sent to LOG_GROUP_NAME."""
    return f"{log_group_name}_perInstance"
