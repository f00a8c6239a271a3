"""The config that a user edits, read once and checked whole.

`config.py` is Python because the published one is (names built from APP_NAME, products of numbers); it is run, then
every upper-case constant is taken: those that the system knows are checked here, the others are the user's own and
reach the container as environment variables.
"""

from __future__ import annotations

import json
import re
import runpy
import warnings
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from control import patterns
from control.errors import InputError, one_line
from control.files import first_error, read_text

SQS_MAX_VISIBILITY_SECONDS = 43_200  # SQS: 12 hours
SPOT_FLEET_MAX_TARGET = 10_000  # EC2: target capacity of one Spot Fleet
EBS_MIN_GIB, EBS_MAX_GIB = 22, 16_384  # the ECS-optimised image's snapshot and its container disk; EC2's gp2/gp3 limit
MAX_RUN_HOURS = 365 * 24
MIN_LEASE_SECONDS = 10  # shorter leases cannot be extended in time when a call to AWS is repeated

_RESERVED = re.compile(
    r"(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN)|(LD|DYLD|PYTHON)_?\w*|PATH|HOME|RUN"
    r"|SQS_QUEUE_URL|SQS_DEAD_LETTER_QUEUE_URL|DOCKER_IMAGE|STOP_SECONDS|WORK_DIR|WORKER_SCRIPTS_DIR|INSTANCE_ID"
    r"|ONE_JOB_FOLDER)"
)
_PLACEHOLDERS = {
    "AWS_BUCKET": r"your-bucket-name",
    "SSH_KEY_NAME": r"your-key-file\.pem",
    "DOCKERHUB_TAG": r"user/.+",  # the examples' too, and what newProject writes
}


def _truth(value: object) -> object:
    """'True' and 'False' in any case, as published, or a real boolean."""
    words = {"true": True, "false": False}
    known = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(known, bool):
        raise ValueError("no truth value; write 'True' or 'False'")
    return known


def _number(value: object) -> object:
    """Python counts True as 1; a config that says so means something else."""
    if isinstance(value, bool):
        raise ValueError("no number; write a number")
    return value


def matching(pattern: str, right: str) -> BeforeValidator:
    """Lets only a text through that `pattern` matches whole; `right` says what to write."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"no match; write {right}")
        return value

    return BeforeValidator(check)


Truth = Annotated[bool, BeforeValidator(_truth)]
Whole = Annotated[int, BeforeValidator(_number)]
Price = Annotated[float, BeforeValidator(_number)]
Name = Annotated[str, matching(*patterns.NAME)]
QueueName = Annotated[str, matching(*patterns.QUEUE_NAME)]
Bucket = Annotated[str, matching(*patterns.BUCKET)]
Region = Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-\d", "a region's name, such as 'us-east-1'")]
Image = Annotated[str, matching(r"[a-z0-9][a-zA-Z0-9._/:@-]{0,254}", "an image's name, such as 'user/project:tag'")]
LogGroup = Annotated[str, matching(*patterns.LOG_GROUP)]
MachineType = Annotated[str, matching(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "an EC2 instance type, such as 'm5.large'")]


def _named_after_app(suffix: str) -> Any:
    """A field that is called as the shipped config calls it, where a shorter config does not say."""
    return Field(default_factory=lambda given: given.get("APP_NAME", "") + suffix, validate_default=True)


class Settings(BaseModel):
    """All that a run is told by its config. Upper-case names are the config's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    APP_NAME: Name
    DOCKERHUB_TAG: Image
    AWS_REGION: Region = "us-east-1"
    AWS_PROFILE: str = "default"
    SSH_KEY_NAME: str = ""
    AWS_BUCKET: Bucket
    ECS_CLUSTER: Name = "default"
    CLUSTER_MACHINES: Whole = Field(ge=1, le=SPOT_FLEET_MAX_TARGET)
    TASKS_PER_MACHINE: Whole = Field(default=1, ge=1, le=100)
    MACHINE_TYPE: list[MachineType] = Field(min_length=1, max_length=300)
    MACHINE_PRICE: Price = Field(gt=0, le=1000, allow_inf_nan=False, description="USD an hour a machine")
    EBS_VOL_SIZE: Whole = Field(default=30, ge=EBS_MIN_GIB, le=EBS_MAX_GIB, description="GiB")
    ASSIGN_IP: Truth = True
    DOCKER_CORES: Whole = Field(default=1, ge=1, le=1000)
    CPU_SHARES: Whole = Field(
        default_factory=lambda given: given.get("DOCKER_CORES", 1) * 1024, validate_default=True, ge=2, le=1024 * 448,
        description="1024 a virtual CPU",
    )  # fmt: skip
    MEMORY: Whole = Field(ge=6, le=1024 * 24_576, description="MiB a container")
    SECONDS_TO_START: Whole = Field(default=0, ge=0, le=3600)
    SQS_QUEUE_NAME: QueueName = _named_after_app("Queue")
    SQS_MESSAGE_VISIBILITY: Whole = Field(default=120, ge=MIN_LEASE_SECONDS, le=SQS_MAX_VISIBILITY_SECONDS)
    SQS_DEAD_LETTER_QUEUE: QueueName = _named_after_app("DeadMessages")
    JOB_RETRIES: Whole = Field(default=10, ge=1, le=1000)
    LOG_GROUP_NAME: LogGroup = _named_after_app("")
    AUTO_MONITOR: Truth = False
    CREATE_DASHBOARD: Truth = False
    CLEAN_DASHBOARD: Truth = True
    CHECK_IF_DONE_BOOL: Truth = True
    EXPECTED_NUMBER_FILES: Whole = Field(default=1, ge=0)
    MIN_FILE_SIZE_BYTES: Whole = Field(default=1, ge=0)
    NECESSARY_STRING: Annotated[str, matching(r"[^\0]*", "a text without zero bytes")] = ""
    MOUNT_S3: Truth = False
    IDLE_ALARM: Truth = True
    ON_DEMAND_MACHINES: Whole = Field(default=0, ge=0, le=SPOT_FLEET_MAX_TARGET)
    MAX_RUN_HOURS: Price = Field(default=7 * 24, gt=0, le=MAX_RUN_HOURS, allow_inf_nan=False, description="hours")
    MAX_COST: Price = Field(default=0, ge=0, le=10_000_000, allow_inf_nan=False, description="USD a run; 0: no limit")
    EXPORT_LOGS: Truth = True
    OWNER: Annotated[str, matching(r"[\w .:/=+@-]{0,256}", "a text of letters, digits, spaces and . : / = + - @")] = ""
    own: dict[str, str] = Field(default_factory=dict, description="the user's constants, as environment values")

    @field_validator("MACHINE_TYPE", mode="before")
    @classmethod
    def _one_type_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("SQS_DEAD_LETTER_QUEUE", mode="before")
    @classmethod
    def _name_of_an_arn(cls, value: object) -> object:
        """Older configs hold the queue's ARN; its last part is the name."""
        return value.rsplit(":", 1)[-1] if isinstance(value, str) and value.startswith("arn:") else value

    @field_validator("SQS_DEAD_LETTER_QUEUE")
    @classmethod
    def _queues_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("SQS_QUEUE_NAME"):
            raise ValueError("same name; write another name than SQS_QUEUE_NAME's: there must be two different queues")
        return value

    @property
    def task_family(self) -> str:
        return f"{self.APP_NAME}Task"

    @property
    def service_name(self) -> str:
        return f"{self.APP_NAME}Service"

    @property
    def slots(self) -> int:
        """Jobs that run at once when every machine is there."""
        return self.CLUSTER_MACHINES * self.TASKS_PER_MACHINE * self.DOCKER_CORES

    def for_worker(self) -> dict[str, str]:
        """The settings that a worker reads, as environment variables; booleans as 'True' and 'False'."""
        known = (
            "AWS_REGION", "APP_NAME", "AWS_BUCKET", "DOCKER_CORES", "LOG_GROUP_NAME", "CHECK_IF_DONE_BOOL",
            "EXPECTED_NUMBER_FILES", "ECS_CLUSTER", "SECONDS_TO_START", "MIN_FILE_SIZE_BYTES", "NECESSARY_STRING",
            "SQS_MESSAGE_VISIBILITY", "JOB_RETRIES", "MOUNT_S3", "IDLE_ALARM",
        )  # fmt: skip
        return {name: str(getattr(self, name)) for name in known} | self.own


