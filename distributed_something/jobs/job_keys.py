"""The keys of a Job file: what the shipped worker accepts, and which unknown keys are probably misspelled.

All keys that the shipped worker does not know are the user's own. A misspelled key would therefore be ignored without
a word: `expected_file` checks nothing, and `timeout_minute` limits nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from distributed_something.core.errors import InputError
from distributed_something.core.files import build_value_error
from distributed_something.core.text import find_similar_name
from distributed_something.worker import (
    MAX_JOB_SECONDS,
    BadAddress,
    check_endpoint,
    list_placeholders,
    parse_upload_flags,
)

MAX_JOB_MINUTES = MAX_JOB_SECONDS / 60
GROUPS_KEYS = ("groups", "plates")
UPLOAD_KEY = "upload"
MAX_SCRIPT_BYTES = 1024 * 1024  # larger files in worker/scripts/ are programs or data, not scripts

NonEmptyText = Annotated[StrictStr, Field(min_length=1)]


def _validate_command(value: object) -> object:
    parts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if parts and all(isinstance(part, list) for part in parts):
        return [_validate_command(part) for part in parts]
    if not parts or not parts[0] or not all(type(part) in (str, int, float) for part in parts):
        raise build_value_error("write a string, or a list of strings and numbers", "is not a command")
    return value


def _validate_inputs(value: object) -> object:
    parts = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else [None]
    if not all(isinstance(part, str) and part for part in parts):
        remedy = 'write a list of strings, or an object such as {"plates/{plate}/": "images"}'
        raise build_value_error(remedy, "is not a list of inputs")
    return value


def _validate_upload_flags(value: object) -> object:
    try:
        return parse_upload_flags(value)
    except ValueError as error:
        raise build_value_error(str(error), "cannot be used") from None


class KnownJobKeys(BaseModel):
    """The keys that the shipped worker uses. All other keys are for the user's own code."""

    model_config = ConfigDict(extra="ignore")

    command: Annotated[str | list[Any] | None, BeforeValidator(_validate_command)] = None
    shell: StrictBool = False
    inputs: Annotated[Any, BeforeValidator(_validate_inputs)] = []
    shared_inputs: Annotated[Any, BeforeValidator(_validate_inputs)] = []
    input_bucket: NonEmptyText | None = None
    output_location: NonEmptyText | None = None
    output_bucket: NonEmptyText | None = None
    timeout_minutes: Annotated[float, Field(gt=0, le=MAX_JOB_MINUTES, strict=True)] | None = None
    expected_files: Annotated[StrictInt, Field(ge=0)] = 0
    keep_failed: StrictBool = False
    shared_location: StrictBool = False
    requester_pays: StrictBool = False
    input_endpoint: StrictStr | None = None
    output_endpoint: StrictStr | None = None
    leave_out: list[NonEmptyText] = []
    upload_flags: Annotated[object, BeforeValidator(_validate_upload_flags)] = None


@dataclass(frozen=True)
class OwnNames:
    """The names in a project's own worker.

    `strings`: the texts in its code and scripts; a key with such a name is used. `message_keys`: the keys that its code
    reads from a message.
    """

    strings: frozenset[str] = frozenset()
    message_keys: frozenset[str] = frozenset()


def collect_own_names(worker: Path) -> OwnNames:
    """Return the names in the folder `worker` of a project. Files that are missing or cannot be read are left out."""
    strings: set[str] = set()
    message_keys: set[str] = set()
    for path in (*sorted(worker.glob("*.py")), *sorted((worker / "scripts").rglob("*"))):
        text = _read_script(path)
        tree = _parse_python(text) if path.suffix == ".py" else None
        if tree is None:
            strings.update(re.findall(r"""["']([\w-]+)["']""", text))
            continue
        strings.update(_iter_used_strings(tree))
        message_keys.update(_iter_message_keys(tree))
    return OwnNames(frozenset(strings), frozenset(message_keys))


def iter_endpoint_errors(path: Path, shared: Mapping[str, Any], *, allow_unsafe: bool) -> Iterator[InputError]:
    """Yield an error for each address of an S3 server that is not valid, or that the config does not allow."""
    for key in ("input_endpoint", "output_endpoint"):
        try:
            if shared.get(key) and isinstance(shared[key], str):
                check_endpoint(shared[key], allow_unsafe=allow_unsafe)
        except BadAddress as error:  # the value may contain a password, which must not be shown
            yield InputError(path, key, error.problem, error.remedy)


def find_misspelled_keys(content: Mapping[str, Any], shared: Mapping[str, Any], own_names: OwnNames) -> dict[str, str]:
    """Return the similar known key for each shared key that nothing uses and whose name is similar to one.

    A key is used if a placeholder has its name, or if the name occurs in the project's own worker. `content`: the whole
    file. `shared`: its shared keys. The keys of groups are not checked: they are names for values, such as columns.
    """
    known = {*KnownJobKeys.model_fields, UPLOAD_KEY, *own_names.message_keys}
    if not any(key in content for key in GROUPS_KEYS):
        known.update(GROUPS_KEYS)
    used = own_names.strings.union(*(list_placeholders(text) for text in iter_texts(dict(shared))))
    similar = {}
    for key in shared:
        if key not in used and key not in GROUPS_KEYS and (name := find_similar_name(key, known)):
            similar[key] = name
    return similar


def build_misspelling_error(path: Path, key: str, similar: str) -> InputError:
    """Return the error for a misspelled key."""
    problem = f"nothing uses this key, whose name is similar to {similar!r}"
    remedy = f"write {similar!r}; if this is a key of your own, rename it, or use it as {{{key}}}"
    return InputError(path, key, problem, remedy)


def correct_keys(shared: Mapping[str, Any], misspelled: Mapping[str, str]) -> dict[str, Any]:
    """Return the shared keys with the right names, so that the jobs can be checked for other problems."""
    corrected = {name: shared[key] for key, name in misspelled.items() if name not in (*GROUPS_KEYS, UPLOAD_KEY)}
    return corrected | {key: value for key, value in shared.items() if key not in misspelled}


def iter_texts(value: object) -> Iterator[str]:
    """Yield every string in `value`, at any depth of lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value if isinstance(value, list) else [*value, *value.values()]:
            yield from iter_texts(part)


def _read_script(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_SCRIPT_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _parse_python(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _iter_used_strings(tree: ast.AST) -> Iterator[str]:
    """Yield all strings in the code except docstrings, which use nothing."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def _iter_message_keys(tree: ast.AST) -> Iterator[str]:
    """Yield the keys in `message["key"]`, `message.get("key")`, and calls such as `read_text(message, "key")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _is_message(node.value):
            arguments = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_message(node.func.value):
            arguments = node.args[:1]
        elif isinstance(node, ast.Call) and any(map(_is_message, node.args)):
            arguments = node.args
        else:
            continue
        for argument in arguments:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def _is_message(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "message"
