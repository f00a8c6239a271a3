"""The Job file: what all jobs share, and a stream of what is each one's own; together, the messages.

A message is the shared keys plus `"group"`, as JSON: the published wire format. Keys with `_comment` in their name are
left out, and so are `upload` (for submitJob alone) and the list of groups itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from distributed_something.core.errors import InputError
from distributed_something.core.files import build_value_error, explain_validation_error, read_json_object
from distributed_something.jobs.sources import GroupSource, JobGroup, ObjectLister, build_group_source
from distributed_something.worker import (
    MAX_JOB_SECONDS,
    BadMessage,
    Folders,
    JobDefaults,
    TemplateError,
    job_from_message,
    job_id,
    list_placeholders,
    parse_upload_flags,
    split_command,
)

# SQS takes 1 MiB, attributes included. When a worker sends a message again, or to the dead-letter queue, it tells there
# how often it was tried, or why it failed: 1,000 characters of up to 4 bytes.
MAX_MESSAGE_BYTES = 1024 * 1024 - 8 * 1024
MAX_JOB_MINUTES = MAX_JOB_SECONDS / 60
_GROUP_KEYS = ("groups", "plates")
_WORKER_PLACEHOLDERS = {"job", "input_dir", "output_dir", "scripts_dir", "group"}  # placeholders that the worker fills

_SAMPLE_FOLDERS = Folders(Path("job"))
_SAMPLE_NAMES = JobDefaults(aws_bucket="bucket", app_name="app")

NonEmptyText = Annotated[StrictStr, Field(min_length=1)]


def _validate_command(value: object) -> object:
    parts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if parts and all(isinstance(part, list) for part in parts):
        return [_validate_command(part) for part in parts]
    if not parts or not parts[0] or not all(type(part) in (str, int, float) for part in parts):
        raise build_value_error("write a text, or a list of texts and numbers")
    return value


def _validate_inputs(value: object) -> object:
    parts = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else [None]
    if not all(isinstance(part, str) and part for part in parts):
        raise build_value_error('write a list of texts, or an object such as {"plates/{plate}/": "images"}')
    return value


def _validate_upload_flags(value: object) -> object:
    try:
        return parse_upload_flags(value)
    except ValueError as error:
        raise build_value_error(str(error)) from None


class KnownJobKeys(BaseModel):
    """The keys that the shipped worker understands; all others are the implementation's own."""

    model_config = ConfigDict(extra="ignore")

    command: Annotated[str | list[Any] | None, BeforeValidator(_validate_command)] = None
    shell: StrictBool = False
    inputs: Annotated[Any, BeforeValidator(_validate_inputs)] = []
    input_bucket: NonEmptyText | None = None
    output_location: NonEmptyText | None = None
    output_bucket: NonEmptyText | None = None
    timeout_minutes: Annotated[float, Field(gt=0, le=MAX_JOB_MINUTES, strict=True)] | None = None
    expected_files: Annotated[StrictInt, Field(ge=0)] = 0
    keep_failed: StrictBool = False
    leave_out: list[NonEmptyText] = []
    upload_flags: Annotated[object, BeforeValidator(_validate_upload_flags)] = None


@dataclass(frozen=True)
class JobFile:
    """A job file that was read and whose shared keys are right. Its groups are read as a stream, as often as asked."""

    path: Path
    groups_key: str
    shared: dict[str, Any]
    groups: GroupSource
    uploads: dict[Path, str]

    def bodies(self) -> Iterator[str]:
        """The body of each message."""
        start = self._start()
        for group in self.groups():
            yield f"{start}{json.dumps(group)}}}"

    def iter_checked_messages(self) -> Iterator[tuple[str, str]]:
        """The body and the job id of each message; raises InputError at the first that no worker could take."""
        wanted, start = self._placeholders(), self._start()
        fits: set[tuple[str, ...]] = set()
        for number, group in enumerate(self.groups(), 1):
            body = f"{start}{json.dumps(group)}}}"
            keys = tuple(group) if isinstance(group, dict) else ()
            if keys not in fits:
                self._check_placeholders(wanted, keys, f"{self.groups_key}[{number}]")
                fits.add(keys)
            if len(body) > MAX_MESSAGE_BYTES:
                where = f"{self.groups_key}[{number}]"
                most = f"{MAX_MESSAGE_BYTES:,} are the most"
                why = "SQS takes 1 MiB, and 8 KiB of it stay free for why a job fails"
                raise InputError(self.path, where, f"its message has {len(body):,} bytes", f"{most}: {why}")
            message = {**self.shared, "group": group}
            # Without a command it is for a generic-worker.py that was made for this kind of job.
            yield body, self._id_for_worker(message, number) if "command" in message else job_id(message)

    def _start(self) -> str:
        """What every body begins with: the shared keys need to be written once only."""
        return json.dumps(self.shared)[:-1] + (", " if self.shared else "") + '"group": '

    def _id_for_worker(self, message: dict[str, Any], number: int) -> str:
        """The job's id, after reading the message as the shipped worker will."""
        try:
            return job_from_message(message, _SAMPLE_FOLDERS, _SAMPLE_NAMES).id
        except BadMessage as error:
            where = f"{self.groups_key}[{number}]"
            raise InputError(self.path, where, str(error), "correct the job file or its table") from None

    def _placeholders(self) -> dict[str, str]:
        """Each placeholder with the key that uses it."""
        wanted: dict[str, str] = {}
        for key in ("command", "inputs", "input_bucket", "output_location", "output_bucket"):
            for text in _iter_texts(self.shared.get(key)):
                wanted.update(dict.fromkeys(list_placeholders(text), key))
        return wanted

    def _check_placeholders(self, wanted: dict[str, str], keys: tuple[str, ...], where: str) -> None:
        known = {*self.shared, *keys, *_WORKER_PLACEHOLDERS}
        for name, key in wanted.items():
            if name not in known:
                own = ", ".join(keys) or "none"
                raise InputError(
                    self.path, key, f"nothing fills the placeholder {{{name}}} in {where}", f"its keys are: {own}"
                )


