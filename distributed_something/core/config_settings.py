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
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from distributed_something.core.errors import InputError
from distributed_something.core.files import build_value_error, explain_validation_error, read_text_file
from distributed_something.core.image_name import IMAGE_NAME_FORMAT
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    LOG_GROUP_NAME_FORMAT,
    QUEUE_NAME_FORMAT,
    RESOURCE_NAME_FORMAT,
    AppNames,
)
from distributed_something.core.text import format_one_line

SQS_MAX_VISIBILITY_SECONDS = 43_200  # SQS: 12 hours
SPOT_FLEET_MAX_TARGET = 10_000  # EC2: target capacity of one Spot Fleet
EBS_MIN_GIB, EBS_MAX_GIB = 22, 16_384  # the ECS-optimised image's snapshot and its container disk; EC2's gp2/gp3 limit
MAX_RUN_HOURS = 365 * 24
MIN_LEASE_SECONDS = 10  # shorter leases cannot be extended in time when a call to AWS is repeated

_RESERVED_NAME_PATTERN = re.compile(
    r"(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN)|(LD|DYLD|PYTHON)_?\w*|PATH|HOME|RUN"
    r"|SQS_QUEUE_URL|SQS_DEAD_LETTER_QUEUE_URL|DOCKER_IMAGE|STOP_SECONDS|WORK_DIR|WORKER_SCRIPTS_DIR|INSTANCE_ID"
    r"|ONE_JOB_FOLDER)"
)
_PLACEHOLDER_PATTERNS = {
    "AWS_BUCKET": r"your-bucket-name",
    "SSH_KEY_NAME": r"your-key-file\.pem",
    "DOCKERHUB_TAG": r"user/.+",  # the examples' too, and what newProject writes
}


def _parse_boolean(value: object) -> object:
    """'True' and 'False' in any case, as published, or a real boolean."""
    words = {"true": True, "false": False}
    known = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(known, bool):
        raise build_value_error("write 'True' or 'False'")
    return known


def _check_not_boolean(value: object) -> object:
    """Python counts True as 1; a config that says so means something else."""
    if isinstance(value, bool):
        raise build_value_error("write a number")
    return value


def build_pattern_validator(pattern: str, right: str) -> BeforeValidator:
    """Lets only a text through that `pattern` matches whole; `right` says what to write."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise build_value_error(f"write {right}")
        return value

    return BeforeValidator(check)


ConfigBoolean = Annotated[bool, BeforeValidator(_parse_boolean)]
ConfigInteger = Annotated[int, BeforeValidator(_check_not_boolean)]
ConfigNumber = Annotated[float, BeforeValidator(_check_not_boolean)]
ResourceName = Annotated[str, build_pattern_validator(*RESOURCE_NAME_FORMAT)]
QueueName = Annotated[str, build_pattern_validator(*QUEUE_NAME_FORMAT)]
BucketName = Annotated[str, build_pattern_validator(*BUCKET_NAME_FORMAT)]
RegionName = Annotated[str, build_pattern_validator(r"[a-z]{2}(-[a-z]+)+-\d", "a region's name, such as 'us-east-1'")]
DockerImage = Annotated[str, build_pattern_validator(*IMAGE_NAME_FORMAT)]
LogGroupName = Annotated[str, build_pattern_validator(*LOG_GROUP_NAME_FORMAT)]
MachineTypeName = Annotated[
    str, build_pattern_validator(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "an EC2 instance type, such as 'm5.large'")
]


def _build_app_named_field(choose_name: Callable[[AppNames], str]) -> Any:
    """Return a field that has the shipped config's value where a shorter config does not set it."""
    return Field(default_factory=lambda given: choose_name(AppNames(given.get("APP_NAME", ""))), validate_default=True)


