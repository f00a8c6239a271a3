"""Reads and validates the user's config.

As in the published template, `config.py` is a Python file, so it can build names from APP_NAME and multiply numbers. It
is executed, and its uppercase constants are read. Known constants are validated here; all others are the user's own and
become environment variables in the container.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from distributed_something.core.errors import InputError, InputProblems, merge_input_errors
from distributed_something.core.files import build_value_error, explain_validation_error, read_text_file
from distributed_something.core.image_name import IMAGE_NAME_FORMAT
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    LOG_GROUP_NAME_FORMAT,
    QUEUE_NAME_FORMAT,
    RESOURCE_NAME_FORMAT,
    SHARED_APP,
    AppNames,
)
from distributed_something.core.text import find_similar_name, format_one_line, format_value

SQS_MAX_VISIBILITY_SECONDS = 43_200  # SQS: 12 hours
SPOT_FLEET_MAX_TARGET = 10_000  # EC2: target capacity of one Spot Fleet
# Minimum: what the ECS-optimized image and its container disk need. Maximum: EC2's limit for gp2 and gp3.
EBS_MIN_GIB, EBS_MAX_GIB = 22, 16_384
MAX_RUN_HOURS = 365 * 24
MIN_LEASE_SECONDS = 10  # a shorter lease could expire while the call that extends it is being retried

_RESERVED_NAME_PATTERN = re.compile(
    r"(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN)|(LD|DYLD|PYTHON)_?\w*|PATH|HOME|RUN"
    r"|SQS_QUEUE_URL|SQS_DEAD_LETTER_QUEUE_URL|DOCKER_IMAGE|STOP_SECONDS|WORK_DIR|WORKER_SCRIPTS_DIR|INSTANCE_ID"
    r"|ONE_JOB_FOLDER|CHECK_MESSAGES_FOLDER|JOURNAL_SECONDS|SICK_PAUSE_SECONDS)"
)
_PLACEHOLDER_PATTERNS = {
    "AWS_BUCKET": r"your-bucket-name",
    "SSH_KEY_NAME": r"your-key-file\.pem",
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
    NECESSARY_STRING: Annotated[
        str, build_pattern_validator(r"[^\0]*", "a string without null bytes", "write plain text")
    ] = ""
    MOUNT_S3: ConfigBoolean = False
    IDLE_ALARM: ConfigBoolean = True
    ON_DEMAND_MACHINES: ConfigInteger = Field(default=0, ge=0, le=SPOT_FLEET_MAX_TARGET)
    MAX_RUN_HOURS: ConfigNumber = Field(
        default=7 * 24, gt=0, le=MAX_RUN_HOURS, allow_inf_nan=False, description="hours"
    )
    MAX_COST: ConfigNumber = Field(
        default=0, ge=0, le=10_000_000, allow_inf_nan=False, description="USD per run; 0: no limit"
    )
    EXPORT_LOGS: ConfigBoolean = True
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
        region, _, name = _split_queue_arn(value)
        if region and region != info.data.get("AWS_REGION", region):
            remedy = f"use a queue in {info.data['AWS_REGION']}: SQS moves no messages between regions"
            raise build_value_error(remedy, f"is in the region {region}")
        if isinstance(name, str) and name.endswith(".fifo"):
            raise build_value_error("use a standard queue, like the job queue", "is a FIFO queue")
        return name

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
            "SQS_MESSAGE_VISIBILITY", "JOB_RETRIES", "MOUNT_S3", "IDLE_ALARM",
        )  # fmt: skip
        return {key: str(getattr(self, key)) for key in keys} | self.own


def _split_queue_arn(value: object) -> tuple[str, str, object]:
    """Return the region, account, and name in a queue's ARN.

    For any other value, return it as the name. Region and account are "" if the ARN contains placeholders, such as
    `some-region` in the published config.
    """
    if not isinstance(value, str) or not value.startswith("arn:"):
        return "", "", value
    match = re.fullmatch(rf"arn:[a-z-]+:sqs:(?P<region>{REGION_PATTERN}):(?P<account>\d{{12}}):.+", value)
    region, account = match.group("region", "account") if match else ("", "")
    return region, account, value.rsplit(":", 1)[-1]


def load_settings(path: Path) -> Settings:
    """Return the settings in the config file `path`. Raise InputError with all problems if the file is not valid."""
    constants = {name: value for name, value in _execute_config(path).items() if re.fullmatch(r"[A-Z][A-Z0-9_]*", name)}
    known = {name: value for name, value in constants.items() if name in Settings.model_fields}
    problems, own = InputProblems(), {}
    for name, value in constants.items():
        if name not in known:
            with problems.collect():
                own[name] = _encode_environment_value(path, name, value)
    settings = None
    with problems.collect():
        settings = _validate(path, known, own)
    if settings is None or problems.has_any:
        sources = _read_sources(_parse_config(read_text_file(path, "a config file")))
        raise merge_input_errors(_drop_consequences(problems.list_problems(), sources))
    return settings


def _validate(path: Path, known: dict[str, Any], own: dict[str, str]) -> Settings:
    """Return the settings. Raise InputError with all problems of the known constants."""
    try:
        return Settings(**known, own=own, dead_letter_account=_split_queue_arn(known.get("SQS_DEAD_LETTER_QUEUE"))[1])
    except ValidationError as error:
        raise explain_validation_error(path, error) from None


def find_misspelled_constants(settings: Settings) -> dict[str, str]:
    """Return the user's own constants that are probably misspelled, with the known constant that was probably meant.

    Such a constant reaches the container like the others, because the user may really mean it.
    """
    known = [name for name in Settings.model_fields if name.isupper()]
    similar = {name: find_similar_name(name, known) for name in settings.own}
    return {name: constant for name, constant in similar.items() if constant}


def _parse_config(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's warnings, such as the one about '\d', would only confuse the user
        return ast.parse(text)


def _read_sources(tree: ast.Module) -> dict[str, set[str]]:
    """Return the names that each name in a config is computed from, such as CPU_SHARES from DOCKER_CORES."""
    sources: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in _list_names(*targets):
                sources.setdefault(name, set()).update(_list_names(node.value))
    return sources


def _list_names(*nodes: ast.AST) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _find_all_sources(names: set[str], sources: Mapping[str, set[str]]) -> set[str]:
    """Return all names that the values of `names` depend on, directly or through others."""
    found, unvisited = set[str](), list(names)
    while unvisited:
        new = sources.get(unvisited.pop(), set()) - found
        found |= new
        unvisited += new
    return found


def _drop_consequences(problems: Sequence[InputError], sources: Mapping[str, set[str]]) -> list[InputError]:
    """Leave out the problems of values that are computed from a constant that has a problem itself.

    Such a value is probably right once the constant is corrected. `sources`: as `_read_sources` returns them.
    """
    mistaken = {problem.key for problem in problems}
    origins = {key: _find_all_sources({key}, sources) for key in mistaken}
    return [
        problem
        for problem in problems
        # Of constants that depend on each other, each may be the mistake.
        if all(problem.key in origins[origin] for origin in mistaken & origins[problem.key])
    ]


def check_placeholders_replaced(settings: Settings, path: Path) -> None:
    """Raise InputError if the config still contains placeholders from the shipped config. AWS would reject them."""
    problems = InputProblems()
    for key, placeholder in _PLACEHOLDER_PATTERNS.items():
        value = getattr(settings, key)
        if re.fullmatch(placeholder, value):
            remedy = "replace it with your own value, or add --local to run without AWS"
            problems.add(InputError(path, key, f"{value!r} is a placeholder", remedy))
    problems.raise_if_any()


def _execute_config(path: Path) -> dict[str, Any]:
    text = read_text_file(path, "a config file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `_parse_config`
            return runpy.run_path(str(path))
    except SyntaxError as error:
        raise _explain_syntax_error(path, error) from None
    except (Exception, SystemExit) as error:  # the config is the user's program, so any exception means invalid input
        number, values = _find_failed_line(path, error)
        if number:
            _check_used_constants(path, _parse_config(text), number, values)
        remedy = "write text in quotes, or correct the name" if isinstance(error, NameError) else "correct this line"
        line = f"line {number}" if number else ""
        raise InputError(path, line, format_one_line(f"{type(error).__name__}: {error}"), remedy) from None


def _check_used_constants(path: Path, tree: ast.Module, number: int, values: Mapping[str, Any]) -> None:
    """Raise InputError if the line with this number failed because a constant that it uses has an invalid value.

    `values`: of the names that the config had set by then.
    """
    used = _list_names(*(node for node in tree.body if node.lineno <= number <= (node.end_lineno or node.lineno)))
    sources = _read_sources(tree)
    known = {name: value for name, value in values.items() if name.isupper() and name in Settings.model_fields}
    try:
        _validate(path, known, {})
    except InputError as error:
        problems = [problem for problem in error.problems if problem.key in known]  # others may be set further below
        if {problem.key for problem in problems} & (used | _find_all_sources(used, sources)):
            raise merge_input_errors(_drop_consequences(problems, sources)) from None


def _explain_syntax_error(path: Path, error: SyntaxError) -> InputError:
    remedy = "correct this line or the one before it"
    # For 0,05, Python's message is about octal numbers.
    if "leading zeros" in error.msg or "invalid decimal literal" in error.msg:
        remedy = "write numbers with a dot and without leading zeros or units, such as 0.05, and text in quotes"
    return InputError(path, f"line {error.lineno}", f"this is not valid Python ({error.msg})", remedy)


def _find_failed_line(path: Path, error: BaseException) -> tuple[int, Mapping[str, Any]]:
    """Return the last line of the config that was executed, and the names that it could use; 0 if none was."""
    trace, number, values = error.__traceback__, 0, {}
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            number, values = trace.tb_lineno, trace.tb_frame.f_globals
        trace = trace.tb_next
    return number, values


def _encode_environment_value(path: Path, name: str, value: object) -> str:
    """Return a user-defined constant as text: strings unchanged, numbers and booleans as in Python, others as JSON.

    Raise InputError if the name is reserved or the value cannot become text.
    """
    if _RESERVED_NAME_PATTERN.fullmatch(name):
        problem = "this name is reserved, or its value is a secret that must not be sent"
        raise InputError(path, name, problem, "choose another name, or remove it")
    try:
        text = str(value) if isinstance(value, (str, bool, int, float)) else json.dumps(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        problem = f"a value of type {type(value).__name__} cannot be passed to the container"
        if isinstance(value, str):
            problem = f"{format_value(value)} is not valid Unicode text"
        raise InputError(path, name, problem, "use a string or a number") from None
    if "\0" in text:
        raise InputError(path, name, "a null byte cannot be passed to the container", "remove it")
    return text
