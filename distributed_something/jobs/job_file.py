"""The Job file: the keys that all jobs share, and a stream of groups, one per job.

A job's message is the shared keys plus `"group"`, as JSON. This is the published wire format. Messages do not contain
the list of groups, `upload` (which only submitJob uses), or keys with `_comment` in their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import (
    check_file_kind,
    drop_comments,
    explain_validation_error,
    read_json_object,
)
from distributed_something.core.text import format_json
from distributed_something.jobs.command import check_command
from distributed_something.jobs.job_keys import (
    GROUPS_KEYS,
    UPLOAD_KEY,
    KnownJobKeys,
    OwnNames,
    build_misspelling_error,
    correct_keys,
    find_misspelled_keys,
    iter_endpoint_errors,
    iter_texts,
)
from distributed_something.jobs.sources import (
    GroupReader,
    GroupSource,
    JobGroup,
    ObjectLister,
    ProblemHandler,
    build_group_source,
    build_problem_collector,
    raise_problem,
)
from distributed_something.jobs.uploads.upload_files import check_upload_names
from distributed_something.worker import (
    CREDENTIALS_PROBLEM,
    BadMessage,
    Folders,
    JobDefaults,
    JobIdentifier,
    JobTemplate,
    hide_message_credentials,
    list_placeholders,
)

# SQS accepts 1 MiB, including attributes. When a worker sends a message again or to the dead-letter queue, it adds the
# number of attempts or the reason for the failure as attributes: up to 1,000 characters of up to 4 bytes. `submitJob
# --again` adds an attribute of about 40 bytes.
RESERVED_BYTES = 8 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024 - RESERVED_BYTES
_WORKER_PLACEHOLDERS = {"job", "input_dir", "output_dir", "scripts_dir", "group"}  # filled by the worker

_SAMPLE_FOLDERS = Folders(Path("job"))
_SAMPLE_NAMES = JobDefaults(aws_bucket="bucket", app_name="app", allow_unsafe_inputs=True)


class CheckedMessage(NamedTuple):
    """A message that a worker would accept: its number (from 1) and body, and its job's ID.

    `output_bucket` and `output_location`: where the shipped worker puts the job's results; "" if only a custom
    generic-worker.py can read the message. `inputs`: what it fetches, as keys in `input_bucket` or addresses. Where the
    Job file does not say so, they contain sample names.
    """

    number: int
    body: str
    id: str
    output_bucket: str = ""
    output_location: str = ""
    input_bucket: str = ""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobFile:
    """A job file with valid shared keys. Its groups are a stream that can be read any number of times.

    `failed_jobs`: the IDs of the failed jobs from which `retry` took the groups; none if they are those of the file.
    """

    path: Path
    groups_key: str
    shared: dict[str, Any]
    groups: GroupSource
    uploads: dict[Path, str]
    defaults: JobDefaults = _SAMPLE_NAMES
    failed_jobs: tuple[str, ...] = ()

    def iter_bodies(self) -> Iterator[str]:
        """Yield the body of each message. Raise InputError at the first invalid group."""
        start = self.build_body_start()
        for group in self.groups():
            yield f"{start}{json.dumps(group)}}}"

    def iter_checked_messages(self, on_problem: ProblemHandler = raise_problem) -> Iterator[CheckedMessage]:
        """Yield each message that a worker would accept.

        Call `on_problem` with an InputError for all other groups; by default, raise the first one. A problem in the
        shared keys is reported only once.
        """
        shared_problems: set[str] = set()
        template, identifier = JobTemplate(self.shared, _SAMPLE_FOLDERS, self.defaults), JobIdentifier(self.shared)
        has_command = "command" in self.shared
        for number, body, group in self._iter_messages(self.groups.read, on_problem):
            message: dict[str, Any] = {**self.shared, "group": group} if "@" in body else {}
            if message and hide_message_credentials(message) != message:
                problem = f"the address of an input {CREDENTIALS_PROBLEM}"
                place = self.format_place(number)
                on_problem(InputError(self.path, place, problem, "correct the job file or its table"))
                continue
            if not has_command:  # only a custom generic-worker.py can read such a job
                yield CheckedMessage(number, body, identifier.build_id(group))
                continue
            try:
                job = template.build_outline(group)
            except BadMessage as error:
                problem = str(error)
            else:
                yield CheckedMessage(
                    number, body, job.id, job.output_bucket, job.output_location, job.input_bucket, tuple(job.inputs)
                )
                continue
            if problem not in shared_problems:
                if _is_shared_problem(problem, template, group):
                    shared_problems.add(problem)
                row = self.groups.locate(number)
                remedy = f"correct the job file, or {row}" if row else "correct the job file or its table"
                on_problem(InputError(self.path, self.format_place(number), problem, remedy))

    def report_problems(self, on_problem: ProblemHandler, *, has_valid_keys: bool) -> None:
        """Call `on_problem` for each invalid group and each placeholder that nothing fills.

        `has_valid_keys`: whether the shared keys are valid. If not, only the source's preview is read, and the worker's
        own checks are not applied to the jobs.
        """
        read = self.iter_checked_messages if has_valid_keys else self._iter_preview_messages
        for _ in read(on_problem):
            pass

    def _iter_preview_messages(self, on_problem: ProblemHandler) -> Iterator[tuple[int, str, JobGroup]]:
        return self._iter_messages(self.groups.preview, on_problem)

    def _iter_messages(self, read: GroupReader, on_problem: ProblemHandler) -> Iterator[tuple[int, str, JobGroup]]:
        """Yield the number, body, and group of each message that is not too large and has no unfilled placeholder."""
        placeholders, start = self._map_placeholders(), self.build_body_start()
        skipped = 0

        def skip_group(error: InputError) -> None:
            nonlocal skipped
            skipped += 1
            on_problem(error)

        can_fill: dict[tuple[str, ...], bool] = {}  # keyed by the group's keys: a table's columns are checked only once
        for count, group in enumerate(read(skip_group), 1):
            number = count + skipped
            body = f"{start}{json.dumps(group)}}}"
            keys = tuple(group) if isinstance(group, dict) else ()
            if keys not in can_fill:
                errors = list(self._iter_placeholder_errors(placeholders, keys, number))
                can_fill[keys] = not errors
                for error in errors:
                    on_problem(error)
            if len(body) > MAX_MESSAGE_BYTES:
                on_problem(self._build_size_error(len(body), number))
            elif can_fill[keys]:
                yield number, body, group

    def build_body_start(self) -> str:
        """Return the text with which every body begins.

        It is built once, so that the shared keys are encoded only once.
        """
        return json.dumps(self.shared)[:-1] + (", " if self.shared else "") + '"group": '

    def _map_placeholders(self) -> dict[str, str]:
        """Return the shared key that uses each placeholder, keyed by placeholder."""
        placeholders: dict[str, str] = {}
        for key in ("command", "inputs", "shared_inputs", "input_bucket", "output_location", "output_bucket"):
            for text in iter_texts(self.shared.get(key)):
                placeholders.update(dict.fromkeys(list_placeholders(text), key))
        return placeholders

    def _iter_placeholder_errors(
        self, placeholders: dict[str, str], keys: tuple[str, ...], number: int
    ) -> Iterator[InputError]:
        shared_dir = ["shared_dir"] if self.shared.get("shared_inputs") else []
        filled = {*self.shared, *(keys or ["plate"]), *_WORKER_PLACEHOLDERS, *shared_dir}
        shown = ", ".join(key if key == key.strip() else repr(key) for key in keys)  # " well" is not {well}
        addition = "" if self.failed_jobs else ", or add this key"
        remedy = f"use one of its keys ({shown}){addition}" if keys else "use {group} or {job}"
        # The value of a key such as `command` is rarely meant.
        suggested = sorted(filled - KnownJobKeys.model_fields.keys())
        for name, key in sorted(placeholders.items()):
            if name not in filled:
                similar = get_close_matches(name, suggested, n=1)
                guess = f"write {{{similar[0]}}}, or " if similar else ""
                problem = f"nothing fills the placeholder {{{name}}} in {self.format_place(number)}"
                yield InputError(self.path, key, problem, guess + remedy)

    def _build_size_error(self, size: int, number: int) -> InputError:
        problem = f"its message has {size:,} bytes, more than the maximum of {MAX_MESSAGE_BYTES:,}"
        remedy = "shorten it; SQS accepts 1 MiB, and 8 KiB are reserved for the reason if the job fails"
        return InputError(self.path, self.format_place(number), problem, remedy)

    def format_place(self, number: int) -> str:
        """Return where the group with this number (from 1) is from."""
        if self.failed_jobs:
            return f"the group of the failed job {self.failed_jobs[number - 1]}"
        return f"{self.groups_key}[{number}]"


def _is_shared_problem(problem: str, template: JobTemplate, group: JobGroup) -> bool:
    """Return whether the problem does not depend on the group's values."""
    try:
        template.build_job(dict.fromkeys(group, "x") if isinstance(group, dict) else "x")
    except BadMessage as error:
        return str(error) == problem
    return False


