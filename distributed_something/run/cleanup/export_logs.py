"""The log export, as published: at the end of a run its two log groups go to the bucket, below `exportedlogs/`.

An account may have one active export at a time, and an export takes minutes to hours. So it is only begun here, never
waited for: what could not be begun is said in one line, with the command that does it later. Every job's own log lies
in the bucket beside its record anyway.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.core.errors import AWSError, explain_aws_error, get_error_code, get_error_message
from distributed_something.core.names import EXPORT_PREFIX
from distributed_something.core.text import format_one_line

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile


MAX_EXPORT_NAME_CHARACTERS = 512  # CloudWatch Logs: characters of an export task's name
_BUSY_CODES = {"LimitExceededException", "OperationAbortedException"}


class ExportStatus(StrEnum):
    """BUSY and FAILED may do better at a later try; the others are settled."""

    BEGUN = "begun"
    BUSY = "busy"
    FAILED = "failed"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True)
class ExportOutcome:
    """What became of one log group's export. `task`: AWS's id of it. `problem`: AWS's words, where it refused.

    `destination`: where in S3 the files go. `command`: the same export for the AWS command line.
    """

    group: str
    status: ExportStatus
    destination: str
    command: str
    task: str = ""
    problem: str = ""

    @property
    def settled(self) -> bool:
        return self.status not in (ExportStatus.BUSY, ExportStatus.FAILED)


def continue_log_export(clients: Clients, run: MonitorFile, now: float) -> list[ExportOutcome]:
    """Begin what is not begun yet, at `now` (seconds since 1970); return an outcome for each log group, none where the
    run exports no logs.

    To be called again a while later, as the second group is mostly refused while the first is at work. What is settled
    is noted in the bucket, so that no monitor begins it twice. Raises nothing of AWS's.
    """
    if not run.MONITOR_EXPORT_LOGS:
        return []
    settled, groups = _load_settled_exports(clients, run), build_log_group_names(run.MONITOR_LOG_GROUP_NAME)
    missing = [group for group in groups if group not in settled]
    tried = start_log_exports(clients.logs, run, clients.logs.meta.region_name, now, missing)
    if new := {outcome.group: outcome for outcome in tried if outcome.settled}:
        _save_settled_exports(clients, run, settled | new)
    outcomes = settled | {outcome.group: outcome for outcome in tried}
    return [outcomes[group] for group in groups]


def start_log_exports(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, now: float, groups: Iterable[str]
) -> list[ExportOutcome]:
    """Ask for the export of these log groups, from the run's start to `now` (seconds since 1970).

    One call a group, no waiting, and no error of AWS's ever leaves it.
    """
    return [_start_log_export(logs, run, region, now, group) for group in groups]


def format_export_outcome(outcome: ExportOutcome) -> str:
    """Return the line that a user reads."""
    told = f"log group {outcome.group} is not exported"
    match outcome.status:
        case ExportStatus.BEGUN:
            return f"log group {outcome.group} is being exported to {outcome.destination} (task {outcome.task})"
        case ExportStatus.MISSING:
            return f"{told}: there is none of this name"
        case ExportStatus.BUSY:
            why = "another export of this account is at work, and AWS does one at a time; once it is through, type"
            return f"{told}: {why}: {outcome.command}"
        case ExportStatus.REFUSED:
            right = "setupAWS writes the bucket policy that it needs; then type"
            return format_one_line(f"{told}: {outcome.problem} — {right}: {outcome.command}")
        case ExportStatus.FAILED:
            return f"{told}: {outcome.problem}; later: {outcome.command}"


def build_export_prefix(run: MonitorFile) -> str:
    """Where in the bucket it goes; AWS adds the task's id and the stream's name."""
    return f"{EXPORT_PREFIX}/{run.MONITOR_APP_NAME}/{run.run}"


def format_export_command(run: MonitorFile, region: str, now: float, group: str) -> str:
    """The same export as a command of the AWS command line."""
    words = ["aws", "logs", "create-export-task", "--region", region, "--log-group-name", group,
             "--from", str(run.MONITOR_START_TIME), "--to", str(int(now * 1000)),
             "--destination", run.MONITOR_BUCKET_NAME, "--destination-prefix", build_export_prefix(run)]  # fmt: skip
    return shlex.join(words)


def _load_settled_exports(clients: Clients, run: MonitorFile) -> dict[str, ExportOutcome]:
    try:
        body = clients.s3.get_object(Bucket=run.MONITOR_BUCKET_NAME, Key=run.keys.exports)["Body"].read()
        outcomes = [_parse_outcome(entry) for entry in json.loads(body)]
    except (*AWSError, ValueError, TypeError, KeyError):  # none yet, for one
        return {}
    return {outcome.group: outcome for outcome in outcomes if outcome.settled}


def _parse_outcome(entry: Any) -> ExportOutcome:
    """Raise ValueError, TypeError, or KeyError for what is not an outcome."""
    outcome = ExportOutcome(**{**entry, "status": ExportStatus(entry["status"])})
    if not all(isinstance(value, str) for value in asdict(outcome).values()):
        raise TypeError("every field of an outcome is text")
    return outcome


def _save_settled_exports(clients: Clients, run: MonitorFile, settled: Mapping[str, ExportOutcome]) -> None:
    """Where this fails, another monitor may begin an export once more: twice the files, no more."""
    body = json.dumps([asdict(outcome) for outcome in settled.values()]).encode()
    with suppress(*AWSError):
        clients.s3.put_object(Bucket=run.MONITOR_BUCKET_NAME, Key=run.keys.exports, Body=body)


def _start_log_export(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, now: float, group: str
) -> ExportOutcome:
    prefix = build_export_prefix(run)
    outcome = ExportOutcome(
        group,
        ExportStatus.BEGUN,
        destination=f"s3://{run.MONITOR_BUCKET_NAME}/{prefix}/",
        command=format_export_command(run, region, now, group),
    )
    try:
        task = logs.create_export_task(
            taskName=f"{run.MONITOR_APP_NAME}-{run.run}-{group}"[:MAX_EXPORT_NAME_CHARACTERS],
            logGroupName=group,
            fromTime=run.MONITOR_START_TIME,
            to=int(now * 1000),
            destination=run.MONITOR_BUCKET_NAME,
            destinationPrefix=prefix,
        )["taskId"]
    except AWSError as error:
        return _add_refusal(outcome, error)
    return replace(outcome, task=task)


def _add_refusal(outcome: ExportOutcome, error: BaseException) -> ExportOutcome:
    code = get_error_code(error)
    if code in _BUSY_CODES:
        return replace(outcome, status=ExportStatus.BUSY)
    if code == "ResourceNotFoundException":
        return replace(outcome, status=ExportStatus.MISSING)
    if code == "InvalidParameterException":
        return replace(outcome, status=ExportStatus.REFUSED, problem=get_error_message(error))
    problem = str(explain_aws_error("beginning the export", error))
    return replace(outcome, status=ExportStatus.FAILED, problem=problem)
