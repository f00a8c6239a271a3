"""Reads and validates the user's config.

As in the published template, `config.py` is a Python file, so it can build names from APP_NAME and multiply numbers. It
is executed, and its uppercase constants are read. Known constants are validated here; all others are the user's own and
become environment variables in the container.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import build_value_error
from distributed_something.core.image_name import IMAGE_NAME_FORMAT
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    LOG_GROUP_NAME_FORMAT,
    QUEUE_NAME_FORMAT,
    RESOURCE_NAME_FORMAT,
    SHARED_APP,
    TEST_APP_SUFFIX,
    TOPIC_ARN_FORMAT,
    AppNames,
    is_test_run_name,
)
from distributed_something.core.text import find_similar_name

SQS_MAX_VISIBILITY_SECONDS = 43_200  # SQS: 12 hours
SPOT_FLEET_MAX_TARGET = 10_000  # EC2: target capacity of one Spot Fleet
# Minimum: what the ECS-optimized image and its container disk need. Maximum: EC2's limit for gp2 and gp3.
EBS_MIN_GIB, EBS_MAX_GIB = 22, 16_384
MAX_RUN_HOURS = 365 * 24
MIN_LEASE_SECONDS = 10  # a shorter lease could expire while the call that extends it is being retried

_BUCKET_PLACEHOLDER = r"(your-)?bucket-name"
_PLACEHOLDER_PATTERNS = {  # in this package's and the published system's configs
    "AWS_BUCKET": _BUCKET_PLACEHOLDER,
    "SSH_KEY_NAME": r"your[-_]key.*",
    "DOCKERHUB_TAG": r"user/.+",  # also matches the images of the examples and of new projects
}


def _parse_boolean(value: object) -> object:
    """Return the value as a boolean; accept 'True' and 'False' in any case, as in published configs."""
    booleans = {"true": True, "false": False}
    parsed = booleans.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(parsed, bool):
        raise build_value_error("write 'True' or 'False'", "is not 'True' or 'False'")
    return parsed


def _check_number(value: object) -> object:
    """Reject values that are not numbers, but that pydantic would convert to numbers or report in a misleading way."""
    if isinstance(value, bool):
        raise build_value_error("write a number", "is not a number")
    if isinstance(value, tuple) and value and all(type(part) in (int, float) for part in value):
        number = ".".join(str(part) for part in value) if len(value) == 2 and type(value[0]) is int else value[0]
        raise build_value_error(f"write {number}, with a dot and without a comma", "is not a number")
    if isinstance(value, str) and re.fullmatch(r"\d+,\d+", value.strip()):
        raise build_value_error(f"write {value.strip().replace(',', '.')}, with a dot", "is not a number")
    return value


def build_pattern_validator(pattern: str, noun: str, remedy: str) -> BeforeValidator:
    """Return a validator that accepts only strings that match the entire `pattern`.

    Its error reads "VALUE is not `noun`; `remedy`".
    """

    def validate(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise build_value_error(remedy, f"is not {noun}")
        return value

    return BeforeValidator(validate)


ConfigBoolean = Annotated[bool, BeforeValidator(_parse_boolean)]
ConfigInteger = Annotated[int, BeforeValidator(_check_number)]
ConfigNumber = Annotated[float, BeforeValidator(_check_number)]
ResourceName = Annotated[str, build_pattern_validator(*RESOURCE_NAME_FORMAT)]
QueueName = Annotated[str, build_pattern_validator(*QUEUE_NAME_FORMAT)]
BucketName = Annotated[str, build_pattern_validator(*BUCKET_NAME_FORMAT)]
REGION_PATTERN = r"[a-z]{2}(-[a-z]+)+-\d"
RegionName = Annotated[str, build_pattern_validator(REGION_PATTERN, "an AWS region", "write one such as 'us-east-1'")]
DockerImage = Annotated[str, build_pattern_validator(*IMAGE_NAME_FORMAT)]
LogGroupName = Annotated[str, build_pattern_validator(*LOG_GROUP_NAME_FORMAT)]
MachineTypeName = Annotated[
    str, build_pattern_validator(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "an EC2 instance type", "write one such as 'm5.large'")
]


def _build_app_named_field(choose_name: Callable[[AppNames], str]) -> Any:
    """Return a field whose default is built from APP_NAME, as in the shipped config."""
    return Field(default_factory=lambda given: choose_name(AppNames(given.get("APP_NAME", ""))), validate_default=True)


class Settings(BaseModel):
    """The settings of a run. The uppercase names are the names in the config.

    `dead_letter_account`: the account in SQS_DEAD_LETTER_QUEUE if the config gives the queue's ARN, else "".
    """

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
    MACHINE_PRICE: ConfigNumber = Field(gt=0, le=1000, allow_inf_nan=False, description="USD per machine-hour")
    EBS_VOL_SIZE: ConfigInteger = Field(default=30, ge=EBS_MIN_GIB, le=EBS_MAX_GIB, description="GiB")
    ASSIGN_IP: ConfigBoolean = True
    DOCKER_CORES: ConfigInteger = Field(default=1, ge=1, le=1000)
    CPU_SHARES: ConfigInteger = Field(
        default_factory=lambda given: given.get("DOCKER_CORES", 1) * 1024, validate_default=True, ge=2, le=1024 * 448,
        description="1024 per virtual CPU",
    )  # fmt: skip
    MEMORY: ConfigInteger = Field(ge=6, le=1024 * 24_576, description="MiB per container")
    GPUS: ConfigInteger = Field(default=0, ge=0, le=16, description="per container")  # the largest types have 16
    SECONDS_TO_START: ConfigInteger = Field(default=0, ge=0, le=3600)
    SQS_QUEUE_NAME: QueueName = _build_app_named_field(lambda names: names.default_queue)
    SQS_MESSAGE_VISIBILITY: ConfigInteger = Field(default=120, ge=MIN_LEASE_SECONDS, le=SQS_MAX_VISIBILITY_SECONDS)
    SQS_DEAD_LETTER_QUEUE: QueueName = _build_app_named_field(lambda names: names.default_dead_letter_queue)
    JOB_RETRIES: ConfigInteger = Field(default=10, ge=1, le=1000)
    LOG_GROUP_NAME: LogGroupName = _build_app_named_field(lambda names: names.app)
    STREAM_JOB_LOGS: ConfigBoolean = True
    AUTO_MONITOR: ConfigBoolean = False
    NOTIFY: str = ""
    CREATE_DASHBOARD: ConfigBoolean = False
    CLEAN_DASHBOARD: ConfigBoolean = True
    CHECK_IF_DONE_BOOL: ConfigBoolean = True
    EXPECTED_NUMBER_FILES: ConfigInteger = Field(default=1, ge=0)
    MIN_FILE_SIZE_BYTES: ConfigInteger = Field(default=1, ge=0)
    NECESSARY_STRING: Annotated[
        str, build_pattern_validator(r"[^\0]*", "a string without null bytes", "write plain text")
    ] = ""
    MOUNT_S3: ConfigBoolean = False
    PROGRAM_MAY_USE_AWS: ConfigBoolean = False
    PROGRAM_USER: Annotated[
        str,
        build_pattern_validator(
            r"(?!(root|0+)\Z)([a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}|)",
            "a user other than root",
            "write the name or the number of a user in the image, such as '1000', or '' for the container's user",
        ),
    ] = ""
    IDLE_ALARM: ConfigBoolean = True
    ON_DEMAND_MACHINES: ConfigInteger = Field(default=0, ge=0, le=SPOT_FLEET_MAX_TARGET)
    MAX_RUN_HOURS: ConfigNumber = Field(
        default=7 * 24, gt=0, le=MAX_RUN_HOURS, allow_inf_nan=False, description="hours"
    )
    MAX_COST: ConfigNumber = Field(
        default=0, ge=0, le=10_000_000, allow_inf_nan=False, description="USD per run; 0: no limit"
    )
    EXPORT_LOGS: ConfigBoolean = True
    MAX_TRANSFER_MINUTES: ConfigNumber = Field(
        default=120, gt=0, le=720, allow_inf_nan=False, description="minutes for a job's fetch, and for its upload"
    )
    ALLOW_UNSAFE_INPUTS: ConfigBoolean = False
    OWNER: Annotated[
        str,
        build_pattern_validator(
            r"[\w .:/=+@-]{0,256}", "a tag value", "use at most 256 letters, digits, spaces, or any of . : / = + - @ _"
        ),
    ] = ""
    own: dict[str, str] = Field(default_factory=dict, description="the user's own constants, as environment variables")
    dead_letter_account: str = ""

    @field_validator("APP_NAME")
    @classmethod
    def _check_name_is_not_reserved(cls, value: str) -> str:
        if value == SHARED_APP:
            raise build_value_error("choose another name", "is reserved as the tag of shared queues")
        return value

    @field_validator("APP_NAME", "ECS_CLUSTER", "SQS_QUEUE_NAME", "SQS_DEAD_LETTER_QUEUE")
    @classmethod
    def _check_name_is_not_a_test_runs(cls, value: str) -> str:
        """Reject the names under which `testRun` of another app creates resources, because it deletes all of them."""
        if is_test_run_name(value):
            raise build_value_error("choose another name", f"is reserved for testRun, because of {TEST_APP_SUFFIX}")
        return value

    @field_validator("MACHINE_TYPE", mode="before")
    @classmethod
    def _wrap_single_type(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("SQS_DEAD_LETTER_QUEUE", mode="before")
    @classmethod
    def _extract_queue_name(cls, value: object, info: ValidationInfo) -> object:
        """Accept the queue's ARN, as in older configs; the last part of the ARN is the name.

        SQS requires that both queues are of the same type and in the same region and account.
        """
        region, _, name = split_queue_arn(value)
        if region and region != info.data.get("AWS_REGION", region):
            remedy = f"use a queue in {info.data['AWS_REGION']}: SQS moves no messages between regions"
            raise build_value_error(remedy, f"is in the region {region}")
        if isinstance(name, str) and name.endswith(".fifo"):
            raise build_value_error("use a standard queue, like the job queue", "is a FIFO queue")
        return name

    @field_validator("NOTIFY")
    @classmethod
    def _check_topic(cls, value: str, info: ValidationInfo) -> str:
        """Accept only a standard topic in the run's region, where the monitor publishes."""
        region = info.data.get("AWS_REGION", "")
        if not value:
            return value
        if "@" in value or "://" in value:
            raise build_value_error(f"type setupAWS --notify {value}, and write the ARN it prints", "is not a topic")
        if value.endswith(".fifo"):
            raise build_value_error("use a standard topic", "is a FIFO topic, which sends no e-mail")
        if value.startswith("arn:") and value.count(":") == 6:
            remedy = f"write {value.rpartition(':')[0]!r}"
            raise build_value_error(remedy, "is a subscription, not its topic")
        if not TOPIC_ARN_FORMAT.fits(value):
            raise build_value_error(TOPIC_ARN_FORMAT.remedy, f"is not {TOPIC_ARN_FORMAT.noun}")
        if region and (topic_region := value.split(":")[3]) != region:
            raise build_value_error(f"use a topic in {region}, the config's region", f"is in {topic_region}")
        return value

    @field_validator("SQS_DEAD_LETTER_QUEUE")
    @classmethod
    def _check_queues_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("SQS_QUEUE_NAME"):
            raise build_value_error("give the two queues different names", "is also SQS_QUEUE_NAME")
        return value

    @property
    def names(self) -> AppNames:
        """Return the names of the app's resources in AWS."""
        return AppNames(self.APP_NAME)

    @property
    def slots(self) -> int:
        """Return how many jobs run at once when all machines are running."""
        return self.CLUSTER_MACHINES * self.TASKS_PER_MACHINE * self.DOCKER_CORES

    def build_worker_environment(self) -> dict[str, str]:
        """Return the environment variables for a worker: the settings that it reads, and the user's own constants."""
        keys = (
            "AWS_REGION", "APP_NAME", "AWS_BUCKET", "DOCKER_CORES", "LOG_GROUP_NAME", "CHECK_IF_DONE_BOOL",
            "EXPECTED_NUMBER_FILES", "ECS_CLUSTER", "SECONDS_TO_START", "MIN_FILE_SIZE_BYTES", "NECESSARY_STRING",
            "SQS_MESSAGE_VISIBILITY", "JOB_RETRIES", "MOUNT_S3", "IDLE_ALARM", "STREAM_JOB_LOGS",
            "MAX_TRANSFER_MINUTES", "ALLOW_UNSAFE_INPUTS",
        )  # fmt: skip
        optional_keys = [key for key in ("PROGRAM_MAY_USE_AWS", "PROGRAM_USER") if getattr(self, key)]
        return {key: str(getattr(self, key)) for key in (*keys, *optional_keys)} | self.own


