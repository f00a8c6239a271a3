"""The log export, as published: at the end of a run its two log groups go to the bucket, below `exportedlogs/`.

An account may have one active export at a time, and an export takes minutes to hours. So it is only begun here, never
waited for: what could not be begun is said in one line, with the command that does it later. Every job's own log lies
in the bucket beside its record anyway.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.core.errors import AWSError, explain_aws_error, get_error_code
from distributed_something.core.names import EXPORT_PREFIX
from distributed_something.core.text import format_one_line

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile


MAX_EXPORT_NAME_CHARACTERS = 512  # CloudWatch Logs: characters of an export task's name
_BUSY_CODES = {"LimitExceededException", "OperationAbortedException"}


@dataclass(frozen=True)
class ExportOutcome:
    """What became of one log group's export: the line to say, and whether a later try may do better."""

    group: str
    line: str
    begun: bool = False
    again: bool = False


def continue_log_export(clients: Clients, run: MonitorFile, now: float) -> list[str]:
    """Begins what is not begun yet, at `now` (seconds since 1970); a line for each log group, none without an export.

    To be called again a while later, as the second group is mostly refused while the first is at work. What needs no
    later try is noted in the bucket, so that no monitor begins it twice. Raises nothing of AWS's.
    """
    if not run.MONITOR_EXPORT_LOGS:
        return []
    told, groups = _load_settled_exports(clients, run), build_log_group_names(run.MONITOR_LOG_GROUP_NAME)
    tried = start_log_exports(
        clients.logs, run, clients.logs.meta.region_name, now, [one for one in groups if one not in told]
    )
    settled = told | {one.group: one.line for one in tried if not one.again}
    if settled != told:
        with suppress(*AWSError):  # then another monitor may begin it once more: twice the files, no more
            body = json.dumps(settled).encode()
            clients.s3.put_object(Bucket=run.MONITOR_BUCKET_NAME, Key=_build_exports_key(run), Body=body)
    lines = told | {one.group: one.line for one in tried}
    return [lines[group] for group in groups]


def start_log_exports(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, now: float, groups: Iterable[str] | None = None
) -> list[ExportOutcome]:
    """Asks for the export of both log groups (or of `groups`), from the run's start to `now` (seconds since 1970).

    One call a group, no waiting, and no error of AWS's ever leaves it.
    """
    wanted = build_log_group_names(run.MONITOR_LOG_GROUP_NAME) if groups is None else groups
    return [_start_log_export(logs, run, region, now, group) for group in wanted]


def build_export_prefix(run: MonitorFile) -> str:
    """Where in the bucket it goes; AWS adds the task's id and the stream's name."""
    return f"{EXPORT_PREFIX}/{run.MONITOR_APP_NAME}/{run.run}"


def format_export_command(run: MonitorFile, region: str, now: float, group: str) -> str:
    """The same export as a command of the AWS command line."""
    words = ["aws", "logs", "create-export-task", "--region", region, "--log-group-name", group,
             "--from", str(run.MONITOR_START_TIME), "--to", str(int(now * 1000)),
             "--destination", run.MONITOR_BUCKET_NAME, "--destination-prefix", build_export_prefix(run)]  # fmt: skip
    return shlex.join(words)


def _build_exports_key(run: MonitorFile) -> str:
    return run.keys.exports


def _load_settled_exports(clients: Clients, run: MonitorFile) -> dict[str, str]:
    try:
        body = clients.s3.get_object(Bucket=run.MONITOR_BUCKET_NAME, Key=_build_exports_key(run))["Body"].read()
        found = json.loads(body)
    except (*AWSError, ValueError):  # none yet, for one
        return {}
    return {str(group): str(line) for group, line in found.items()} if isinstance(found, dict) else {}


def _start_log_export(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, now: float, group: str
) -> ExportOutcome:
    where = f"s3://{run.MONITOR_BUCKET_NAME}/{build_export_prefix(run)}/"
    try:
        task = logs.create_export_task(
            taskName=f"{run.MONITOR_APP_NAME}-{run.run}-{group}"[:MAX_EXPORT_NAME_CHARACTERS],
            logGroupName=group,
            fromTime=run.MONITOR_START_TIME,
            to=int(now * 1000),
            destination=run.MONITOR_BUCKET_NAME,
            destinationPrefix=build_export_prefix(run),
        )["taskId"]
    except AWSError as error:
        return _explain_refusal(error, group, format_export_command(run, region, now, group))
    return ExportOutcome(group, f"log group {group} is being exported to {where} (task {task})", begun=True)


def _explain_refusal(error: BaseException, group: str, command: str) -> ExportOutcome:
    code, told = get_error_code(error), f"log group {group} is not exported"
    if code in _BUSY_CODES:
        why = "another export of this account is at work, and AWS does one at a time; once it is through, type"
        return ExportOutcome(group, f"{told}: {why}: {command}", again=True)
    if code == "ResourceNotFoundException":
        return ExportOutcome(group, f"{told}: there is none of this name")
    if code == "InvalidParameterException":
        message = error.response["Error"].get("Message", "") if isinstance(error, ClientError) else ""
        right = "setupAWS writes the bucket policy that it needs; then type"
        return ExportOutcome(group, format_one_line(f"{told}: {message} — {right}: {command}"))
    return ExportOutcome(
        group, f"{told}: {explain_aws_error('beginning the export', error)}; later: {command}", again=True
    )
