"""What a run that has ended says about the next run of its Job file.

The run's document says which Job file it was, and what the config was. A run without one, or with the jobs of several
Job files or of `retry`, has no forecast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.spot_prices import list_spot_prices
from distributed_something.core.errors import is_missing_object
from distributed_something.core.submission import SubmissionDocument, parse_submission_object
from distributed_something.results.next_run.document import RunMeasurement, load_measurement
from distributed_something.results.next_run.forecast import MIN_JOBS, Cluster
from distributed_something.results.next_run.limits import RunLimits
from distributed_something.results.next_run.measured_jobs import MeasuredJobs
from distributed_something.results.next_run.view import NextRun, forecast_next_run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

MAX_STARTUP_SECONDS, MAX_IDLE_SECONDS = 3600.0, 600.0  # longer ones have causes that the next run need not have


def measure_next_run(clients: Clients, file: MonitorFile, measured: MeasuredJobs, ended: float) -> NextRun | None:
    """Return the forecast of the next run of the Job file; None if there is none. AWS errors are not caught.

    `ended`: when the run ended, in seconds since 1970. This takes three requests, one of them for the spot prices. A
    canary that measured too few jobs does not replace what an earlier run of the Job file measured: if the file is the
    same, the forecast is the one from then.
    """
    bucket = file.MONITOR_BUCKET_NAME
    document = _read_object(clients.s3, bucket, file.keys.run_document)
    submission = None if document is None else _find_submission(clients.s3, bucket, document)
    if document is None or submission is None or (measured.count < MIN_JOBS and not submission.canary_of):
        return None
    config = _get_object(_get_object(document, "config"), "values")
    types = tuple(map(str, config.get("MACHINE_TYPE") or ()))
    price = _find_price(clients, types, file.MONITOR_MACHINE_PRICE, ended)
    measurement = RunMeasurement(
        file.run, submission.job_file_path, submission.job_count, submission.planned if submission.canary_of else 0,
        price or 0.0, *_measure_edges(file, measured, ended), types, measured, submission.file_digest,
    )  # fmt: skip
    if measured.count < MIN_JOBS:  # most of them were done before, or failed
        earlier = load_measurement(clients.s3, bucket, file.MONITOR_APP_NAME)
        if earlier is not None and earlier.job_file == measurement.job_file and earlier.measured.count >= MIN_JOBS:
            if earlier.digest != measurement.digest:
                return None
            measurement = earlier
    slots = file.MONITOR_TASKS_PER_MACHINE * file.MONITOR_JOBS_PER_TASK
    cluster = build_cluster(measurement, file.MONITOR_MACHINES, slots, price or file.MONITOR_MACHINE_PRICE)
    limits = RunLimits(
        file.MONITOR_JOBS_PER_TASK, slots, _read_number(config, "MEMORY"), _read_number(config, "EBS_VOL_SIZE"),
        file.MONITOR_MAX_COST, _read_number(config, "MAX_RUN_HOURS"),
    )  # fmt: skip
    return forecast_next_run(measurement, cluster, limits, is_bid=price is None)


def build_cluster(measurement: RunMeasurement, machines: int, slots: int, usd_per_hour: float) -> Cluster:
    """Return machines that start and end as those of the measured run did. `slots`: of one machine."""
    return Cluster(machines, slots, usd_per_hour, measurement.startup_seconds, measurement.idle_seconds)


def _measure_edges(file: MonitorFile, measured: MeasuredJobs, ended: float) -> tuple[float, float]:
    """Return the seconds before the run's first job began, and those after its last job ended."""
    start = file.MONITOR_START_TIME / 1000
    before = (start if measured.first_start is None else measured.first_start) - start
    after = ended - (ended if measured.last_end is None else measured.last_end)
    return min(max(0.0, before), MAX_STARTUP_SECONDS), min(max(0.0, after), MAX_IDLE_SECONDS)


def _find_price(clients: Clients, types: tuple[str, ...], bid: float, now: float) -> float | None:
    """Return the median of the types' current spot prices up to the bid, in USD per hour; None if there is none."""
    prices = list_spot_prices(clients.ec2, types, now) if types else {}
    return median(affordable) if (affordable := [price for price in prices.values() if price <= bid]) else None


def _find_submission(s3: S3Client, bucket: str, document: Mapping[str, Any]) -> SubmissionDocument | None:
    """Return the latest submission of the run's Job file; None if the run had jobs of other files or of `retry`."""
    entries = [entry for entry in document.get("job_files") or () if isinstance(entry, dict)]
    if (
        not entries
        or any(entry.get("retry_of") for entry in entries)
        or len({entry.get("path") for entry in entries}) > 1
    ):
        return None
    content = _read_object(s3, bucket, str(entries[-1].get("submission")))
    try:
        return None if content is None else parse_submission_object(content)
    except ValueError:
        return None


def _read_object(s3: S3Client, bucket: str, key: str) -> Mapping[str, Any] | None:
    """Return the JSON object with this key; None if it does not exist or is not valid."""
    try:
        content = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _get_object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _read_number(content: Mapping[str, Any], key: str) -> float:
    value = content.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
