"""Builds jobs from messages. All placeholders are filled."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from distributed_something.worker.job.addresses import BadAddress, remove_mount_folder
from distributed_something.worker.job.job import BadMessage, Folders, Job, JobMessage, JobOutline, check_outline
from distributed_something.worker.job.job_id import ALTERNATIVE_GROUP_KEYS, JobIdentifier, add_missing_group
from distributed_something.worker.job.message.message_keys import (
    BadValue,
    parse_inputs,
    read_boolean,
    read_endpoint,
    read_file_count,
    read_text,
    read_text_list,
    read_timeout_seconds,
)
from distributed_something.worker.job.placeholders import (
    TemplateError,
    ValueTexts,
    merge_values,
    parse_template,
)
from distributed_something.worker.job.shell.command_builder import parse_command
from distributed_something.worker.job.upload_flags import BadFlags, parse_upload_flags
from distributed_something.worker.job.worker_settings import JobDefaults

FieldBuilder = Callable[[ValueTexts], Any]


def parse_message(body: str) -> dict[str, Any]:
    """Return the message in an SQS body. Raise BadMessage if it is not a JSON object with a `group`.

    In messages of published implementations, the group may also be under `Metadata` or `plate`.
    """
    try:
        message = json.loads(body, object_hook=JobMessage)
        # This rejects lone surrogates ("\ud800"), which UTF-8 cannot encode.
        json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the message is not valid JSON in UTF-8 ({error})") from None
    if not isinstance(message, dict):
        raise BadMessage("the message is not a JSON object")
    for name in [name for name in message if "_comment" in name]:  # as in Job files
        del message[name]
    add_missing_group(message)
    if not isinstance(message.get("group"), (dict, str)):
        written = [name for name in ("group", *ALTERNATIVE_GROUP_KEYS) if name in message]
        what = f"`{written[0]}` is neither an object nor a string" if written else "`group` is missing from the message"
        raise BadMessage(what)
    return message


def job_from_message(message: Mapping[str, Any], folders: Folders, defaults: JobDefaults, **overrides: Any) -> Job:
    """Return the job for a message that has the usual keys of a job file.

    `overrides` are fields of Job that replace the message's values: `job_from_message(…, command=[…])`. Raise
    BadMessage if the message is invalid.
    """
    return JobTemplate(message, folders, defaults, **overrides).build_job(message["group"])


class JobTemplate:
    """Builds the jobs of messages that have the same shared keys.

    The shared keys are read, and placeholders are looked for, only once, because submitJob checks up to a million jobs.
    The worker uses the same class, so that both accept the same messages.
    """

    def __init__(self, shared: Mapping[str, Any], folders: Folders, defaults: JobDefaults, **overrides: Any) -> None:
        """`shared`: a message, or its shared keys; its `group` is ignored. The others: as in `job_from_message`."""
        self._identifier, self._shared = JobIdentifier(shared), dict(shared)
        self._worker_values = _list_worker_values(shared, folders)
        self._fields, self._builders, self._problem = dict[str, Any](overrides), list[FieldBuilder](), ""
        try:
            self._read_fields(shared, defaults)
            self._parse_templates(shared, defaults)
        except (BadMessage, BadAddress, BadValue, TemplateError) as error:
            self._problem = str(error)

    def build_job(self, group: Any) -> Job:
        """Return the job with this group. Raise BadMessage if its message is invalid."""
        return Job(**self._fields, **self.build_outline(group)._asdict())

    def build_outline(self, group: Any) -> JobOutline:
        """Return what is this job's own. Raise BadMessage if it, or a shared key, is invalid.

        For very many jobs, this takes much less time than `build_job`.
        """
        if self._problem:
            raise BadMessage(self._problem)
        own_values = {**self._worker_values, "job": self._identifier.build_id(group)}
        texts = ValueTexts(merge_values(self._shared, group) | own_values, own_values)
        try:
            outline = JobOutline(*[build(texts) for build in self._builders])
        except (BadAddress, TemplateError) as error:
            raise BadMessage(str(error)) from None
        check_outline(outline)
        return outline

    def _read_fields(self, shared: Mapping[str, Any], defaults: JobDefaults) -> None:
        """Read the fields that are the same for all jobs."""
        is_shared = read_boolean(shared, "shared_location")  # is refused even if it is overridden
        readers: dict[str, Callable[[], Any]] = {
            "shared_location": lambda: is_shared,
            "shell": lambda: shared.get("shell") is True,
            "timeout_seconds": lambda: read_timeout_seconds(shared),
            "expected_files": lambda: read_file_count(shared, "expected_files"),
            "keep_failed": lambda: shared.get("keep_failed") is True,
            "leave_out": lambda: read_text_list(shared, "leave_out"),
            "upload_arguments": lambda: upload_arguments(shared.get("upload_flags")),
            "requester_pays": lambda: read_boolean(shared, "requester_pays"),
            **{
                key: partial(read_endpoint, shared, key, allow_unsafe=defaults.allow_unsafe_inputs)
                for key in ("input_endpoint", "output_endpoint")
            },
        }
        self._fields |= {name: read() for name, read in readers.items() if name not in self._fields}

    def _parse_templates(self, shared: Mapping[str, Any], defaults: JobDefaults) -> None:
        """Parse the templates of the fields that depend on the job's group."""
        is_shared = self._fields["shared_location"]
        parsers: dict[str, Callable[[], FieldBuilder]] = {
            "id": lambda: lambda texts: texts["job"],
            "command": lambda: parse_command(shared),
            "inputs": lambda: parse_inputs(shared, "inputs", allow_unsafe=defaults.allow_unsafe_inputs),
            # Web addresses are refused here, so there are no unsafe ones.
            "shared_inputs": lambda: parse_inputs(shared, "shared_inputs", allow_unsafe=True),
            "input_bucket": lambda: parse_template(read_text(shared, "input_bucket", defaults.aws_bucket)).fill,
            "output_bucket": lambda: parse_template(read_text(shared, "output_bucket", defaults.aws_bucket)).fill,
            "output_location": lambda: _parse_location(
                read_text(shared, "output_location", defaults.app_name), is_shared=is_shared
            ),
        }
        for name in JobOutline._fields:
            if name in self._fields:
                self._builders.append(partial(_return_value, self._fields.pop(name)))
            else:
                self._builders.append(parsers[name]())