def _iter_texts(value: object) -> Iterator[str]:
    """Every text in `value`, however deep in lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value if isinstance(value, list) else [*value, *value.values()]:
            yield from _iter_texts(part)


def load_job_file(path: Path, list_objects: ObjectLister) -> JobFile:
    """Reads the job file `path`; raises InputError for whatever is wrong with it. Groups are not read yet."""
    return parse_job_file(path, read_json_object(path, "a job file"), list_objects)


def parse_job_file(path: Path, content: dict[str, Any], list_objects: ObjectLister) -> JobFile:
    """The job file that `path` holds, or shall hold."""
    groups_key = _parse_groups_key(path, content)
    left_out = {groups_key, "upload"}
    shared = {key: value for key, value in content.items() if key not in left_out and "_comment" not in key}
    if "group" in shared:
        raise InputError(path, "group", "this key is where a message holds its own job", "rename it, or write 'groups'")
    try:
        KnownJobKeys(**shared)
    except ValidationError as error:
        raise explain_validation_error(path, error) from None
    _check_command(path, shared)
    groups = build_group_source(content[groups_key], groups_key, path, list_objects)
    return JobFile(path, groups_key, shared, groups, _parse_uploads(path, content.get("upload", {})))


def _check_command(path: Path, shared: dict[str, Any]) -> None:
    command, shell = shared.get("command"), shared.get("shell")
    if shell and not isinstance(command, str):
        raise InputError(path, "shell", "a shell takes one text", "write `command` as one text, or leave `shell` out")
    if isinstance(command, str) and not shell:
        try:
            split_command(command)
        except TemplateError as error:
            raise InputError(path, "command", str(error), "close the quote, or write a list of words") from None


def _parse_groups_key(path: Path, content: dict[str, Any]) -> str:
    found = [key for key in _GROUP_KEYS if key in content]
    if len(found) != 1:
        wrong = "both 'groups' and 'plates' are there" if found else "it lists no jobs"
        raise InputError(path, "groups", wrong, 'give one of them: "groups": [{…}, …]')
    return found[0]


def _parse_uploads(path: Path, uploads: object) -> dict[Path, str]:
    if not isinstance(uploads, dict):
        raise InputError(path, "upload", "this is no object", 'write {"local/folder": "prefix/in/the/bucket"}')
    found = {}
    for folder, prefix in uploads.items():
        if not isinstance(prefix, str) or not prefix.strip("/") or prefix.startswith("/") or ".." in prefix.split("/"):
            raise InputError(path, f"upload.{folder}", f"{prefix!r} is no prefix", "write one such as 'project/images'")
        local = path.parent / folder
        if not _is_existing_path(local):
            raise InputError(path, f"upload.{folder}", f"there is no {local}", "paths are relative to the job file")
        found[local] = prefix
    return found


def _is_existing_path(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def iter_job_file_lines(
    shared: Mapping[str, Any], groups: Iterable[JobGroup], groups_key: str = "groups"
) -> Iterator[str]:
    """The file, line by line; a million jobs are never one text."""
    yield "{\n"
    for key, value in shared.items():
        yield f"    {json.dumps(key)}: {_encode_value(value)},\n"
    yield f"    {json.dumps(groups_key)}: ["
    between = "\n"
    for group in groups:
        yield f"{between}        {json.dumps(group, ensure_ascii=False)}"
        between = ",\n"
    yield "\n    ]\n}\n"


def _encode_value(value: Any) -> str:
    """On one line where that is short."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= 100:
        return short
    return json.dumps(value, indent=4, ensure_ascii=False).replace("\n", "\n    ")
