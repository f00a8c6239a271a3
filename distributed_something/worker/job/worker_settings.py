"""The worker's settings, read from environment variables. Setup copies them from the config to the task definition."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from distributed_something.worker.job.run_keys import RunKeys

# The default time between SIGTERM and SIGKILL for `docker stop`. A task definition can override it.
DOCKER_STOP_SECONDS = 10
DEFAULT_SICK_PAUSE_SECONDS = 20 * 60  # longer than the 15 minutes after which the idle alarm ends a machine
# How long a job waits after its first, second, … failure; the last value repeats. An outage of a minute then uses up
# three attempts, and ten attempts take seven minutes.
DEFAULT_RETRY_SECONDS = (0, 15, 60)
MAX_RETRY_SECONDS = 12 * 3600  # SQS limit for hiding a message
DEFAULT_HOOK_SECONDS = 600  # how long a hook may run
DEFAULT_TRANSFER_MINUTES = 120
DEFAULT_JOURNAL_SECONDS = 60  # the shortest time between two writes of a container's journal, unless it is set


class BadEnvironment(Exception):
    """Raised if an environment variable is missing or invalid. The error message contains its name."""


@dataclass(frozen=True)
class JobDefaults:
    """The settings from which a job is built: its bucket and output location unless its message contains its own, and
    whether its inputs may come from `http://` addresses and from the machine itself."""

    aws_bucket: str
    app_name: str
    allow_unsafe_inputs: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Settings(JobDefaults):
    """One container's settings. Times are in seconds, sizes in bytes.

    `retry_seconds`: how long a job waits after its first, second, … failure; the last value repeats.
    `max_transfer_seconds`: the longest time for the whole fetch of a job's inputs, and for the whole upload of its
    results.
    """

    run: str
    queue_url: str
    dead_letter_queue_url: str
    log_group_name: str
    docker_cores: int
    visibility_seconds: int
    seconds_to_start: int
    check_if_done: bool
    expected_number_files: int
    min_file_size_bytes: int
    necessary_string: str
    job_retries: int
    stop_seconds: int
    journal_seconds: int
    sick_pause_seconds: int
    retry_seconds: tuple[int, ...]
    max_transfer_seconds: float
    mount_s3: bool
    program_may_use_aws: bool
    program_user: str
    idle_alarm: bool
    stream_job_logs: bool
    aws_region: str
    machine: str
    image: str
    work_dir: Path
    hook_seconds: int = DEFAULT_HOOK_SECONDS

    @property
    def keys(self) -> RunKeys:
        """The keys of this run's records, logs, and documents in `aws_bucket`."""
        return RunKeys(self.app_name, self.run)


def read_worker_settings(env: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings from `env`. Raise BadEnvironment if a variable is missing or invalid."""
    return Settings(
        app_name=_read_text(env, "APP_NAME"),
        run=env.get("RUN", "by-hand"),
        queue_url=_read_text(env, "SQS_QUEUE_URL"),
        dead_letter_queue_url=env.get("SQS_DEAD_LETTER_QUEUE_URL", ""),
        aws_bucket=_read_text(env, "AWS_BUCKET"),
        log_group_name=env.get("LOG_GROUP_NAME", ""),
        docker_cores=_read_number(env, "DOCKER_CORES", 1, least=1),
        visibility_seconds=_read_number(env, "SQS_MESSAGE_VISIBILITY", 120, least=1),
        seconds_to_start=_read_number(env, "SECONDS_TO_START", 0),
        check_if_done=_read_boolean(env, "CHECK_IF_DONE_BOOL", "True"),
        expected_number_files=_read_number(env, "EXPECTED_NUMBER_FILES", 1),
        min_file_size_bytes=_read_number(env, "MIN_FILE_SIZE_BYTES", 1),
        necessary_string=env.get("NECESSARY_STRING", ""),
        job_retries=_read_number(env, "JOB_RETRIES", 10, least=1),
        stop_seconds=_read_number(env, "STOP_SECONDS", DOCKER_STOP_SECONDS, least=1),
        sick_pause_seconds=_read_number(env, "SICK_PAUSE_SECONDS", DEFAULT_SICK_PAUSE_SECONDS, least=1),
        retry_seconds=_read_numbers(env, "RETRY_SECONDS", DEFAULT_RETRY_SECONDS, most=MAX_RETRY_SECONDS),
        max_transfer_seconds=60 * _read_decimal(env, "MAX_TRANSFER_MINUTES", DEFAULT_TRANSFER_MINUTES),
        journal_seconds=_read_number(env, "JOURNAL_SECONDS", DEFAULT_JOURNAL_SECONDS, least=1),
        allow_unsafe_inputs=_read_boolean(env, "ALLOW_UNSAFE_INPUTS", "False"),
        mount_s3=_read_boolean(env, "MOUNT_S3", "False"),
        program_may_use_aws=_read_boolean(env, "PROGRAM_MAY_USE_AWS", "False"),
        program_user=env.get("PROGRAM_USER", ""),
        idle_alarm=_read_boolean(env, "IDLE_ALARM", "True"),
        stream_job_logs=_read_boolean(env, "STREAM_JOB_LOGS", "True"),
        aws_region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION", ""),
        machine=env.get("INSTANCE_ID") or socket.gethostname(),
        image=env.get("DOCKER_IMAGE", ""),
        # Absolute, because the program runs in a folder of its own.
        work_dir=Path(os.path.abspath(env.get("WORK_DIR") or tempfile.gettempdir())),
        hook_seconds=_read_number(env, "HOOK_SECONDS", DEFAULT_HOOK_SECONDS, least=1),
    )


def _read_text(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise BadEnvironment(f"the environment variable {name} is not set; setup sets it in the task definition")
    return env[name]


def _read_boolean(env: Mapping[str, str], name: str, default: str) -> bool:
    return env.get(name, default).strip().lower() == "true"


def _read_number(env: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = env.get(name, str(default))
    if not text.strip().isdecimal() or int(text) < least:
        raise BadEnvironment(
            f"the environment variable {name} is {text!r}; it must be a whole number of at least {least}"
        )
    return int(text)


def _read_decimal(env: Mapping[str, str], name: str, default: float) -> float:
    """Return a number above 0, such as 0.5."""
    text = env.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < inf:
        raise BadEnvironment(f"the environment variable {name} is {text!r}; it must be a number above 0")
    return number


def _read_numbers(env: Mapping[str, str], name: str, default: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return whole numbers that are separated by commas, such as "0, 15, 60"."""
    if name not in env:
        return default
    words = [word.strip() for word in env[name].split(",")]
    if not all(word.isdecimal() and int(word) <= most for word in words):
        raise BadEnvironment(
            f"the environment variable {name} is {env[name]!r}; it must be whole numbers from 0 to {most}, "
            "separated by commas, such as 0,15,60"
        )
    return tuple(int(word) for word in words)
