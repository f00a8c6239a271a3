"""The copy of the monitor file in the bucket.

The auto-monitor reads this copy, and cleanup uses it to identify the run from any computer.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.core.errors import InputError, get_error_code, is_missing_object, translate_aws_errors
from distributed_something.core.files import write_json_atomically
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file_key,
    build_monitor_file_path,
    load_monitor_file,
    parse_monitor_file,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.config_settings import Settings


def save_monitor_file(s3: S3Client, monitor_file: MonitorFile, path: Path) -> None:
    """Write the monitor file to `path`, then copy it to the bucket. Raise CloudError if copying fails."""
    write_json_atomically(path, asdict(monitor_file))
    _upload_copy(s3, monitor_file)


def save_cheapest_mode(s3: S3Client, monitor_file: MonitorFile) -> None:
    """Turn on cheapest mode in the copy, so that the auto-monitor does not undo it.

    A copy that belongs to a newer run is not changed. Raise CloudError if AWS reports an error.
    """
    with translate_aws_errors("saving cheapest mode for the auto-monitor"), suppress(InputError):
        copy = find_monitor_file_copy(
            s3, monitor_file.MONITOR_BUCKET_NAME, build_monitor_file_key(monitor_file.MONITOR_APP_NAME)
        )
        if copy and copy.MONITOR_FLEET_ID == monitor_file.MONITOR_FLEET_ID and not copy.MONITOR_CHEAPEST:
            _upload_copy(s3, replace(copy, MONITOR_CHEAPEST=True))


def _upload_copy(s3: S3Client, monitor_file: MonitorFile) -> None:
    key = build_monitor_file_key(monitor_file.MONITOR_APP_NAME)
    body = json.dumps(asdict(monitor_file), indent=2).encode()
    with translate_aws_errors(f"copying the monitor file to s3://{monitor_file.MONITOR_BUCKET_NAME}/{key}"):
        s3.put_object(Bucket=monitor_file.MONITOR_BUCKET_NAME, Key=key, Body=body)


def load_default_monitor_file(s3: S3Client, settings: Settings, project: Path) -> tuple[MonitorFile, Path | str]:
    """Return the monitor file of the app's newest run, and where it is: in the folder `project` or in the bucket.

    Raise InputError if it does not exist or is not valid, and CloudError if AWS reports an error.
    """
    path = build_monitor_file_path(project, settings.APP_NAME)
    if path.exists():
        return load_monitor_file(path), path
    key = build_monitor_file_key(settings.APP_NAME)
    address = f"s3://{settings.AWS_BUCKET}/{key}"
    with translate_aws_errors(f"reading {address}"):
        copy = find_monitor_file_copy(s3, settings.AWS_BUCKET, key)
    if copy is None:
        problem = f"this monitor file does not exist, and there is no copy in {address}"
        raise InputError(path, "", problem, "give the run's monitor file; startCluster writes one for each run")
    return copy, address


def find_monitor_file_copy(s3: S3Client, bucket: str, key: str) -> MonitorFile | None:
    """Return the copy in the bucket, which belongs to the app's newest run, or None if there is no copy.

    Raise InputError if the copy is not a valid monitor file. AWS errors are not caught.
    """
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if is_missing_object(error) or get_error_code(error) == "NoSuchBucket":
            return None
        raise
    address = f"s3://{bucket}/{key}"
    try:
        content = json.loads(body)
    except ValueError:
        remedy = "replace it with the monitor file that startCluster wrote"
        raise InputError(address, "", "not valid JSON", remedy) from None
    return parse_monitor_file(content if isinstance(content, dict) else {}, address)
