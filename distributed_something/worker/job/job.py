"""Builds jobs from messages. All placeholders are filled, and no output path can leave its prefix."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, cast

from distributed_something.worker.job.addresses import (
    MAX_KEY_BYTES,
    BadAddress,
    check_endpoint,
    check_input_address,
    count_key_bytes,
    is_bucket_name,
    is_url,
    remove_mount_folder,
)
from distributed_something.worker.job.job_id import ALTERNATIVE_GROUP_KEYS, JobIdentifier, add_missing_group
from distributed_something.worker.job.message_keys import (
    MAX_JOB_SECONDS,
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
from distributed_something.worker.job.shell.command_builder import Command, parse_command
from distributed_something.worker.job.upload_flags import BadFlags, parse_upload_flags
from distributed_something.worker.job.worker_settings import JobDefaults
from distributed_something.worker.safe_path import SafePath

CommandCheck = Callable[[], str | None]  # returns why the job failed, or None
Inputs = list[str] | dict[str, str]  # addresses, or a mapping from addresses to paths below input_dir
FieldBuilder = Callable[[ValueTexts], Any]
_REFUSED_PARTS = frozenset({"", ".", ".."})  # of an output location, between slashes
SHORT_TEMP_DIR, MAX_TEMP_DIR_BYTES = Path("/tmp"), 64  # 43 bytes remain for a socket's name


class BadMessage(Exception):
    """Raised for a message that cannot be turned into a job. Retrying cannot help."""


class JobMessage(dict[str, Any]):
    """A message, or an object inside it. Reading a missing key raises BadMessage, even in a hook."""

    def __missing__(self, key: str) -> Any:
        raise BadMessage(f"the message has no `{key}`")


def _reject_fetch(inputs: Inputs) -> None:
    raise RuntimeError("folders.fetch can be called only in prepare()")


@dataclass(frozen=True)
class Folders:
    """The folders of one attempt. They are created before the attempt and removed after it; the program runs in `root`.

    `prepare` can call `fetch` to download more inputs to `input_dir`, just like the job's own inputs.
    """

    root: Path
    fetch: Callable[[Inputs], None] = _reject_fetch

    @cached_property
    def input_dir(self) -> Path:
        return self.root / "input"

    @cached_property
    def output_dir(self) -> Path:
        return self.root / "output"

    @cached_property
    def shared_dir(self) -> Path:
        """The folder with the job's shared inputs. It exists only if the job has any."""
        return self.root / "shared"

    @cached_property
    def temp_dir(self) -> Path:
        """The folder for the program's temporary files. It is next to `root`, because the program may create files with
        any name inside `root`."""
        return self.root.with_name(f"{self.root.name}.tmp")

    @cached_property
    def short_temp_dir(self) -> Path:
        """The path that the program gets as TMPDIR: `temp_dir`, or a link to it if its path is long.

        Unix sockets are created in TMPDIR, and their paths may have at most 107 bytes.
        """
        folder = self.temp_dir
        is_long = len(os.fsencode(folder)) > MAX_TEMP_DIR_BYTES
        if not is_long or not os.access(SHORT_TEMP_DIR, os.W_OK | os.X_OK):
            return folder
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        return SHORT_TEMP_DIR / f"job-{digest}.tmp"

    @cached_property
    def log(self) -> Path:
        """The log file. It is next to `root`, because the program may create files with any name inside `root`.

        The program may also replace it with a link, which is never followed.
        """
        return SafePath.build(self.root.with_name(f"{self.root.name}.log"))


