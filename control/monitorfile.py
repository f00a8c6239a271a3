"""The monitor file: what a run is called in AWS and what it may use, so that any computer can watch it and clean up
after it, the auto-monitor in AWS too (which has no pydantic: the keys are checked here).

It lies in `files/` and, as a copy, in the bucket under `monitors/`. Published ones are read as they are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import patterns
from control.errors import InputError, code_of, doing, shown
from control.files import read_json_object, write_json_atomically
from control.patterns import Form

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from control.settings import Settings

LAST_MILLISECOND = 253_402_300_799_000  # the end of the year 9999
_FORMS = {
    "MONITOR_FLEET_ID": patterns.FLEET_ID,
    "MONITOR_APP_NAME": patterns.NAME,
    "MONITOR_ECS_CLUSTER": patterns.NAME,
    "MONITOR_QUEUE_NAME": patterns.QUEUE_NAME,
    "MONITOR_BUCKET_NAME": patterns.BUCKET,
    "MONITOR_LOG_GROUP_NAME": patterns.LOG_GROUP,
    "MONITOR_DEAD_LETTER_QUEUE": Form(f"({patterns.QUEUE_NAME.pattern})?", patterns.QUEUE_NAME.right),
}
_NAME_OF_RUN = "%Y%m%dT%H%M%SZ"
_MOST = {"MONITOR_START_TIME": LAST_MILLISECOND}


@dataclass(frozen=True)
class MonitorFile:
    """One run. MONITOR_START_TIME is in milliseconds since 1970, UTC; prices and costs are in USD.

    Older files lack what follows CLEAN_DASHBOARD: where MONITOR_MACHINES is 0, the fleet is not scaled down.
    """

    MONITOR_FLEET_ID: str
    MONITOR_APP_NAME: str
    MONITOR_ECS_CLUSTER: str
    MONITOR_QUEUE_NAME: str
    MONITOR_BUCKET_NAME: str
    MONITOR_LOG_GROUP_NAME: str
    MONITOR_START_TIME: int
    CLEAN_DASHBOARD: bool = True
    MONITOR_DEAD_LETTER_QUEUE: str = ""
    MONITOR_MACHINES: int = 0
    MONITOR_TASKS_PER_MACHINE: int = 1
    MONITOR_JOBS_PER_TASK: int = 1
    MONITOR_MACHINE_PRICE: float = 0.0
    MONITOR_MAX_COST: float = 0.0
    MONITOR_EXPORT_LOGS: bool = True
    MONITOR_CHEAPEST: bool = False
    MONITOR_ON_DEMAND_MACHINES: int = 0

    @property
    def run(self) -> str:
        """The run's name in the bucket."""
        return run_name(self.MONITOR_START_TIME / 1000)

    @property
    def service_name(self) -> str:
        return f"{self.MONITOR_APP_NAME}Service"

    @property
    def task_family(self) -> str:
        return f"{self.MONITOR_APP_NAME}Task"


def run_name(start: float) -> str:
    """The start of a run (seconds since 1970) as its name: UTC, sortable, safe in a key."""
    return datetime.fromtimestamp(start, UTC).strftime(_NAME_OF_RUN)


def start_of(run: str) -> float | None:
    """When the run of this name began, in seconds since 1970; None where this is no run's name."""
    try:
        start = datetime.strptime(run, _NAME_OF_RUN).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return start if run_name(start) == run else None  # strptime takes shorter ones too


def path_for(project: Path, app_name: str) -> Path:
    """Where the project keeps the monitor file."""
    return project / "files" / f"{app_name}SpotFleetRequestId.json"


def key_for(app_name: str) -> str:
    """Where its copy lies in the bucket."""
    return f"monitors/{app_name}SpotFleetRequestId.json"