def load(path: Path) -> Settings:
    """The settings in the config file `path`; raises InputError for whatever is wrong with it."""
    constants = {name: value for name, value in _run(path).items() if re.fullmatch(r"[A-Z][A-Z0-9_]*", name)}
    known = {name: value for name, value in constants.items() if name in Settings.model_fields}
    own = {name: _as_text(path, name, value) for name, value in constants.items() if name not in known}
    try:
        return Settings(**known, own=own)
    except ValidationError as error:
        raise first_error(path, error) from None


def require_filled_in(settings: Settings, path: Path) -> None:
    """Raises InputError where a placeholder of the shipped config is still there: AWS would be asked for it."""
    for key, placeholder in _PLACEHOLDERS.items():
        value = getattr(settings, key)
        if re.fullmatch(placeholder, value):
            raise InputError(
                path, key, f"{value!r} is a placeholder", "put your own there, or add --local to run without AWS"
            )


def _run(path: Path) -> dict[str, Any]:
    read_text(path, "a config file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\d' in a text, for one: an error of the file is told in one line
            return runpy.run_path(str(path))
    except SyntaxError as error:
        raise InputError(path, f"line {error.lineno}", f"this is not Python ({error.msg})", "correct it") from None
    except (Exception, SystemExit) as error:  # a config is a program of the user's: whatever it raises is wrong input
        line = _line_in(path, error)
        raise InputError(path, line, one_line(f"{type(error).__name__}: {error}"), "correct this line") from None


def _line_in(path: Path, error: BaseException) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f"line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _as_text(path: Path, name: str, value: object) -> str:
    """A user's own constant as the environment holds it: text as it is, everything else as JSON or True/False."""
    if _RESERVED.fullmatch(name):
        raise InputError(
            path, name, "this name is the system's own, or a key that must not be sent", "choose another name"
        )
    try:
        text = str(value) if isinstance(value, (str, bool, int, float)) else json.dumps(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        wrong = f"this {type(value).__name__} cannot reach the container"
        raise InputError(path, name, wrong, "use a text or a number") from None
    if "\0" in text:
        raise InputError(path, name, "a zero byte cannot reach the container", "take it out")
    return text
