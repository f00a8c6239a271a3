"""An app's two log groups: one for its jobs, and one for its machines and their containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import translate_aws_errors
from distributed_something.worker import build_machine_log_group

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from distributed_something.core.config_settings import Settings


LOG_RETENTION_DAYS = 60
LOG_GROUP_BUSY_CODE = "OperationAbortedException"  # another change of the log group is in progress


def build_log_group_names(log_group_name: str) -> tuple[str, str]:
    """Return the names of both log groups: LOG_GROUP_NAME and LOG_GROUP_NAME_perInstance."""
    return log_group_name, build_machine_log_group(log_group_name)


def ensure_log_groups(
    logs: CloudWatchLogsClient, settings: Settings, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> dict[str, str]:
    """Create both log groups with these tags, and let CloudWatch delete their events after 60 days.

    Return a dictionary that maps each log group's name to the other app that owns the group according to its tag, or to
    "" if the group is our own. Raise CloudError if a call fails.
    """
    owners = {}
    for name in build_log_group_names(settings.LOG_GROUP_NAME):
        with translate_aws_errors(f"setting up the log group {name}"):
            owners[name] = _ensure_log_group(logs, name, tags, sleep)
    return owners


def _ensure_log_group(
    logs: CloudWatchLogsClient, name: str, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    owner, has_new_tag = "", True
    try:
        create = partial(logs.create_log_group, logGroupName=name, tags=tags)
        retry_until_consistent(create, LOG_GROUP_BUSY_CODE, sleep=sleep)
    except logs.exceptions.ResourceAlreadyExistsException:
        arn = _find_log_group_arn(logs, name)
        owner = logs.list_tags_for_resource(resourceArn=arn)["tags"].get("app", "")
        has_new_tag = not owner
        if not owner:  # the published system created it; containers may write only to groups that have the tag
            logs.tag_resource(resourceArn=arn, tags=tags)
    set_log_retention(logs, name, sleep, until_allowed=has_new_tag)
    return "" if owner == tags["app"] else owner


def set_log_retention(
    logs: CloudWatchLogsClient, name: str, sleep: Callable[[float], None], *, until_allowed: bool = False
) -> None:
    """Let CloudWatch delete the log group's events after 60 days. The group may be new. AWS errors are not caught.

    `until_allowed`: whether the permission depends on a tag that was just set.
    """
    retry_until_consistent(
        lambda: logs.put_retention_policy(logGroupName=name, retentionInDays=LOG_RETENTION_DAYS),
        "ResourceNotFoundException", LOG_GROUP_BUSY_CODE, until_allowed=until_allowed, sleep=sleep,
    )  # fmt: skip


def list_log_groups(logs: CloudWatchLogsClient, prefix: str) -> list[str]:
    """Return the names of the log groups that begin with `prefix`. AWS errors are not caught."""
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    return [group["logGroupName"] for page in pages for group in page["logGroups"]]


def list_log_streams(logs: CloudWatchLogsClient, group: str, prefix: str = "") -> list[str]:
    """Return the names of a group's streams that begin with `prefix`; none if the group does not exist.

    Other AWS errors are not caught.
    """
    options: Any = {"logStreamNamePrefix": prefix} if prefix else {}
    try:
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, **options)
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def delete_log_streams(logs: CloudWatchLogsClient, group: str, streams: Iterable[str]) -> None:
    """Delete these streams of a log group, as far as they exist. Other AWS errors are not caught."""
    for stream in streams:
        with suppress(logs.exceptions.ResourceNotFoundException):
            logs.delete_log_stream(logGroupName=group, logStreamName=stream)


def delete_log_group(logs: CloudWatchLogsClient, group: str) -> None:
    """Delete a log group if it exists. Other AWS errors are not caught."""
    with suppress(logs.exceptions.ResourceNotFoundException):
        logs.delete_log_group(logGroupName=group)


def _find_log_group_arn(logs: CloudWatchLogsClient, name: str) -> str:
    """Return the ARN without the trailing `:*`, as the tagging calls expect it."""
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    groups = (group for page in pages for group in page["logGroups"])
    return next(group["arn"].removesuffix(":*") for group in groups if group["logGroupName"] == name)