class Settings(BaseModel):
    """All that a run is told by its config. Upper-case names are the config's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    APP_NAME: ResourceName
    DOCKERHUB_TAG: DockerImage
    AWS_REGION: RegionName = "us-east-1"
    AWS_PROFILE: str = "default"
    SSH_KEY_NAME: str = ""
    AWS_BUCKET: BucketName
    ECS_CLUSTER: ResourceName = "default"
    CLUSTER_MACHINES: ConfigInteger = Field(ge=1, le=SPOT_FLEET_MAX_TARGET)
    TASKS_PER_MACHINE: ConfigInteger = Field(default=1, ge=1, le=100)
    MACHINE_TYPE: list[MachineTypeName] = Field(min_length=1, max_length=300)
    MACHINE_PRICE: ConfigNumber = Field(gt=0, le=1000, allow_inf_nan=False, description="USD an hour a machine")
    EBS_VOL_SIZE: ConfigInteger = Field(default=30, ge=EBS_MIN_GIB, le=EBS_MAX_GIB, description="GiB")
    ASSIGN_IP: ConfigBoolean = True
    DOCKER_CORES: ConfigInteger = Field(default=1, ge=1, le=1000)
    CPU_SHARES: ConfigInteger = Field(
        default_factory=lambda given: given.get("DOCKER_CORES", 1) * 1024, validate_default=True, ge=2, le=1024 * 448,
        description="1024 a virtual CPU",
    )  # fmt: skip
    MEMORY: ConfigInteger = Field(ge=6, le=1024 * 24_576, description="MiB a container")
    SECONDS_TO_START: ConfigInteger = Field(default=0, ge=0, le=3600)
    SQS_QUEUE_NAME: QueueName = _build_app_named_field(lambda names: names.default_queue)
    SQS_MESSAGE_VISIBILITY: ConfigInteger = Field(default=120, ge=MIN_LEASE_SECONDS, le=SQS_MAX_VISIBILITY_SECONDS)
    SQS_DEAD_LETTER_QUEUE: QueueName = _build_app_named_field(lambda names: names.default_dead_letter_queue)
    JOB_RETRIES: ConfigInteger = Field(default=10, ge=1, le=1000)
    LOG_GROUP_NAME: LogGroupName = _build_app_named_field(lambda names: names.app)
    AUTO_MONITOR: ConfigBoolean = False
    CREATE_DASHBOARD: ConfigBoolean = False
    CLEAN_DASHBOARD: ConfigBoolean = True
    CHECK_IF_DONE_BOOL: ConfigBoolean = True
    EXPECTED_NUMBER_FILES: ConfigInteger = Field(default=1, ge=0)
    MIN_FILE_SIZE_BYTES: ConfigInteger = Field(default=1, ge=0)
    NECESSARY_STRING: Annotated[str, build_pattern_validator(r"[^\0]*", "a text without zero bytes")] = ""
    MOUNT_S3: ConfigBoolean = False
    IDLE_ALARM: ConfigBoolean = True
    ON_DEMAND_MACHINES: ConfigInteger = Field(default=0, ge=0, le=SPOT_FLEET_MAX_TARGET)
    MAX_RUN_HOURS: ConfigNumber = Field(
        default=7 * 24, gt=0, le=MAX_RUN_HOURS, allow_inf_nan=False, description="hours"
    )
    MAX_COST: ConfigNumber = Field(
        default=0, ge=0, le=10_000_000, allow_inf_nan=False, description="USD a run; 0: no limit"
    )
    EXPORT_LOGS: ConfigBoolean = True
    OWNER: Annotated[
        str, build_pattern_validator(r"[\w .:/=+@-]{0,256}", "a text of letters, digits, spaces and . : / = + - @")
    ] = ""
    own: dict[str, str] = Field(default_factory=dict, description="the user's constants, as environment values")

    @field_validator("MACHINE_TYPE", mode="before")
    @classmethod
    def _wrap_single_type(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("SQS_DEAD_LETTER_QUEUE", mode="before")
    @classmethod
    def _extract_queue_name(cls, value: object) -> object:
        """Older configs hold the queue's ARN; its last part is the name."""
        return value.rsplit(":", 1)[-1] if isinstance(value, str) and value.startswith("arn:") else value

    @field_validator("SQS_DEAD_LETTER_QUEUE")
    @classmethod
    def _check_queues_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("SQS_QUEUE_NAME"):
            raise build_value_error("write another name than SQS_QUEUE_NAME's: there must be two different queues")
        return value

    @property
    def names(self) -> AppNames:
        """What the app's resources are called in AWS."""
        return AppNames(self.APP_NAME)

    @property
    def slots(self) -> int:
        """Jobs that run at once when every machine is there."""
        return self.CLUSTER_MACHINES * self.TASKS_PER_MACHINE * self.DOCKER_CORES

    def build_worker_environment(self) -> dict[str, str]:
        """The settings that a worker reads, as environment variables; booleans as 'True' and 'False'."""
        known = (
            "AWS_REGION", "APP_NAME", "AWS_BUCKET", "DOCKER_CORES", "LOG_GROUP_NAME", "CHECK_IF_DONE_BOOL",
            "EXPECTED_NUMBER_FILES", "ECS_CLUSTER", "SECONDS_TO_START", "MIN_FILE_SIZE_BYTES", "NECESSARY_STRING",
            "SQS_MESSAGE_VISIBILITY", "JOB_RETRIES", "MOUNT_S3", "IDLE_ALARM",
        )  # fmt: skip
        return {name: str(getattr(self, name)) for name in known} | self.own


def load_settings(path: Path) -> Settings:
    """The settings in the config file `path`; raises InputError for whatever is wrong with it."""
    constants = {name: value for name, value in _execute_config(path).items() if re.fullmatch(r"[A-Z][A-Z0-9_]*", name)}
    known = {name: value for name, value in constants.items() if name in Settings.model_fields}
    own = {name: _encode_environment_value(path, name, value) for name, value in constants.items() if name not in known}
    try:
        return Settings(**known, own=own)
    except ValidationError as error:
        raise explain_validation_error(path, error) from None


def check_placeholders_replaced(settings: Settings, path: Path) -> None:
    """Raises InputError where a placeholder of the shipped config is still there: AWS would be asked for it."""
    for key, placeholder in _PLACEHOLDER_PATTERNS.items():
        value = getattr(settings, key)
        if re.fullmatch(placeholder, value):
            raise InputError(
                path, key, f"{value!r} is a placeholder", "put your own there, or add --local to run without AWS"
            )


def _execute_config(path: Path) -> dict[str, Any]:
    read_text_file(path, "a config file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\d' in a text, for one: an error of the file is told in one line
            return runpy.run_path(str(path))
    except SyntaxError as error:
        raise InputError(path, f"line {error.lineno}", f"this is not Python ({error.msg})", "correct it") from None
    except (Exception, SystemExit) as error:  # a config is a program of the user's: whatever it raises is wrong input
        line = _find_error_line(path, error)
        raise InputError(path, line, format_one_line(f"{type(error).__name__}: {error}"), "correct this line") from None


def _find_error_line(path: Path, error: BaseException) -> str:
    """The last line of the config that ran: «line 7»; "" where none did."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f"line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _encode_environment_value(path: Path, name: str, value: object) -> str:
    """A user's own constant as the environment holds it: text as it is, everything else as JSON or True/False."""
    if _RESERVED_NAME_PATTERN.fullmatch(name):
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
