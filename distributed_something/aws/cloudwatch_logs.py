"""The log groups of an app: its jobs' logs, and beside them its machines'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import translate_aws_errors
from distributed_something.worker import build_machine_log_group

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from distributed_something.core.config_settings import Settings


LOG_RETENTION_DAYS = 60


def build_log_group_names(log_group_name: str) -> tuple[str, str]:
    """LOG_GROUP_NAME and LOG_GROUP_NAME_perInstance."""
    return log_group_name, build_machine_log_group(log_group_name)


def ensure_log_groups(
    logs: CloudWatchLogsClient, settings: Settings, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> dict[str, str]:
    """Makes both log groups with these tags; their events are kept 60 days. By name, the other app whose tag a group
    carries; nothing for one of our own."""
    owners = {}
    for name in build_log_group_names(settings.LOG_GROUP_NAME):
        with translate_aws_errors(f"making the log group {name}"):
            owners[name] = _ensure_log_group(logs, name, marks, sleep)
    return owners


def _ensure_log_group(
    logs: CloudWatchLogsClient, name: str, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    owner, is_new_tag = "", False
    try:
        logs.create_log_group(logGroupName=name, tags=marks)
    except logs.exceptions.ResourceAlreadyExistsException:
        arn = _find_log_group_arn(logs, name)
        owner = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app", "")
        if not owner:  # a published run made it: containers may write only where the tag is
            logs.tag_resource(resourceArn=arn, tags=marks)
            is_new_tag = True
    retry_until_consistent(
        lambda: logs.put_retention_policy(logGroupName=name, retentionInDays=LOG_RETENTION_DAYS),
        until_allowed=is_new_tag, sleep=sleep,
    )  # fmt: skip
    return "" if owner == marks["app"] else owner


def _find_log_group_arn(logs: CloudWatchLogsClient, name: str) -> str:
    """As calls about tags want it: without the `:*` at its end."""
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next(
        one["arn"].removesuffix(":*") for page in pages for one in page["logGroups"] if one["logGroupName"] == name
    )