@dataclass
class Job:
    """One job.

    `command` is a list of words; a list of such lists, which run one after the other until one fails; or, if `shell` is
    set, one string for a shell. `leave_out` lists patterns (`*.tmp`, `logs/*`) for files in `output_dir` that are not
    results. `upload_arguments` are extra arguments for S3 uploads; the function `upload_arguments(flags)` builds them
    from AWS CLI flags. Use `own` to pass your own values from `make_job` to `prepare` and `failure`. Set `output_dir`
    if the program creates its own results folder below `folders.root` instead of using `folders.output_dir`.

    Set `shared_location` if several jobs use the same output location. A job then never replaces a file that another
    job of the same run wrote, unless `may_replace` is set. Set `has_done_document` if the number of files does not show
    whether the job is done; a document in the app's bucket then says so. Jobs with a shared location always have one.
    Set `requester_pays` if the account that runs the job pays for reading its inputs from S3. `input_endpoint` and
    `output_endpoint` are the addresses of other S3 servers than AWS's. If `upload_results` is not set, only the hook
    `deliver` sends the results, and a done document says whether the job is done.

    `shared_inputs` are inputs in S3 that the container fetches only once, to `folders.shared_dir`.

    `command_checks` has a function (or None) for each command: it is called after the command ends with exit code 0,
    and returns why the job failed, or None. If it returns a reason, no further command runs.

    Raise BadMessage if the output location, a bucket, or the command is invalid.
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
    shared_location: bool = False
    may_replace: bool = False
    has_done_document: bool = False
    shared_inputs: Inputs = field(default_factory=list)
    requester_pays: bool = False
    command_checks: list[CommandCheck | None] = field(default_factory=list)
    input_endpoint: str = ""
    output_endpoint: str = ""
    upload_results: bool = True

    def __post_init__(self) -> None:
        if not _REFUSED_PARTS.isdisjoint(self.output_location.split("/")):
            problem = 'which has an empty part, ".", or ".." between slashes'
            raise BadMessage(f"`output_location` is {self.output_location!r}, {problem}")
        # A result adds at least a slash and one character.
        if (length := count_key_bytes(self.output_location) + 2) > MAX_KEY_BYTES:
            start = self.output_location[:100]
            problem = f"makes keys of at least {length:,} bytes, but S3 allows only {MAX_KEY_BYTES:,}: {start}…"
            raise BadMessage(f"`output_location` {problem}")
        commands = self.commands
        if not all(commands):
            raise BadMessage("`command` is empty")
        if "\0" in "".join(map("".join, commands)):
            raise BadMessage("`command` contains a null byte")
        self._check_buckets()

    def _check_buckets(self) -> None:
        if not is_bucket_name(self.output_bucket):
            raise BadMessage(f"`output_bucket` is {self.output_bucket!r}, which is not a bucket name")
        try:
            for endpoint in filter(None, (self.input_endpoint, self.output_endpoint)):
                check_endpoint(endpoint, allow_unsafe=True)  # the worker applies its own rule before it connects
            for text in (*self.inputs, *self.shared_inputs):
                check_input_address(text, self.input_bucket)
        except BadAddress as error:
            raise BadMessage(str(error)) from None
        for text in filter(is_url, self.shared_inputs):  # not every web server says whether a file has changed
            raise BadMessage(f"the shared input {text!r} is not in S3; copy it there, or write it in `inputs`")

    @property
    def needs_done_document(self) -> bool:
        """Whether a document, not the files at the output location, says that the job is done."""
        return self.shared_location or self.has_done_document or not self.upload_results

    @property
    def input_arguments(self) -> dict[str, object]:
        """The extra arguments for S3 requests that read inputs."""
        return {"RequestPayer": "requester"} if self.requester_pays else {}

    @property
    def commands(self) -> list[Command]:
        """The commands to run, in order: the lists in `command`, or `command` itself."""
        if isinstance(self.command, str):
            return [self.command]
        word_lists = [command for command in self.command if isinstance(command, list)]
        return list(word_lists) or [cast("Command", self.command)]


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
        self._fields, self._builders, self._problem = dict[str, Any](overrides), dict[str, FieldBuilder](), ""
        try:
            self._read_fields(shared, defaults)
            self._parse_templates(shared, defaults)
        except (BadMessage, BadAddress, BadValue, TemplateError) as error:
            self._problem = str(error)

    def build_job(self, group: Any) -> Job:
        """Return the job with this group. Raise BadMessage if its message is invalid."""
        if self._problem:
            raise BadMessage(self._problem)
        identity = self._identifier.build_id(group)
        own_values = {**self._worker_values, "job": identity}
        texts = ValueTexts({**merge_values(self._shared, group), **own_values}, own_values)
        try:
            return Job(**self._fields, **{name: build(texts) for name, build in self._builders.items()})
        except (BadAddress, TemplateError) as error:
            raise BadMessage(str(error)) from None

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
        self._builders = {name: parse() for name, parse in parsers.items() if name not in self._fields}


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