def load_job_file(
    path: Path, list_objects: ObjectLister, own_names: OwnNames | None = None, *,
    allow_unsafe_inputs: bool = True, on_misspelled: ProblemHandler | None = None,
) -> JobFile:  # fmt: skip
    """Return the job file at `path`. Raise InputError under the same conditions as `parse_job_file`.

    `allow_unsafe_inputs`: as in the config; if false, jobs with such inputs are problems too. `on_misspelled`: gets the
    errors for misspelled keys, which are then not raised; the job file has the right keys instead.
    """
    content = read_json_object(path, "a job file")
    return parse_job_file(
        path, content, list_objects, own_names,
        allow_unsafe_inputs=allow_unsafe_inputs, on_misspelled=on_misspelled,
    )  # fmt: skip


def parse_job_file(
    path: Path, content: dict[str, Any], list_objects: ObjectLister, own_names: OwnNames | None = None, *,
    allow_unsafe_inputs: bool = True, failed_jobs: tuple[str, ...] = (), on_misspelled: ProblemHandler | None = None,
) -> JobFile:  # fmt: skip
    """Return the job file with this content. Groups from a table or a bucket are not read yet.

    Raise a single InputError that lists everything wrong with the file. It includes the problems in the groups that can
    be found without calling AWS. `path`: the file that contains `content`, or will contain it. `own_names`: the names
    in the project's worker; if None, misspelled keys are not reported. `failed_jobs`: as in JobFile. `on_misspelled`:
    as in `load_job_file`.
    """
    check_file_kind(path, content, "Job file")
    problems = InputProblems()
    left_out = {*GROUPS_KEYS, UPLOAD_KEY}
    shared = {key: value for key, value in drop_comments(content).items() if key not in left_out}
    groups_key, source, uploads = "", None, None
    defaults = replace(_SAMPLE_NAMES, allow_unsafe_inputs=allow_unsafe_inputs)
    if shared.get("requester_pays") is True:
        list_objects = partial(list_objects, requester_pays=True)
    misspelled = find_misspelled_keys(content, shared, own_names) if own_names else {}
    for key, similar in misspelled.items():
        (on_misspelled or problems.add)(build_misspelling_error(path, key, similar))
    endpoint_errors = list(iter_endpoint_errors(path, shared, allow_unsafe=allow_unsafe_inputs))
    for error in endpoint_errors:
        problems.add(error)
    with problems.collect():
        uploads = _parse_shared_keys(path, shared, content.get(UPLOAD_KEY, {}))
    with problems.collect():
        groups_key = _parse_groups_key(path, content)
        source = build_group_source(content[groups_key], groups_key, path, list_objects)
        _check_listing(path, groups_key, content)
    if endpoint_errors:
        uploads = None  # the jobs have the same problem
    if source is not None and (uploads is None or not source.is_valid):
        job_file = JobFile(path, groups_key, shared, source, {}, defaults, failed_jobs)
        job_file.report_problems(build_problem_collector(problems), has_valid_keys=uploads is not None)
    problems.raise_if_any()
    assert source is not None  # otherwise `problems` was not empty
    assert uploads is not None
    return JobFile(path, groups_key, correct_keys(shared, misspelled), source, uploads, defaults, failed_jobs)


