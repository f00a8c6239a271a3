"""The Job file: what all jobs share, and a stream of what is each one's own; together, the messages.

A message is the shared keys plus `"group"`, as JSON: the published wire format. Keys with `_comment` in their name are
left out, and so are `upload` (for submitJob alone) and the list of groups itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from control.errors import InputError
from control.files import first_error, read_json_object
from control.groups import ListObjects, Source, source
from worker.machinery import uploadflags
from worker.machinery.job import LONGEST_SECONDS, BadMessage, Folders, job_from_message
from worker.machinery.jobid import job_id
from worker.machinery.settings import Names
from worker.machinery.template import TemplateError, names, words

# SQS takes 1 MiB, attributes included. When a worker sends a message again, or to the dead-letter queue, it tells there
# how often it was tried, or why it failed: 1,000 characters of up to 4 bytes.
MESSAGE_BYTES = 1024 * 1024 - 8 * 1024
LONGEST_JOB_MINUTES = LONGEST_SECONDS / 60
_GROUP_KEYS = ("groups", "plates")
_GIVEN = {"job", "input_dir", "output_dir", "scripts_dir", "group"}  # placeholders that the worker fills

_ANYWHERE = Folders(Path("job"))
_ANY_NAMES = Names(aws_bucket="bucket", app_name="app")

Text = Annotated[StrictStr, Field(min_length=1)]


def _command(value: object) -> object:
    parts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if parts and all(isinstance(part, list) for part in parts):
        return [_command(part) for part in parts]
    if not parts or not parts[0] or not all(type(part) in (str, int, float) for part in parts):
        raise ValueError("no command; write a text, or a list of texts and numbers")
    return value


def _inputs(value: object) -> object:
    parts = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else [None]
    if not all(isinstance(part, str) and part for part in parts):
        raise ValueError('no inputs; write a list of texts, or an object such as {"plates/{plate}/": "images"}')
    return value


class KnownKeys(BaseModel):
    """The keys that the shipped worker understands; all others are the implementation's own."""

    model_config = ConfigDict(extra="ignore")

    command: Annotated[str | list[Any] | None, BeforeValidator(_command)] = None
    shell: StrictBool = False
    inputs: Annotated[Any, BeforeValidator(_inputs)] = []
    input_bucket: Text | None = None
    output_location: Text | None = None
    output_bucket: Text | None = None
    timeout_minutes: Annotated[float, Field(gt=0, le=LONGEST_JOB_MINUTES, strict=True)] | None = None
    expected_files: Annotated[StrictInt, Field(ge=0)] = 0
    keep_failed: StrictBool = False
    leave_out: list[Text] = []
    upload_flags: Annotated[object, BeforeValidator(uploadflags.parse)] = None