def split_queue_arn(value: object) -> tuple[str, str, object]:
    """Return the region, account, and name in a queue's ARN.

    For any other value, return it as the name. Region and account are "" if the ARN contains placeholders, such as
    `some-region` in the published config.
    """
    if not isinstance(value, str) or not value.startswith("arn:"):
        return "", "", value
    match = re.fullmatch(rf"arn:[a-z-]+:sqs:(?P<region>{REGION_PATTERN}):(?P<account>\d{{12}}):.+", value)
    region, account = match.group("region", "account") if match else ("", "")
    return region, account, value.rsplit(":", 1)[-1]


def find_misspelled_constants(settings: Settings) -> dict[str, str]:
    """Return the user's own constants that are probably misspelled, with the known constant that was probably meant.

    Such a constant reaches the container like the others, because the user may really mean it.
    """
    known = [name for name in Settings.model_fields if name.isupper()]
    similar = {name: find_similar_name(name, known) for name in settings.own}
    return {name: constant for name, constant in similar.items() if constant}


def list_own_buckets(settings: Settings) -> dict[str, str]:
    """Return the buckets of the user's own constants whose names end with _BUCKET, keyed by the constant's name.

    In published configs, 'False' means that a bucket is not set.
    """
    values = {name: value for name, value in settings.own.items() if name.endswith("_BUCKET")}
    return {name: value for name, value in values.items() if BUCKET_NAME_FORMAT.fits(value) and value != "false"}


def check_placeholders_replaced(settings: Settings, path: Path) -> None:
    """Raise InputError if the config still contains placeholders from the shipped config. AWS would reject them."""
    problems = InputProblems()
    for error in iter_config_placeholders(settings, path):
        problems.add(error)
    problems.raise_if_any()


def iter_config_placeholders(settings: Settings, path: Path) -> Iterator[InputError]:
    """Yield an error for each placeholder from the shipped or the published config."""
    own = {key: _BUCKET_PLACEHOLDER for key in settings.own if key.endswith("_BUCKET")}
    for key, placeholder in (_PLACEHOLDER_PATTERNS | own).items():
        value = settings.own[key] if key in own else getattr(settings, key)
        if re.fullmatch(placeholder, value):
            remedy = "replace it with your own value, or add --local to run without AWS"
            yield InputError(path, key, f"{value!r} is a placeholder", remedy)
