"""The monitor file: what a run is called in AWS, so that any computer can watch it and clean up after it.

It lies in `files/` and, as a copy, in the bucket under `monitors/`. Published ones are read as they are.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control.errors import doing
from control.files import first_error, read_json_object, write_json_atomically
from control.settings import Bucket, LogGroup, Name, QueueName, Settings, Truth, Whole, matching

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FleetId = Annotated[str, matching(r"sfr-[0-9a-f-]{8,60}", "a Spot Fleet's id, such as 'sfr-0123abcd-…'")]
_LAST_MILLISECOND = 253_402_300_799_000  # the end of the year 9999


class MonitorFile(BaseModel):
    """One run. MONITOR_START_TIME is in milliseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    MONITOR_FLEET_ID: FleetId
    MONITOR_APP_NAME: Name
    MONITOR_ECS_CLUSTER: Name
    MONITOR_QUEUE_NAME: QueueName
    MONITOR_BUCKET_NAME: Bucket
    MONITOR_LOG_GROUP_NAME: LogGroup
    MONITOR_START_TIME: Whole = Field(ge=0, le=_LAST_MILLISECOND)
    CLEAN_DASHBOARD: Truth = True

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
    return datetime.fromtimestamp(start, UTC).strftime("%Y%m%dT%H%M%SZ")


def path_for(project: Path, app_name: str) -> Path:
    """Where the project keeps the monitor file."""
    return project / "files" / f"{app_name}SpotFleetRequestId.json"


def of_run(settings: Settings, fleet_id: str, start: float) -> MonitorFile:
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
    )


def load(path: Path) -> MonitorFile:
    """Reads a monitor file; raises InputError for whatever is wrong with it."""
    content = read_json_object(path, "a monitor file: startCluster writes files/APP_NAMESpotFleetRequestId.json")
    try:
        return MonitorFile(**content)
    except ValidationError as error:
        raise first_error(path, error) from None


def save(monitor_file: MonitorFile, path: Path, s3: S3Client) -> None:
    """Writes the file here first, then its copy in the bucket; raises CloudError if the copy fails."""
    content = monitor_file.model_dump()
    write_json_atomically(path, content)
    with doing(f"copying the monitor file to s3://{monitor_file.MONITOR_BUCKET_NAME}/monitors/{path.name}"):
        s3.put_object(
            Bucket=monitor_file.MONITOR_BUCKET_NAME,
            Key=f"monitors/{path.name}",
            Body=json.dumps(content, indent=2).encode(),
        )