@dataclass(frozen=True)
class JobFile:
    """A job file that was read and whose shared keys are right. Its groups are read as a stream, as often as asked."""

    path: Path
    groups_key: str
    shared: dict[str, Any]
    groups: Source
    uploads: dict[Path, str]

    def bodies(self) -> Iterator[str]:
        """The body of each message."""
        start = self._start()
        for group in self.groups():
            yield f"{start}{json.dumps(group)}}}"

    def checked(self) -> Iterator[tuple[str, str]]:
        """The body and the job id of each message; raises InputError at the first that no worker could take."""
        wanted, start = self._placeholders(), self._start()
        fits: set[tuple[str, ...]] = set()
        for number, group in enumerate(self.groups(), 1):
            body = f"{start}{json.dumps(group)}}}"
            keys = tuple(group) if isinstance(group, dict) else ()
            if keys not in fits:
                self._check_placeholders(wanted, keys, f"{self.groups_key}[{number}]")
                fits.add(keys)
            if len(body) > MESSAGE_BYTES:
                where = f"{self.groups_key}[{number}]"
                most = f"{MESSAGE_BYTES:,} are the most: SQS takes 1 MiB, and 8 KiB of it stay free for why a job fails"
                raise InputError(self.path, where, f"its message has {len(body):,} bytes", most)
            message = {**self.shared, "group": group}
            # Without a command it is for a generic-worker.py that was made for this kind of job.
            yield body, self._id_for_worker(message, number) if "command" in message else job_id(message)

    def _start(self) -> str:
        """What every body begins with: the shared keys need to be written once only."""
        return json.dumps(self.shared)[:-1] + (", " if self.shared else "") + '"group": '

    def _id_for_worker(self, message: dict[str, Any], number: int) -> str:
        """The job's id, after reading the message as the shipped worker will."""
        try:
            return job_from_message(message, _ANYWHERE, _ANY_NAMES).id
        except BadMessage as error:
            where = f"{self.groups_key}[{number}]"
            raise InputError(self.path, where, str(error), "correct the job file or its table") from None

    def _placeholders(self) -> dict[str, str]:
        """Each placeholder with the key that uses it."""
        wanted: dict[str, str] = {}
        for key in ("command", "inputs", "input_bucket", "output_location", "output_bucket"):
            for text in _texts(self.shared.get(key)):
                wanted.update(dict.fromkeys(names(text), key))
        return wanted

    def _check_placeholders(self, wanted: dict[str, str], keys: tuple[str, ...], where: str) -> None:
        known = {*self.shared, *keys, *_GIVEN}
        for name, key in wanted.items():
            if name not in known:
                own = ", ".join(keys) or "none"
                raise InputError(
                    self.path, key, f"nothing fills the placeholder {{{name}}} in {where}", f"its keys are: {own}"
                )


def _texts(value: object) -> Iterator[str]:
    """Every text in `value`, however deep in lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value if isinstance(value, list) else [*value, *value.values()]:
            yield from _texts(part)


def load(path: Path, list_objects: ListObjects) -> JobFile:
    """Reads the job file `path`; raises InputError for whatever is wrong with it. Groups are not read yet."""
    return of(path, read_json_object(path, "a job file"), list_objects)


def of(path: Path, content: dict[str, Any], list_objects: ListObjects) -> JobFile:
    """The job file that `path` holds, or shall hold."""
    groups_key = _groups_key(path, content)
    left_out = {groups_key, "upload"}
    shared = {key: value for key, value in content.items() if key not in left_out and "_comment" not in key}
    if "group" in shared:
        raise InputError(path, "group", "this key is where a message holds its own job", "rename it, or write 'groups'")
    try:
        KnownKeys(**shared)
    except ValidationError as error:
        raise first_error(path, error) from None
    _check_command(path, shared)
    groups = source(content[groups_key], groups_key, path, list_objects)
    return JobFile(path, groups_key, shared, groups, _uploads(path, content.get("upload", {})))


def _check_command(path: Path, shared: dict[str, Any]) -> None:
    command, shell = shared.get("command"), shared.get("shell")
    if shell and not isinstance(command, str):
        raise InputError(path, "shell", "a shell takes one text", "write `command` as one text, or leave `shell` out")
    if isinstance(command, str) and not shell:
        try:
            words(command)
        except TemplateError as error:
            raise InputError(path, "command", str(error), "close the quote, or write a list of words") from None


def _groups_key(path: Path, content: dict[str, Any]) -> str:
    found = [key for key in _GROUP_KEYS if key in content]
    if len(found) != 1:
        wrong = "both 'groups' and 'plates' are there" if found else "it lists no jobs"
        raise InputError(path, "groups", wrong, 'give one of them: "groups": [{…}, …]')
    return found[0]


def _uploads(path: Path, uploads: object) -> dict[Path, str]:
    if not isinstance(uploads, dict):
        raise InputError(path, "upload", "this is no object", 'write {"local/folder": "prefix/in/the/bucket"}')
    found = {}
    for folder, prefix in uploads.items():
        if not isinstance(prefix, str) or not prefix.strip("/") or prefix.startswith("/") or ".." in prefix.split("/"):
            raise InputError(path, f"upload.{folder}", f"{prefix!r} is no prefix", "write one such as 'project/images'")
        local = path.parent / folder
        if not _exists(local):
            raise InputError(path, f"upload.{folder}", f"there is no {local}", "paths are relative to the job file")
        found[local] = prefix
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
