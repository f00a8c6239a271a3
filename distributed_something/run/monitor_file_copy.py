"""The copies of the monitor file in the bucket.

There are two. The app's copy belongs to its newest run: the auto-monitor reads it, and cleanup uses it to identify the
run from any computer. The run's own copy stays among the run's documents, so that the run can still be found by its
name after `startCluster` has replaced the monitor file and the app's copy.
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
    parse_monitor_file,
    parse_run_start,
)
from distributed_something.core.text import format_names
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.worker import AppKeys, RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.config_settings import Settings


def save_monitor_file(s3: S3Client, monitor_file: MonitorFile, path: Path) -> None:
    """Write the monitor file to `path`, then copy it to the bucket. Raise CloudError if copying fails."""
    write_json_atomically(path, asdict(monitor_file))
    _save_app_copy(s3, monitor_file)
    save_run_copy(s3, monitor_file.MONITOR_BUCKET_NAME, monitor_file)


def save_cheapest_mode(s3: S3Client, monitor_file: MonitorFile) -> None:
    """Turn on cheapest mode in the app's copy, so that the auto-monitor does not undo it.

    A copy that belongs to a newer run is not changed. Raise CloudError if AWS reports an error.
    """
    with translate_aws_errors("saving cheapest mode for the auto-monitor"), suppress(InputError):
        copy = find_monitor_file_copy(
            s3, monitor_file.MONITOR_BUCKET_NAME, build_monitor_file_key(monitor_file.MONITOR_APP_NAME)
        )
        if copy and copy.MONITOR_FLEET_ID == monitor_file.MONITOR_FLEET_ID and not copy.MONITOR_CHEAPEST:
            _save_app_copy(s3, replace(copy, MONITOR_CHEAPEST=True))


def save_run_copy(s3: S3Client, bucket: str, monitor_file: MonitorFile) -> None:
    """Write the run's own copy to `bucket`, in which `load_run_copy` will look for it. Raise CloudError if that fails.

    `bucket` is the config's, which may have changed since the run.
    """
    _upload_copy(s3, bucket, monitor_file.keys.monitor_file, monitor_file)


def _save_app_copy(s3: S3Client, monitor_file: MonitorFile) -> None:
    key = build_monitor_file_key(monitor_file.MONITOR_APP_NAME)
    _upload_copy(s3, monitor_file.MONITOR_BUCKET_NAME, key, monitor_file)


def _upload_copy(s3: S3Client, bucket: str, key: str, monitor_file: MonitorFile) -> None:
    body = json.dumps(asdict(monitor_file), indent=2).encode()
    with translate_aws_errors(f"copying the monitor file to s3://{bucket}/{key}"):
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def find_newest_copy(s3: S3Client, settings: Settings) -> MonitorFile | None:
    """Return the app's copy, which belongs to its newest run, or None if there is no copy.

    Raise InputError if the copy is not valid, and CloudError if AWS reports an error.
    """
    key = build_monitor_file_key(settings.APP_NAME)
    with translate_aws_errors(f"reading s3://{settings.AWS_BUCKET}/{key}"):
        return find_monitor_file_copy(s3, settings.AWS_BUCKET, key)


def find_fleet_copy(s3: S3Client, settings: Settings, fleet_id: str, run: str) -> MonitorFile | None:
    """Return the copy that belongs to this fleet, which `run` requested; None if no copy of it is valid.

    The app's copy is the first choice, because only this one has the mode that `save_cheapest_mode` changed. Raise
    CloudError if AWS reports an error.
    """
    bucket = settings.AWS_BUCKET
    for key in (build_monitor_file_key(settings.APP_NAME), RunKeys(settings.APP_NAME, run).monitor_file):
        with translate_aws_errors(f"reading s3://{bucket}/{key}"), suppress(InputError):
            copy = find_monitor_file_copy(s3, bucket, key)
            if copy is not None and fleet_id == copy.MONITOR_FLEET_ID:
                return copy
    return None


def load_run_copy(s3: S3Client, settings: Settings, run: str) -> MonitorFile:
    """Return the monitor file of the app's run with this name.

    Older versions kept only the app's copy, which is used if it belongs to this run. Raise InputError, which names the
    newest runs, if there is no such run or no copy, and CloudError if AWS reports an error.
    """
    bucket, keys = settings.AWS_BUCKET, RunKeys(settings.APP_NAME, run)
    with translate_aws_errors(f"looking for the run {run} in s3://{bucket}/{AppKeys(settings.APP_NAME).prefix}"):
        copy = find_monitor_file_copy(s3, bucket, keys.monitor_file) if parse_run_start(run) is not None else None
        copy = copy or find_newest_copy(s3, settings)
        if copy is not None and copy.run == run:
            return copy
        runs = list_newest_runs(s3, settings)
    if run in runs:
        problem = f"an older version, which kept no monitor file in s3://{bucket}/{keys.prefix}, started this run"
        remedy = f"give the monitor file that startCluster wrote; the run's summary is {keys.summary} in the bucket"
        raise InputError(run, "", problem, remedy)
    problem = f"there is no such run of {settings.APP_NAME} in s3://{bucket}/{AppKeys(settings.APP_NAME).prefix}"
    remedy = f"give one of the newest runs: {format_names(runs)}" if runs else "startCluster starts the first one"
    raise InputError(run, "", problem, remedy)


def list_newest_runs(s3: S3Client, settings: Settings) -> list[str]:
    """Return the names of the app's runs, newest first. AWS errors are not caught."""
    return sorted(list_runs(s3, settings.AWS_BUCKET, settings.APP_NAME), reverse=True)


def find_monitor_file_copy(s3: S3Client, bucket: str, key: str) -> MonitorFile | None:
    """Return the copy in the bucket, or None if there is no copy.

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
