"""The document `forecast.json`: what an app's latest run measured, for the forecast of the next run of its Job file.

It is one object for each app, so `check` reads it with a single request. It contains the measured jobs and not only the
forecast, because the config's machines may have changed since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.results.next_run.forecast import RunForecast
from distributed_something.results.next_run.measured_jobs import MeasuredJobs
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class RunMeasurement:
    """What a run measured, and the Job file that its jobs came from.

    `jobs`: how many jobs the entire Job file has. `canary`: how many of them were sent; 0 if all were. `usd_per_hour`:
    of one machine at the end of the run. `machine_types`: of the run's config. `startup_seconds` and `idle_seconds`: as
    in Cluster. `digest`: of all messages of the Job file; "" in documents of older versions.
    """

    run: str
    job_file: str
    jobs: int
    canary: int = 0
    usd_per_hour: float = 0.0
    startup_seconds: float = 0.0
    idle_seconds: float = 0.0
    machine_types: tuple[str, ...] = ()
    measured: MeasuredJobs = field(default_factory=MeasuredJobs)
    digest: str = ""


def save_measurement(
    s3: S3Client, bucket: str, app: str, measurement: RunMeasurement, forecast: RunForecast | None
) -> None:
    """Write the document, with the forecast for the run's own machines, which is for scripts.

    AWS errors are not caught.
    """
    body = json.dumps({"app": app, "forecast": asdict(forecast) if forecast else None, **asdict(measurement)}).encode()
    s3.put_object(Bucket=bucket, Key=AppKeys(app).forecast, Body=body, ContentType="application/json")


def load_measurement(s3: S3Client, bucket: str, app: str) -> RunMeasurement | None:
    """Return what the app's latest run measured; None if there is nothing, or if it is not valid.

    AWS errors are not caught.
    """
    try:
        body = s3.get_object(Bucket=bucket, Key=AppKeys(app).forecast)["Body"].read()
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    try:
        return _parse_measurement(json.loads(body))
    except (ValueError, TypeError, RecursionError):
        return None


def _parse_measurement(content: Any) -> RunMeasurement:
    """Return the document. Unknown keys are ignored. Raise TypeError or ValueError if it is not valid."""
    values = _select_fields(RunMeasurement, content)
    values["machine_types"] = tuple(map(str, values.get("machine_types", ())))
    measured = _select_fields(MeasuredJobs, values.pop("measured", {}))
    for name in ("seconds", "program_seconds", "peak_memory", "file_bytes"):
        measured[name] = tuple(sorted(map(float, measured.get(name, ()))))
    measurement = RunMeasurement(**values, measured=MeasuredJobs(**measured))
    numbers = (
        measurement.jobs, measurement.canary, measurement.usd_per_hour, measurement.startup_seconds,
        measurement.idle_seconds, measurement.measured.count, measurement.measured.total_seconds,
        measurement.measured.time_limit or 0.0, *measurement.measured.failures.values(), *measured["seconds"],
    )  # fmt: skip
    if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
        raise ValueError("a number is negative or missing")
    return measurement


def _select_fields(kind: type, content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise TypeError("not an object")
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}
