"""The shared keys of a Job file that `makeJobs` writes: those of the file in `--like`, and those that `--set` sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import read_json_object
from distributed_something.core.text import find_similar_name, format_value
from distributed_something.jobs.job_keys import GROUPS_KEYS, UPLOAD_KEY, KnownJobKeys, iter_texts
from distributed_something.worker import list_placeholders


def build_shared_keys(like: Path | None, settings: Iterable[str], output: Path | None) -> dict[str, Any]:
    """Return the shared keys. Raise InputError with all problems.

    `like`: a Job file to copy; its `upload` paths become relative to `output`. `settings`: texts such as `KEY=VALUE`.
    """
    problems = InputProblems()
    content: dict[str, Any] = {}
    with problems.collect():
        content = read_json_object(like, "a job file") if like else {}
    shared = {key: value for key, value in content.items() if key not in GROUPS_KEYS}
    uploads = shared.get(UPLOAD_KEY)
    if like and output and isinstance(uploads, dict):
        shared[UPLOAD_KEY] = {_rebase_folder(folder, like, output): prefix for folder, prefix in uploads.items()}
    values = {}
    with problems.collect():
        values = _parse_settings(settings)
    for error in _iter_key_errors(values, shared):
        problems.add(error)
    problems.raise_if_any()
    return shared | values


def _parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    problems, values = InputProblems(), dict[str, Any]()
    for text in settings:
        key, equals, value = text.partition("=")
        if not key or not equals:
            problems.add(InputError("--set", "", f"{format_value(text)} does not set a key", "write KEY=VALUE"))
        elif key in values:
            problems.add(InputError("--set", key, "this key is set twice", "set it once"))
        values[key] = _parse_value(value)
    problems.raise_if_any()
    return values


def _iter_key_errors(values: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[InputError]:
    """Yield an error for each key that `--set` cannot set, or that is probably misspelled.

    `shared`: the keys of the copied Job file. Keys of the user's own are allowed, and may be empty if no placeholder
    uses them.
    """
    texts = iter_texts({**shared, **values})
    placeholders = frozenset[str]().union(*(list_placeholders(text) for text in texts))
    known = {*KnownJobKeys.model_fields, UPLOAD_KEY, *shared, *placeholders}
    for key, value in values.items():
        if key in GROUPS_KEYS:
            remedy = "use --plates, --wells, --sites, --table, --files, or --objects"
            yield InputError("--set", key, "this key lists the jobs, which makeJobs writes", remedy)
        elif similar := find_similar_name(key, known):
            problem = f"nothing uses this key, whose name is similar to {similar!r}"
            yield InputError("--set", key, problem, f"write {similar!r}, or rename your own key")
        elif value == "" and key in placeholders:
            yield InputError("--set", key, f"it is empty, but {{{key}}} needs a value", f"write {key}=VALUE")


def _parse_value(text: str) -> Any:
    """Return the parsed value if `text` is a JSON number, Boolean, list, or object, and `text` itself otherwise."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rebase_folder(folder: str, like: Path, output: Path) -> str:
    """Return the path of an upload folder relative to the new file."""
    if os.path.isabs(folder) or like.parent.resolve() == output.parent.resolve():
        return folder
    return Path(os.path.relpath(like.parent.resolve() / folder, output.parent.resolve())).as_posix()
