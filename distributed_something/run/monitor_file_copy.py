"""The monitor file in the bucket: what the auto-monitor reads, and what clean-up finds from any computer."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.core.errors import InputError, get_error_code, is_missing_object, translate_aws_errors
from distributed_something.core.files import write_json_atomically
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key, parse_monitor_file

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def save_monitor_file(monitor_file: MonitorFile, path: Path, s3: S3Client) -> None:
    """Writes the file here first, then its copy in the bucket; raises CloudError if the copy fails."""
    write_json_atomically(path, asdict(monitor_file))
    _upload_copy(monitor_file, s3)


def save_cheapest_mode(monitor_file: MonitorFile, s3: S3Client) -> None:
    """Notes cheapest mode in the copy, if that is still this run's: the auto-monitor would undo it else. Raises
    CloudError."""
    with translate_aws_errors("telling the auto-monitor of the cheapest mode"), suppress(InputError):
        found = find_monitor_file_copy(
            s3, monitor_file.MONITOR_BUCKET_NAME, build_monitor_file_key(monitor_file.MONITOR_APP_NAME)
        )
        if found and found.MONITOR_FLEET_ID == monitor_file.MONITOR_FLEET_ID and not found.MONITOR_CHEAPEST:
            _upload_copy(replace(found, MONITOR_CHEAPEST=True), s3)


def _upload_copy(monitor_file: MonitorFile, s3: S3Client) -> None:
    key, body = (
        build_monitor_file_key(monitor_file.MONITOR_APP_NAME),
        json.dumps(asdict(monitor_file), indent=2).encode(),
    )
    with translate_aws_errors(f"copying the monitor file to s3://{monitor_file.MONITOR_BUCKET_NAME}/{key}"):
        s3.put_object(Bucket=monitor_file.MONITOR_BUCKET_NAME, Key=key, Body=body)


def find_monitor_file_copy(s3: S3Client, bucket: str, key: str) -> MonitorFile | None:
    """The copy in the bucket, that of the app's newest run; None without. Raises InputError where it is wrong, and
    AWS's errors."""
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if is_missing_object(error) or get_error_code(error) == "NoSuchBucket":
            return None
        raise
    where = f"s3://{bucket}/{key}"
    try:
        content = json.loads(body)
    except ValueError:
        raise InputError(where, "", "this is no JSON", "startCluster writes it") from None
    return parse_monitor_file(content if isinstance(content, dict) else {}, where)
