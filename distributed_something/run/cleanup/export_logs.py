"""The log export at the end of a run, which copies the run's two log groups to `exportedlogs/` in the bucket.

The published system does the same. An account can have only one active export at a time, and an export takes minutes to
hours, so this module starts the exports but does not wait for them. The newest logs may be missing from them. If an
export cannot be started, the output says so and shows the command that starts it later. In any case, each job's log is
in the bucket beside the job's record.
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


# CloudWatch Logs may take up to 12 hours until events can be exported (user guide, "Exporting log data to Amazon S3").
# Cleanup does not wait for that.
INCOMPLETE_NOTE = (
    "the last 12 hours of logs may be missing from it (each job's log is beside its record); to export them too, run"
    " this 12 hours from now"
)
MAX_EXPORT_NAME_CHARACTERS = 512  # CloudWatch Logs: maximum length of an export task's name
_BUSY_CODES = {"LimitExceededException", "OperationAbortedException"}


class ExportStatus(StrEnum):
    """Status of an export. BUSY and FAILED exports are attempted again later; the other statuses are final."""

    BEGUN = "begun"
    BUSY = "busy"
    FAILED = "failed"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True)
class ExportOutcome:
    """The outcome of exporting one log group.

    `destination`: the S3 address of the exported files. `command`: an AWS CLI command for the same export. `task`: the
    export's id in AWS. `problem`: the error message from AWS if the export could not be started.
    """

    group: str
    status: ExportStatus
    destination: str
    command: str
    task: str = ""
    problem: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is final."""
        return self.status not in (ExportStatus.BUSY, ExportStatus.FAILED)


def continue_log_export(clients: Clients, run: MonitorFile, now: float) -> list[ExportOutcome]:
    """Start the exports that have not been started yet; return an outcome for each log group.

    The list is empty if the run does not export logs. `now`: the end of the exported period, in seconds since 1970.
    Call this function again later, because AWS usually rejects the second export while the first is running. Final
    outcomes are stored in the bucket, so that no monitor starts an export twice. AWS errors are reported in the
    outcomes and are not raised.
    """
    if not run.MONITOR_EXPORT_LOGS:
        return []
    settled, groups = _load_settled_exports(clients, run), build_log_group_names(run.MONITOR_LOG_GROUP_NAME)
    missing = [group for group in groups if group not in settled]
    new = start_log_exports(clients.logs, run, clients.logs.meta.region_name, missing, now)
    if newly_settled := {outcome.group: outcome for outcome in new if outcome.is_settled}:
        _save_settled_exports(clients, run, settled | newly_settled)
    outcomes = settled | {outcome.group: outcome for outcome in new}
    return [outcomes[group] for group in groups]


def start_log_exports(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, groups: Iterable[str], now: float
) -> list[ExportOutcome]:
    """Start exporting these log groups, from the run's start to `now` (seconds since 1970).

    This makes one call per group and does not wait for the exports. AWS errors are reported in the outcomes and are not
    raised.
    """
    return [_start_log_export(logs, run, region, group, now) for group in groups]


def format_export_outcome(outcome: ExportOutcome) -> str:
    """Return the line that is printed for the user."""
    not_exported = f"log group {outcome.group} was not exported"
    match outcome.status:
        case ExportStatus.BEGUN:
            begun = f"log group {outcome.group} is being exported to {outcome.destination} (task {outcome.task})"
            return f"{begun}; {INCOMPLETE_NOTE}: {outcome.command}"
        case ExportStatus.MISSING:
            return f"{not_exported}: it does not exist"
        case ExportStatus.BUSY:
            problem = "another export is running in this account, and AWS allows only one at a time"
            return f"{not_exported}: {problem}; when it has finished, run: {outcome.command}"
        case ExportStatus.REFUSED:
            remedy = "run setupAWS to write the bucket policy, then run"
            return format_one_line(f"{not_exported}: {outcome.problem} — {remedy}: {outcome.command}")
        case ExportStatus.FAILED:
            return f"{not_exported}: {outcome.problem}; to export it later, run: {outcome.command}"


def build_export_prefix(run: MonitorFile) -> str:
    """Return the prefix for the exported files; AWS appends the export's id and the log stream's name."""
    return f"{EXPORT_PREFIX}/{run.MONITOR_APP_NAME}/{run.run}"


def format_export_command(run: MonitorFile, region: str, group: str, now: float) -> str:
    """Return an AWS CLI command for the same export."""
    words = ["aws", "logs", "create-export-task", "--region", region, "--log-group-name", group,
             "--from", str(run.MONITOR_START_TIME), "--to", str(int(now * 1000)),
             "--destination", run.MONITOR_BUCKET_NAME, "--destination-prefix", build_export_prefix(run)]  # fmt: skip
    return shlex.join(words)


def _load_settled_exports(clients: Clients, run: MonitorFile) -> dict[str, ExportOutcome]:
    try:
        body = clients.s3.get_object(Bucket=run.MONITOR_BUCKET_NAME, Key=run.keys.exports)["Body"].read()
        outcomes = [_parse_outcome(entry) for entry in json.loads(body)]
    except (*AWSError, ValueError, TypeError, KeyError):  # the file does not exist yet, or cannot be read
        return {}
    return {outcome.group: outcome for outcome in outcomes if outcome.is_settled}


def _parse_outcome(entry: Any) -> ExportOutcome:
    """Return the outcome from a stored entry. Raise ValueError, TypeError, or KeyError if the entry is invalid."""
    outcome = ExportOutcome(**{**entry, "status": ExportStatus(entry["status"])})
    if not all(isinstance(value, str) for value in asdict(outcome).values()):
        raise TypeError("every field of an outcome must be text")
    return outcome


def _save_settled_exports(clients: Clients, run: MonitorFile, settled: Mapping[str, ExportOutcome]) -> None:
    """Store the final outcomes.

    If this fails, a monitor may start an export again, which only duplicates files.
    """
    body = json.dumps([asdict(outcome) for outcome in settled.values()]).encode()
    with suppress(*AWSError):
        clients.s3.put_object(Bucket=run.MONITOR_BUCKET_NAME, Key=run.keys.exports, Body=body)


def _start_log_export(
    logs: CloudWatchLogsClient, run: MonitorFile, region: str, group: str, now: float
) -> ExportOutcome:
    prefix = build_export_prefix(run)
    outcome = ExportOutcome(
        group,
        ExportStatus.BEGUN,
        destination=f"s3://{run.MONITOR_BUCKET_NAME}/{prefix}/",
        command=format_export_command(run, region, group, now),
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
    problem = str(explain_aws_error("starting the export", error))
    return replace(outcome, status=ExportStatus.FAILED, problem=problem)
