"""The job, and the folders of an attempt. No output path can leave its prefix."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from distributed_something.worker.job.addresses import (
    MAX_KEY_BYTES,
    BadAddress,
    check_endpoint,
    check_input_address,
    count_key_bytes,
    is_bucket_name,
    is_url,
)
from distributed_something.worker.job.message.message_keys import (
    MAX_JOB_SECONDS,
)
from distributed_something.worker.job.shell.command_builder import Command
from distributed_something.worker.safe_path import SafePath

CommandCheck = Callable[[], str | None]  # returns why the job failed, or None
Inputs = list[str] | dict[str, str]  # addresses, or a mapping from addresses to paths below input_dir
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
        try:
            for endpoint in filter(None, (self.input_endpoint, self.output_endpoint)):
                check_endpoint(endpoint, allow_unsafe=True)  # the worker applies its own rule before it connects
        except BadAddress as error:
            raise BadMessage(str(error)) from None
        check_outline(self)

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
        return _list_commands(self.command)


class JobOutline(NamedTuple):
    """The fields of Job that differ between the jobs of a Job file."""

    id: str
    command: Command | list[list[str]]
    inputs: Inputs
    shared_inputs: Inputs
    input_bucket: str
    output_bucket: str
    output_location: str


def _list_commands(command: Command | list[list[str]]) -> list[Command]:
    if isinstance(command, str):
        return [command]
    if command and isinstance(command[0], str):
        return [cast("Command", command)]
    word_lists = [part for part in command if isinstance(part, list)]
    return list(word_lists) or [cast("Command", command)]


def check_outline(job: Job | JobOutline) -> None:
    """Raise BadMessage if the output location, a bucket, an input, or the command is invalid."""
    location = job.output_location
    if not _REFUSED_PARTS.isdisjoint(location.split("/")):
        problem = 'which has an empty part, ".", or ".." between slashes'
        raise BadMessage(f"`output_location` is {location!r}, {problem}")
    # A result adds at least a slash and one character.
    if (length := count_key_bytes(location) + 2) > MAX_KEY_BYTES:
        problem = f"makes keys of at least {length:,} bytes, but S3 allows only {MAX_KEY_BYTES:,}: {location[:100]}…"
        raise BadMessage(f"`output_location` {problem}")
    for command in _list_commands(job.command):
        if not command:
            raise BadMessage("`command` is empty")
        if "\0" in "".join(command):
            raise BadMessage("`command` contains a null byte")
    if not is_bucket_name(job.output_bucket):
        raise BadMessage(f"`output_bucket` is {job.output_bucket!r}, which is not a bucket name")
    try:
        for text in job.inputs:
            check_input_address(text, job.input_bucket)
        for text in job.shared_inputs:
            check_input_address(text, job.input_bucket)
    except BadAddress as error:
        raise BadMessage(str(error)) from None
    for text in job.shared_inputs:
        if is_url(text):  # not every web server says whether a file has changed
            raise BadMessage(f"the shared input {text!r} is not in S3; copy it there, or write it in `inputs`")