def _return_value(value: Any, _texts: ValueTexts) -> Any:
    return value


def fill_key(message: Mapping[str, Any], key: str, values: Mapping[str, object] | None = None) -> str:
    """Return the text of a key with its placeholders filled: with `values`, else the group's values or shared keys.

    For the keys that only a generic-worker.py knows. Raise BadMessage if the key is not a non-empty string, if nothing
    fills a placeholder, or if a part of a path between slashes would be blank.
    """
    try:
        template = read_text(message, key, "")
    except BadValue as error:
        raise BadMessage(str(error)) from None
    texts = ValueTexts({**merge_values(message, message.get("group")), **(values or {})})
    parsed = parse_template(template)
    try:
        filled = parsed.fill(texts)
    except TemplateError as error:
        raise BadMessage(f"`{key}`: {error}") from None
    if blank := parsed.describe_blank_parts(texts):
        raise BadMessage(f"`{key}` is {template!r}, but {blank}")
    return filled


def upload_arguments(flags: object, name: str = "`upload_flags`") -> dict[str, object]:
    """Return the S3 request arguments for `aws s3 cp` flags, such as `--acl bucket-owner-full-control`.

    The result is empty for "", false, and null. Raise BadMessage if the flags are invalid. `name`: where the flags are
    written, for this error.
    """
    try:
        return parse_upload_flags(flags)
    except BadFlags as error:
        raise BadMessage(f"{name}: {error}") from None


def _list_worker_values(shared: Mapping[str, Any], folders: Folders) -> dict[str, str]:
    """Return the worker's own placeholder values, except the job's id."""
    return {
        "input_dir": str(folders.input_dir),
        "output_dir": str(folders.output_dir),
        "scripts_dir": _get_scripts_folder(),
        # Otherwise, this may be a name of the user's own.
        **({"shared_dir": str(folders.shared_dir)} if shared.get("shared_inputs") else {}),
    }


@lru_cache(maxsize=1)
def _get_scripts_folder() -> str:
    """Return the developer's scripts folder: `scripts`, next to generic-worker.py.

    The local cloud sets WORKER_SCRIPTS_DIR, because a project may have its own scripts but use the template's
    generic-worker.py.
    """
    return os.environ.get("WORKER_SCRIPTS_DIR") or str(Path(sys.argv[0]).resolve().parent / "scripts")


def _parse_location(text: str, *, is_shared: bool) -> Callable[[ValueTexts], str]:
    """Return a function that builds the prefix of the job's results.

    It always contains the job id, so two jobs never share a prefix, unless `is_shared`.
    """
    given = parse_template(text)
    is_complete = is_shared or "job" in given.names
    template = given if is_complete else parse_template(f"{text.rstrip('/')}/{{job}}")

    def build_location(texts: ValueTexts) -> str:
        location = template.fill(texts)
        if blank := given.describe_blank_parts(texts):
            raise BadMessage(f"`output_location` is {text!r}, but {blank}")
        return remove_mount_folder(location).strip("/")

    return build_location