def _parse_shared_keys(path: Path, shared: dict[str, Any], uploads: object) -> dict[Path, str]:
    """Check the shared keys, and return the prefix for each folder to upload."""
    problems = InputProblems()
    if "group" in shared:
        problem = "this name is reserved for the job's own values in its message"
        problems.add(InputError(path, "group", problem, "rename this key, or write 'groups'"))
    wrong_keys: set[str] = set()
    try:
        KnownJobKeys(**shared)
    except ValidationError as error:
        wrong_keys = {str(details["loc"][0]) for details in error.errors(include_url=False)}
        problems.add(explain_validation_error(path, error, is_json=True))
    if wrong_keys.isdisjoint({"command", "shell"}):
        with problems.collect():
            check_command(path, shared)
    folders: dict[Path, str] = {}
    with problems.collect():
        folders = _parse_uploads(path, uploads)
    problems.raise_if_any()
    return folders


def _parse_groups_key(path: Path, content: dict[str, Any]) -> str:
    keys = [key for key in GROUPS_KEYS if key in content]
    if len(keys) > 1:
        raise InputError(path, "groups", "the file has both 'groups' and 'plates'", "remove one of them")
    if not keys:
        raise InputError(path, "groups", "this key is missing", 'list the jobs: "groups": [{…}, …]')
    return keys[0]


