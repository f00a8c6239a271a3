"""The log groups of an app: its jobs' logs, and beside them its machines'."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from control.errors import doing

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from control.settings import Settings

RETENTION_DAYS = 60


def group_names(log_group_name: str) -> tuple[str, str]:
    """LOG_GROUP_NAME and LOG_GROUP_NAME_perInstance."""
    return log_group_name, f"{log_group_name}_perInstance"


def ensure(logs: CloudWatchLogsClient, settings: Settings, marks: Mapping[str, str]) -> None:
    """Makes both log groups with these tags; their events are kept 60 days."""
    for name in group_names(settings.LOG_GROUP_NAME):
        with doing(f"making the log group {name}"):
            with suppress(logs.exceptions.ResourceAlreadyExistsException):  # a run before this one made it
                logs.create_log_group(logGroupName=name, tags=marks)
            logs.put_retention_policy(logGroupName=name, retentionInDays=RETENTION_DAYS)
