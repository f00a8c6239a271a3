"""The monitor file: the names of a run's AWS resources and the run's limits.

With this file, any computer can watch the run and clean up after it.

`startCluster` writes the file to `files/` and copies it to the bucket: to `monitors/`, where the app's next run
replaces it, and to the run's documents. Files from the published system are accepted. The auto-monitor reads the file
too; because pydantic is not available in Lambda, this module checks the keys itself.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import check_file_kind, read_json_object
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    FLEET_ID_FORMAT,
    LOG_GROUP_NAME_FORMAT,
    MONITOR_PREFIX,
    QUEUE_NAME_FORMAT,
    RESOURCE_NAME_FORMAT,
    TOPIC_ARN_FORMAT,
    TYPED_TEXT_FORMAT,
    AppNames,
)
from distributed_something.core.text import find_similar_name, format_json
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
    **dict.fromkeys(("MONITOR_COMMAND", "MONITOR_FILE_PATH", "MONITOR_FLEET_FILE"), TYPED_TEXT_FORMAT),
    "MONITOR_DEAD_LETTER_QUEUE": QUEUE_NAME_FORMAT._replace(pattern=f"({QUEUE_NAME_FORMAT.pattern})?"),
    "MONITOR_NOTIFY": TOPIC_ARN_FORMAT._replace(pattern=f"({TOPIC_ARN_FORMAT.pattern})?"),
}
_RUN_NAME_FORMAT = "%Y%m%dT%H%M%SZ"
_TIME_PATTERN = re.compile(r"\d{4}[-\d:.TZ]*", re.ASCII | re.IGNORECASE)
MAX_NUMBER = 10**9  # the maximum for all other numbers, such as machines and USD
_MAX_VALUES_BY_KEY = {"MONITOR_START_TIME": MAX_START_MILLISECONDS}


@dataclass(frozen=True)
class MonitorFile:
    """The content of a monitor file, which describes one run.

    MONITOR_START_TIME is in milliseconds since 1970, UTC; prices and costs are in USD. Files from the published system
    do not have the keys after CLEAN_DASHBOARD; if MONITOR_MACHINES is 0, the fleet is not scaled down.

    MONITOR_NOTIFY: the ARN of the topic that gets the run's notifications; "" for none.

    The four keys before it say how the user typed commands, so that the auto-monitor can advise real ones: the command
    without its name, and the paths of this file and of the Fleet file. MONITOR_HAS_IMAGE: whether workers run in
    containers. Without MONITOR_COMMAND, this is not known.
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
    MONITOR_COMMAND: str = ""
    MONITOR_FILE_PATH: str = ""
    MONITOR_FLEET_FILE: str = ""
    MONITOR_HAS_IMAGE: bool = True
    MONITOR_NOTIFY: str = ""

    @property
    def run(self) -> str:
        """Return the run's name, as it appears in the bucket's keys."""
        return build_run_name(self.MONITOR_START_TIME / 1000)

    @property
    def keys(self) -> RunKeys:
        """Return the keys of the run's records, logs, and documents in the bucket."""
        return RunKeys(self.MONITOR_APP_NAME, self.run)

    @property
    def names(self) -> AppNames:
        """Return the names of the app's resources in AWS."""
        return AppNames(self.MONITOR_APP_NAME)


def build_run_name(start: float) -> str:
    """Return the name of a run that starts at `start` (seconds since 1970): UTC, sortable, and safe in a key."""
    return datetime.fromtimestamp(start, UTC).strftime(_RUN_NAME_FORMAT)


def parse_run_start(run: str) -> float | None:
    """Return when the run with this name started (seconds since 1970), or None if this is not a run's name."""
    try:
        start = datetime.strptime(run, _RUN_NAME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return start if build_run_name(start) == run else None  # strptime also accepts shorter names


def resembles_run_name(text: str) -> bool:
    """Return whether the text is a run's name or was probably meant as one, because it is a date or a time."""
    return _TIME_PATTERN.fullmatch(text) is not None


def build_monitor_file_path(project: Path, app_name: str) -> Path:
    """Return the path of an app's monitor file in the folder `project`."""
    return project / "files" / f"{app_name}SpotFleetRequestId.json"


def build_monitor_file_key(app_name: str) -> str:
    """Return the key of the copy of the monitor file of the app's newest run."""
    return f"{MONITOR_PREFIX}/{app_name}SpotFleetRequestId.json"


def build_monitor_file(settings: Settings, fleet_id: str, start: float, *, cheapest: bool = False) -> MonitorFile:
    """Return the monitor file of a run that started at `start` (seconds since 1970)."""
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
        MONITOR_NOTIFY=settings.NOTIFY,
    )


def load_monitor_file(path: Path) -> MonitorFile:
    """Return the content of a monitor file. Raise InputError with all problems if it is not valid."""
    return parse_monitor_file(
        read_json_object(path, "a monitor file: startCluster writes files/APP_NAMESpotFleetRequestId.json"), path
    )


def parse_monitor_file(content: dict[str, Any], path: Path | str) -> MonitorFile:
    """Return the monitor file that `content` represents. Unknown keys are ignored.

    Raise InputError if keys are missing or misspelled, if values are invalid, or if this is another kind of file.
    """
    check_file_kind(path, content, "monitor file")
    problems, values = InputProblems(), {}
    names = {field.name for field in fields(MonitorFile)}
    for field in fields(MonitorFile):
        if field.name in content:
            with problems.collect():
                values[field.name] = _parse_value(field.name, str(field.type), content[field.name], path)
        elif field.default is MISSING:
            problems.add(InputError(path, field.name, "this key is missing", "add it, or run startCluster again"))
    for key in content:
        if key not in names and (similar := find_similar_name(key, names - content.keys())):
            problem = f"nothing uses this key, whose name is similar to {similar}"
            problems.add(InputError(path, key, problem, f"write {similar}"))
    problems.raise_if_any()
    return MonitorFile(**values)


def _parse_value(key: str, type_name: str, value: Any, path: Path | str) -> Any:
    """Return the value converted to the field's type, `type_name`. Raise InputError if the value is invalid."""
    if type_name == "bool" and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not _is_valid_value(key, type_name, value):
        problem, remedy = _explain_invalid_value(key, type_name, value)
        raise InputError(path, key, f"{format_json(value)} {problem}", remedy)
    return value


def _is_valid_value(key: str, type_name: str, value: Any) -> bool:
    if type_name == "str":
        return _FORMATS_BY_KEY[key].fits(value)
    if type_name == "bool":
        return isinstance(value, bool)
    return _is_number(type_name, value) and 0 <= value <= _get_maximum(key)


def _explain_invalid_value(key: str, type_name: str, value: Any) -> tuple[str, str]:
    """Return what is wrong with the value and how to fix it."""
    if type_name == "str":
        return f"is not {_FORMATS_BY_KEY[key].noun}", _FORMATS_BY_KEY[key].remedy
    if type_name == "bool":
        return "is not true or false", "write true or false"
    if not _is_number(type_name, value):
        noun = "a whole number" if type_name == "int" else "a number"
        return f"is not {noun}", f"write {noun}"
    return "is out of range", f"write a number from 0 to {_get_maximum(key)}"


def _is_number(type_name: str, value: Any) -> bool:
    return isinstance(value, int if type_name == "int" else (int, float)) and not isinstance(value, bool)


def _get_maximum(key: str) -> int:
    return _MAX_VALUES_BY_KEY.get(key, MAX_NUMBER)
