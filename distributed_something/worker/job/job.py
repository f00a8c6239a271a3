"""A job: what a message asks for, with every placeholder filled and every path known to stay where it belongs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from distributed_something.worker.job.addresses import BadAddress, check_input_address, is_bucket_name
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.placeholders import (
    TemplateError,
    fill_placeholders,
    list_placeholders,
    split_command,
)
from distributed_something.worker.job.shell_values import fill_shell
from distributed_something.worker.job.upload_flags import BadFlags, parse_upload_flags
from distributed_something.worker.job.worker_settings import JobDefaults

Command = list[str] | str  # words, or a text for a shell
Inputs = list[str] | dict[str, str]  # addresses, or each with the place below input_dir where it shall lie
MAX_JOB_SECONDS = 11 * 3600  # SQS keeps a message 12 hours from its first receive: a job must end before that


class BadMessage(Exception):
    """The message asks for nothing that can be done; another try would not change that."""


class JobMessage(dict[str, Any]):
    """A message, or an object in it: a key that a hook asks for in vain makes the message bad."""

    def __missing__(self, key: str) -> Any:
        raise BadMessage(f"the message has no `{key}`")


def _refuse_fetch(inputs: Inputs) -> None:
    raise RuntimeError("folders.fetch is there in prepare() only")


@dataclass(frozen=True)
class Folders:
    """A job's own folders, fresh at each attempt and removed after it. `root`: where its program runs.

    `fetch` is for `prepare`: it brings more inputs to `input_dir`, as the job's own were brought.
    """

    root: Path
    fetch: Callable[[Inputs], None] = _refuse_fetch

    @cached_property
    def input_dir(self) -> Path:
        return self.root / "input"

    @cached_property
    def output_dir(self) -> Path:
        return self.root / "output"

    @cached_property
    def log(self) -> Path:
        """Beside the folder: programs write files of any name in it."""
        return self.root.with_name(f"{self.root.name}.log")


@dataclass
class Job:
    """One job. `command` is a list of words; or a list of such lists, run one after the other until one fails; or one
    text for a shell where `shell` is set.

    `leave_out`: patterns (`*.tmp`, `logs/*`) of files in `output_dir` that are no results. `upload_arguments`: what
    S3's calls shall say beside; `upload_arguments(flags)` makes them of the AWS CLI's flags. `own`: yours, what
    `make_job` tells `prepare` and `failure`. `output_dir`: where results lie, if not in `folders.output_dir`: a folder
    below `folders.root` that the program makes itself. Raises BadMessage for a location, a bucket or a word that cannot
    be.
    """

    id: str
    command: Command | list[list[str]]
    input_bucket: str
    output_bucket: str
    output_location: str
    inputs: Inputs = field(default_factory=list)
    shell: bool = False
    timeout_seconds: float = MAX_JOB_SECONDS
    expected_files: int = 0
    keep_failed: bool = False
    leave_out: list[str] = field(default_factory=list)
    upload_arguments: dict[str, object] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    output_dir: Path | None = None

    def __post_init__(self) -> None:
        if any(part in ("", ".", "..") for part in self.output_location.split("/")):
            wrong = "which leaves its place or has an empty part"
            raise BadMessage(f"`output_location` would be {self.output_location!r}, {wrong}")
        if not all(self.commands):
            raise BadMessage("the command is empty")
        if "\0" in "".join(map("".join, self.commands)):
            raise BadMessage("a word of the command holds a zero byte")
        self._check_buckets()

    def _check_buckets(self) -> None:
        if not is_bucket_name(self.output_bucket):
            raise BadMessage(f"`output_bucket` would be {self.output_bucket!r}, which cannot be a bucket's name")
        try:
            for text in self.inputs:
                check_input_address(text, self.input_bucket)
        except BadAddress as error:
            raise BadMessage(str(error)) from None

    @property
    def commands(self) -> list[Command]:
        """`command`, or what it lists, in order."""
        several = [command for command in self.command if isinstance(command, list)]
        return list(several) or [cast("Command", self.command)]


def parse_message(body: str) -> dict[str, Any]:
    """The message in an SQS body; raises BadMessage where it is no JSON object with a `group`."""
    try:
        message = json.loads(body, object_hook=JobMessage)
        json.dumps(message, ensure_ascii=False).encode()  # half a character ("\ud800") fits no key and no command
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the message is no JSON that can be used ({error})") from None
    if not isinstance(message, dict):
        raise BadMessage("the message is no JSON object")
    if not isinstance(message.get("group"), (dict, str)):
        raise BadMessage("the message has no `group`")
    return message


def job_from_message(message: Mapping[str, Any], folders: Folders, defaults: JobDefaults, **made: Any) -> Job:
    """The job of a message that follows the job file's known keys; raises BadMessage.

    `made`: fields of Job that are made elsewhere, in place of what the message says: job_from_message(…, command=[…]).
    """
    identity = job_id(message)
    values = build_placeholder_values(message, folders, identity)
    fields: dict[str, Callable[[], Any]] = {
        "id": lambda: identity,
        "command": lambda: _build_command(message, values),
        "shell": lambda: message.get("shell") is True,
        "inputs": lambda: _build_inputs(message, values),
        "input_bucket": lambda: fill_placeholders(_read_text(message, "input_bucket", defaults.aws_bucket), values),
        "output_bucket": lambda: fill_placeholders(_read_text(message, "output_bucket", defaults.aws_bucket), values),
        "output_location": lambda: _build_location(_read_text(message, "output_location", defaults.app_name), values),
        "timeout_seconds": lambda: _read_timeout_seconds(message),
        "expected_files": lambda: _read_file_count(message, "expected_files"),
        "keep_failed": lambda: message.get("keep_failed") is True,
        "leave_out": lambda: _read_text_list(message, "leave_out"),
        "upload_arguments": lambda: upload_arguments(message.get("upload_flags")),
    }
    try:
        return Job(**made, **{name: field() for name, field in fields.items() if name not in made})
    except TemplateError as error:
        raise BadMessage(str(error)) from None


def upload_arguments(flags: object) -> dict[str, object]:
    """What S3's calls shall say for `flags` of `aws s3 cp`, such as `--acl bucket-owner-full-control`; nothing for "",
    false or null. Raises BadMessage."""
    try:
        return parse_upload_flags(flags)
    except BadFlags as error:
        raise BadMessage(f"upload flags: {error}") from None


def build_placeholder_values(message: Mapping[str, Any], folders: Folders, identity: str) -> dict[str, object]:
    """What placeholders stand for: shared keys, then the group's, then what the worker knows."""
    group = message["group"]
    own = group if isinstance(group, dict) else {"group": group}
    given = {
        "job": identity,
        "input_dir": str(folders.input_dir),
        "output_dir": str(folders.output_dir),
        "scripts_dir": _get_scripts_folder(),
    }
    return {**message, **own, **given}


