"""The monitor file: what a run is called in AWS and what it may use, so that any computer can watch it and clean up
after it, the auto-monitor in AWS too (which has no pydantic: the keys are checked here).

It lies in `files/` and, as a copy, in the bucket under `monitors/`. Published ones are read as they are.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_json_object
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    FLEET_ID_FORMAT,
    LOG_GROUP_NAME_FORMAT,
    MONITOR_PREFIX,
    QUEUE_NAME_FORMAT,
    RESOURCE_NAME_FORMAT,
    AppNames,
    NameFormat,
)
from distributed_something.core.text import format_value
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


MAX_START_MILLISECONDS = 253_402_300_799_000  # the end of the year 9999
_FORMATS_BY_KEY = {
    "MONITOR_FLEET_ID": FLEET_ID_FORMAT,
    "MONITOR_APP_NAME": RESOURCE_NAME_FORMAT,
    "MONITOR_ECS_CLUSTER": RESOURCE_NAME_FORMAT,
    "MONITOR_QUEUE_NAME": QUEUE_NAME_FORMAT,
    "MONITOR_BUCKET_NAME": BUCKET_NAME_FORMAT,
    "MONITOR_LOG_GROUP_NAME": LOG_GROUP_NAME_FORMAT,
    "MONITOR_DEAD_LETTER_QUEUE": NameFormat(f"({QUEUE_NAME_FORMAT.pattern})?", QUEUE_NAME_FORMAT.right),
}
_RUN_NAME_FORMAT = "%Y%m%dT%H%M%SZ"
MAX_NUMBER = 10**9  # of machines, USD, …
_MAX_VALUES_BY_KEY = {"MONITOR_START_TIME": MAX_START_MILLISECONDS}


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
        return build_run_name(self.MONITOR_START_TIME / 1000)

    @property
    def keys(self) -> RunKeys:
        """Where the run's records, logs, and documents lie in the bucket."""
        return RunKeys(self.MONITOR_APP_NAME, self.run)

    @property
    def names(self) -> AppNames:
        """What the app's resources are called in AWS."""
        return AppNames(self.MONITOR_APP_NAME)


def build_run_name(start: float) -> str:
    """The start of a run (seconds since 1970) as its name: UTC, sortable, safe in a key."""
    return datetime.fromtimestamp(start, UTC).strftime(_RUN_NAME_FORMAT)


def parse_run_start(run: str) -> float | None:
    """When the run of this name began, in seconds since 1970; None where this is no run's name."""
    try:
        start = datetime.strptime(run, _RUN_NAME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return start if build_run_name(start) == run else None  # strptime takes shorter ones too


def build_monitor_file_path(project: Path, app_name: str) -> Path:
    """Where the project keeps the monitor file."""
    return project / "files" / f"{app_name}SpotFleetRequestId.json"


def build_monitor_file_key(app_name: str) -> str:
    """Where its copy lies in the bucket."""
    return f"{MONITOR_PREFIX}/{app_name}SpotFleetRequestId.json"


def build_monitor_file(settings: Settings, fleet_id: str, start: float, *, cheapest: bool = False) -> MonitorFile:
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


def load_monitor_file(path: Path) -> MonitorFile:
    """Reads a monitor file; raises InputError for whatever is wrong with it."""
    return parse_monitor_file(
        read_json_object(path, "a monitor file: startCluster writes files/APP_NAMESpotFleetRequestId.json"), path
    )


def parse_monitor_file(content: dict[str, Any], path: Path | str) -> MonitorFile:
    """The monitor file that a JSON object is; raises InputError about the first wrong key. Unknown keys are left."""
    given = {}
    for field in fields(MonitorFile):
        if field.name in content:
            given[field.name] = _parse_value(field.name, str(field.type), content[field.name], path)
        elif field.default is MISSING:
            raise InputError(path, field.name, "this key is missing", "add it")
    return MonitorFile(**given)


def _parse_value(key: str, kind: str, value: Any, path: Path | str) -> Any:
    """The value as the field holds it; `kind`: the field's type. Raises InputError."""
    if kind == "bool" and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not _is_valid_value(key, kind, value):
        raise InputError(path, key, f"{format_value(value)} does not fit", _build_remedy(key, kind, value))
    return value


def _is_valid_value(key: str, kind: str, value: Any) -> bool:
    if kind == "str":
        return _FORMATS_BY_KEY[key].fits(value)
    if kind == "bool":
        return isinstance(value, bool)
    return _is_number(kind, value) and 0 <= value <= _get_maximum(key)


def _build_remedy(key: str, kind: str, value: Any) -> str:
    if kind == "str":
        return f"write {_FORMATS_BY_KEY[key].right}"
    if kind == "bool":
        return "write 'True' or 'False'"
    if not _is_number(kind, value):
        return "write a whole number" if kind == "int" else "write a number"
    return f"write a number from 0 to {_get_maximum(key)}"


def _is_number(kind: str, value: Any) -> bool:
    return isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)


def _get_maximum(key: str) -> int:
    return _MAX_VALUES_BY_KEY.get(key, MAX_NUMBER)
