"""The log export at the end of a run: its two log groups are copied to the bucket, to `exportedlogs/`.

The published system does the same. An account can have one active export at a time, and an export takes minutes to
hours. So the exports are started here, but not waited for. If an export cannot be started, a line says so and names the
command that starts it later. The log of each job is in the bucket beside its record in any case.
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
    """Status of an export. BUSY and FAILED can change at a later attempt; the others are final."""

    BEGUN = "begun"
    BUSY = "busy"
    FAILED = "failed"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True)
class ExportOutcome:
    """The outcome of the export of one log group.

    `destination`: the S3 address of the files. `command`: an AWS CLI command for the same export. `task`: AWS's id of
    the export. `problem`: AWS's words, if it refused.
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

    The list is empty if the run exports no logs. `now`: seconds since 1970, the end of the exported period. Call it
    again later, because AWS usually refuses the second export while the first is running. Final outcomes are stored in
    the bucket, so that no monitor starts an export twice. AWS's errors are part of the outcomes, not raised.
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
    """Start the export of these log groups, from the run's start to `now` (seconds since 1970).

    It makes one call per group and does not wait. AWS's errors are part of the outcomes, not raised.
    """
    return [_start_log_export(logs, run, region, group, now) for group in groups]


def format_export_outcome(outcome: ExportOutcome) -> str:
    """Return the line that a user reads."""
    not_exported = f"log group {outcome.group} was not exported"
    match outcome.status:
        case ExportStatus.BEGUN:
            return f"log group {outcome.group} is being exported to {outcome.destination} (task {outcome.task})"
        case ExportStatus.MISSING:
            return f"{not_exported}: it does not exist"
        case ExportStatus.BUSY:
            problem = (
                "another export is running in this account, and AWS allows one at a time; when it has finished, run"
            )
            return f"{not_exported}: {problem}: {outcome.command}"
        case ExportStatus.REFUSED:
            remedy = "run setupAWS to write the bucket policy, then run"
            return format_one_line(f"{not_exported}: {outcome.problem} — {remedy}: {outcome.command}")
        case ExportStatus.FAILED:
            return f"{not_exported}: {outcome.problem}; to export it later, run: {outcome.command}"


def build_export_prefix(run: MonitorFile) -> str:
    """Return the prefix of the exported files in the bucket; AWS adds the export's id and the stream's name."""
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
    """Return the outcome in a stored entry. Raise ValueError, TypeError, or KeyError if it is not an outcome."""
    outcome = ExportOutcome(**{**entry, "status": ExportStatus(entry["status"])})
    if not all(isinstance(value, str) for value in asdict(outcome).values()):
        raise TypeError("every field of an outcome is text")
    return outcome


def _save_settled_exports(clients: Clients, run: MonitorFile, settled: Mapping[str, ExportOutcome]) -> None:
    """Store the final outcomes. If this fails, a monitor may start an export again, which only duplicates files."""
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
