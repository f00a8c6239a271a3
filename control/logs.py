"""The log groups of an app: its jobs' logs, and beside them its machines'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from control.errors import doing
from control.steps import NOT_YET_TAGGED, patiently

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from control.settings import Settings

RETENTION_DAYS = 60


def group_names(log_group_name: str) -> tuple[str, str]:
    """LOG_GROUP_NAME and LOG_GROUP_NAME_perInstance."""
    return log_group_name, f"{log_group_name}_perInstance"


def ensure(
    logs: CloudWatchLogsClient, settings: Settings, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> dict[str, str]:
    """Makes both log groups with these tags; their events are kept 60 days. By name, the other app whose tag a group
    carries; nothing for one of our own."""
    owners = {}
    for name in group_names(settings.LOG_GROUP_NAME):
        with doing(f"making the log group {name}"):
            owners[name] = _ensure_one(logs, name, marks, sleep)
    return owners


def _ensure_one(logs: CloudWatchLogsClient, name: str, marks: Mapping[str, str], sleep: Callable[[float], None]) -> str:
    owner, not_yet = "", list[str]()
    try:
        logs.create_log_group(logGroupName=name, tags=marks)
    except logs.exceptions.ResourceAlreadyExistsException:
        arn = _arn(logs, name)
        owner = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app", "")
        if not owner:  # a published run made it: containers may write only where the tag is
            logs.tag_resource(resourceArn=arn, tags=marks)
            not_yet.append(NOT_YET_TAGGED)
    patiently(
        lambda: logs.put_retention_policy(logGroupName=name, retentionInDays=RETENTION_DAYS), *not_yet, sleep=sleep
    )
    return "" if owner == marks["app"] else owner


def _arn(logs: CloudWatchLogsClient, name: str) -> str:
    """As calls about tags want it: without the `:*` at its end."""
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next(
        one["arn"].removesuffix(":*") for page in pages for one in page["logGroups"] if one["logGroupName"] == name
    )