@lru_cache(maxsize=1)
def _get_scripts_folder() -> str:
    """A developer's own scripts: `scripts` beside generic-worker.py, unless the local cloud says where else: a project
    may have scripts and the template's generic-worker.py."""
    return os.environ.get("WORKER_SCRIPTS_DIR") or str(Path(sys.argv[0]).resolve().parent / "scripts")


def _build_command(message: Mapping[str, Any], values: Mapping[str, object]) -> Command | list[list[str]]:
    command = message.get("command")
    if isinstance(command, list) and any(isinstance(part, list) for part in command):
        return [_build_words(part if isinstance(part, list) else None, values) for part in command]
    if message.get("shell") is True:
        if not isinstance(command, str) or not command.strip():
            raise BadMessage("`shell` is set but `command` is no text")
        return fill_shell(command, values)
    return _build_words(command, values)


def _build_words(command: object, values: Mapping[str, object]) -> list[str]:
    parts: Iterable[object] = (
        split_command(command) if isinstance(command, str) else command if isinstance(command, list) else ()
    )
    filled = [fill_placeholders(part if isinstance(part, str) else json.dumps(part), values) for part in parts]
    if not filled or not filled[0]:
        raise BadMessage("the message has no `command`")
    return filled


def _build_location(template: str, values: Mapping[str, object]) -> str:
    """The prefix of the job's outputs. The job's id is always in it: two jobs never share a location."""
    with_job = template if "job" in list_placeholders(template) else f"{template.rstrip('/')}/{{job}}"
    return fill_placeholders(with_job, values).strip("/")


def _build_inputs(message: Mapping[str, Any], values: Mapping[str, object]) -> Inputs:
    given = message.get("inputs", [])
    if isinstance(given, list):
        return [address for text in _read_text_list(message, "inputs") for address in _expand_input(text, values)]
    if not isinstance(given, dict) or not all(
        isinstance(part, str) and part for pair in given.items() for part in pair
    ):
        raise BadMessage('`inputs` is no list of texts and no object such as {"images/a.png": "a.png"}')
    return {fill_placeholders(text, values): fill_placeholders(place, values) for text, place in given.items()}


def _read_text(message: Mapping[str, Any], key: str, default: str) -> str:
    value = message.get(key, default)
    if not isinstance(value, str) or not value:
        raise BadMessage(f"`{key}` is no text")
    return value


def _read_text_list(message: Mapping[str, Any], key: str) -> list[str]:
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise BadMessage(f"`{key}` is no list of texts")
    return value


def _expand_input(text: str, values: Mapping[str, object]) -> list[str]:
    """What one input stands for: a placeholder alone of a list of texts, all of them."""
    several = values.get(text[1:-1]) if list_placeholders(text) == {text[1:-1]} else None
    if isinstance(several, list) and all(isinstance(value, str) and value for value in several):
        return several
    return [fill_placeholders(text, values)]


def _read_file_count(message: Mapping[str, Any], key: str) -> int:
    value = message.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadMessage(f"`{key}` is no number of files")
    return value


def _read_timeout_seconds(message: Mapping[str, Any]) -> float:
    value = message.get("timeout_minutes", MAX_JOB_SECONDS / 60)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise BadMessage("`timeout_minutes` is no number of minutes")
    return min(value, MAX_JOB_SECONDS / 60) * 60.0