def _check_listing(path: Path, groups_key: str, content: Mapping[str, Any]) -> None:
    """Raise InputError if the jobs are to be listed from a bucket, which is AWS's, but their inputs are elsewhere."""
    groups = content[groups_key]
    if isinstance(groups, dict) and "s3" in groups and content.get("input_endpoint"):
        problem = "objects can be listed only in AWS, but `input_endpoint` is another server"
        raise InputError(path, groups_key, problem, "list the jobs in a table, or as objects, with their keys")


def _parse_uploads(path: Path, uploads: object) -> dict[Path, str]:
    if not isinstance(uploads, dict):
        remedy = 'write {"local/folder": "prefix/in/the/bucket"}'
        raise InputError(path, "upload", f"{format_json(uploads)} is not an object", remedy)
    folders, problems = {}, InputProblems()
    for folder, prefix in uploads.items():
        key, local = f"upload '{folder}'", path.parent / folder
        if not isinstance(prefix, str) or not prefix.strip("/") or prefix.startswith("/") or ".." in prefix.split("/"):
            problem = f"{format_json(prefix)} is not a prefix in the bucket"
            problems.add(InputError(path, key, problem, "write a prefix such as 'project/images'"))
        if not _is_existing_path(local):
            remedy = "correct the path, which is relative to the job file"
            problems.add(InputError(path, key, f"there is no file or folder {local}", remedy))
        folders[local] = prefix
    problems.raise_if_any()
    check_upload_names(
        path, {path.parent / folder: (prefix, f"upload '{folder}'") for folder, prefix in uploads.items()}
    )
    return folders


def _is_existing_path(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def iter_job_file_lines(
    shared: Mapping[str, Any], groups: Iterable[JobGroup], groups_key: str = "groups"
) -> Iterator[str]:
    """Yield the file line by line, because the text of a million jobs would need too much memory."""
    yield "{\n"
    for key, value in shared.items():
        yield f"    {json.dumps(key)}: {_encode_value(value)},\n"
    yield f"    {json.dumps(groups_key)}: ["
    separator = "\n"
    for group in groups:
        yield f"{separator}        {json.dumps(group, ensure_ascii=False)}"
        separator = ",\n"
    yield "\n    ]\n}\n"


def _encode_value(value: Any) -> str:
    """Return `value` as JSON, on one line if it is short."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= 100:
        return short
    return json.dumps(value, indent=4, ensure_ascii=False).replace("\n", "\n    ")