def of_run(settings: Settings, fleet_id: str, start: float, *, cheapest: bool = False) -> MonitorFile:
    """The monitor file of a run that began at `start` (seconds since 1970)."""
    return MonitorFile(
        MONITOR_FLEET_ID=fleet_id,
        MONITOR_APP_NAME=settings.APP_NAME,
        MONITOR_ECS_CLUSTER=settings.ECS_CLUSTER,
        MONITOR_QUEUE_NAME=settings.SQS_QUEUE_NAME,
        MONITOR_BUCKET_NAME=settings.AWS_BUCKET,
        MONITOR_LOG_GROUP_NAME=settings.LOG_GROUP_NAME,
        MONITOR_START_TIME=int(start * 1000),
        CLEAN_DASHBOARD=settings.CLEAN_DASHBOARD,
        MONITOR_DEAD_LETTER_QUEUE=settings.SQS_DEAD_LETTER_QUEUE,
        MONITOR_MACHINES=settings.CLUSTER_MACHINES,
        MONITOR_TASKS_PER_MACHINE=settings.TASKS_PER_MACHINE,
        MONITOR_JOBS_PER_TASK=settings.DOCKER_CORES,
        MONITOR_MACHINE_PRICE=settings.MACHINE_PRICE,
        MONITOR_MAX_COST=settings.MAX_COST,
        MONITOR_EXPORT_LOGS=settings.EXPORT_LOGS,
        MONITOR_CHEAPEST=cheapest,
        MONITOR_ON_DEMAND_MACHINES=settings.ON_DEMAND_MACHINES,
    )


def load(path: Path) -> MonitorFile:
    """Reads a monitor file; raises InputError for whatever is wrong with it."""
    return of_content(
        read_json_object(path, "a monitor file: startCluster writes files/APP_NAMESpotFleetRequestId.json"), path
    )


def of_content(content: dict[str, Any], path: Path | str) -> MonitorFile:
    """The monitor file that a JSON object is; raises InputError about the first wrong key. Unknown keys are left."""
    given = {}
    for field in fields(MonitorFile):
        if field.name in content:
            given[field.name] = _checked(field.name, str(field.type), content[field.name], path)
        elif field.default is MISSING:
            raise InputError(path, field.name, "this key is missing", "add it")
    return MonitorFile(**given)


def save(monitor_file: MonitorFile, path: Path, s3: S3Client) -> None:
    """Writes the file here first, then its copy in the bucket; raises CloudError if the copy fails."""
    write_json_atomically(path, asdict(monitor_file))
    _put_copy(monitor_file, s3)


def make_cheapest(monitor_file: MonitorFile, s3: S3Client) -> None:
    """Notes cheapest mode in the copy, if that is still this run's: the auto-monitor would undo it else. Raises
    CloudError."""
    with doing("telling the auto-monitor of the cheapest mode"), suppress(InputError):
        found = copy_of(s3, monitor_file.MONITOR_BUCKET_NAME, key_for(monitor_file.MONITOR_APP_NAME))
        if found and found.MONITOR_FLEET_ID == monitor_file.MONITOR_FLEET_ID and not found.MONITOR_CHEAPEST:
            _put_copy(replace(found, MONITOR_CHEAPEST=True), s3)


def _put_copy(monitor_file: MonitorFile, s3: S3Client) -> None:
    key, body = key_for(monitor_file.MONITOR_APP_NAME), json.dumps(asdict(monitor_file), indent=2).encode()
    with doing(f"copying the monitor file to s3://{monitor_file.MONITOR_BUCKET_NAME}/{key}"):
        s3.put_object(Bucket=monitor_file.MONITOR_BUCKET_NAME, Key=key, Body=body)


def copy_of(s3: S3Client, bucket: str, key: str) -> MonitorFile | None:
    """The copy in the bucket, that of the app's newest run; None without. Raises InputError where it is wrong, and
    AWS's errors."""
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if code_of(error) in ("NoSuchKey", "NoSuchBucket", "404"):
            return None
        raise
    where = f"s3://{bucket}/{key}"
    try:
        content = json.loads(body)
    except ValueError:
        raise InputError(where, "", "this is no JSON", "startCluster writes it") from None
    return of_content(content if isinstance(content, dict) else {}, where)


def _checked(key: str, kind: str, value: Any, path: Path | str) -> Any:
    right = ""
    if kind == "str":
        right = "" if _FORMS[key].fits(value) else f"write {_FORMS[key].right}"
    elif kind == "bool":
        value = {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value
        right = "" if isinstance(value, bool) else "write 'True' or 'False'"
    else:
        right = _wrong_number(key, kind, value)
    if right:
        raise InputError(path, key, f"{shown(value)} does not fit", right)
    return value


def _wrong_number(key: str, kind: str, value: Any) -> str:
    wanted = (int,) if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
        return "write a whole number" if kind == "int" else "write a number"
    most = _MOST.get(key, 10**9)
    return "" if 0 <= value <= most else f"write a number from 0 to {most}"
