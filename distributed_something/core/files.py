"""Reads, checks, and writes the small files that people edit. Errors name the file and the line or key."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed_something.core.errors import MAX_PROBLEMS_SHOWN, InputError, merge_input_errors
from distributed_something.core.text import format_json, format_value

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails, PydanticCustomError


COMMENT_MARK = "_comment"  # keys with this text in their names are notes for people
_JSON_TYPE_NAMES = {list: "list", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
_KEYS_BY_FILE_KIND = {  # keys that only this kind of file has
    "Job file": {"groups", "plates"},
    "Fleet file": {"LaunchSpecifications", "LaunchTemplateConfigs", "IamFleetRole"},
    "monitor file": {"MONITOR_FLEET_ID", "MONITOR_APP_NAME", "MONITOR_QUEUE_NAME"},
}
_EXAMPLES_BY_FILE_KIND = {
    "Job file": "files/exampleJob.json",
    "Fleet file": "files/APP_NAMEFleet.json, which fleetFile writes",
    "monitor file": "files/APP_NAMESpotFleetRequestId.json, which startCluster writes",
}
_STRAY_WORDS = {"True": "true", "False": "false", "None": "null"}
_JSON_EXPLANATIONS_BY_MESSAGE = {  # the keys are the beginnings of Python's messages
    "Expecting ',' delimiter": ("missing comma or closing bracket before this", "add it"),
    "Expecting ':' delimiter": ("missing colon after a key", 'write "key": value'),
    "Unterminated string": ("this string has no closing quote", "add one"),
    "Invalid control character": ("line break or tab inside a string", "write \\n or \\t"),
    "Invalid \\escape": ("single backslash inside a string", "write two: \\\\"),
    "Extra data": ("text after the end of the JSON value", "remove it"),
    "Expecting property name": ("missing key in double quotes", 'write "key": value'),
}
MAX_SEARCHED_BYTES = 10_000_000  # of a file that is read only to find out its kind; reading it takes 0.1 s
MAX_JSON_LEVELS = 50  # nesting depth; deeper than any user's file, and shallow enough for Python's recursion limit
_VALUE_ERROR_TYPE = "unfit_value"
# For pydantic's own checks: what is wrong, and what to write. The error's context fills in the placeholders.
_MESSAGES_BY_ERROR_TYPE = {
    "greater_than": ("is too small", "write a number greater than {gt:.15g}"),
    "greater_than_equal": ("is too small", "write a number that is at least {ge:.15g}"),
    "less_than": ("is too large", "write a number less than {lt:.15g}"),
    "less_than_equal": ("is too large", "write a number that is at most {le:.15g}"),
    "finite_number": ("is not a finite number", "write an ordinary number, such as 1.5"),
    "int_type": ("is not a whole number", "write a whole number, such as 4"),
    "int_parsing": ("is not a whole number", "write a whole number, such as 4"),
    "int_parsing_size": ("is too large", "write a smaller number"),
    "int_from_float": ("is not a whole number", "write a whole number, such as 4"),
    "float_type": ("is not a number", "write a number with a decimal point, such as 0.10"),
    "float_parsing": ("is not a number", "write a number with a decimal point, such as 0.10"),
    "bool_type": ("is not true or false", "write true or false, without quotes"),
    "string_type": ("is not a string", "write it in quotes"),
    "string_too_short": ("is too short", "write at least {min_length} character(s)"),
    "list_type": ("is not a list", "write a list: […]"),
    "too_short": ("is too short", "list at least {min_length}"),
    "too_long": ("is too long ({actual_length} items)", "list at most {max_length}"),
}


def read_text_file(path: Path, description: str) -> str:
    """Return the text in `path`. Raise InputError if it cannot be read as UTF-8.

    `description`: what the file should be, such as "a Job file".
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "", "there is no such file", f"give the path of {description}") from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "this is not UTF-8 text", "save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, "", f"it cannot be read ({reason})", f"give the path of {description}") from None


def read_json_object(path: Path, description: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raise InputError for anything else, including duplicate keys."""
    value = parse_json(read_text_file(path, description), path)
    if not isinstance(value, dict):
        problem = f"it contains a JSON {_JSON_TYPE_NAMES[type(value)]}, not an object"
        raise InputError(path, "", problem, "write one JSON object: { … }")
    return value


def check_file_kind(path: Path | str, content: Mapping[str, Any], expected: str) -> None:
    """Raise InputError if this is a different kind of file. `expected`: a key of _KEYS_BY_FILE_KIND."""
    if not _KEYS_BY_FILE_KIND[expected].isdisjoint(content):
        return
    for kind, keys in _KEYS_BY_FILE_KIND.items():
        if not keys.isdisjoint(content):
            problem = f"this is a {kind}, not a {expected}"
            raise InputError(path, "", problem, f"give the {expected}, such as {_EXAMPLES_BY_FILE_KIND[expected]}")


def find_file_kind(content: Mapping[str, Any]) -> str | None:
    """Return which kind of file has these keys: "Job file", "Fleet file", or "monitor file"; None if no kind has."""
    return next((kind for kind, keys in _KEYS_BY_FILE_KIND.items() if not keys.isdisjoint(content)), None)


def list_files_of_kind(folder: Path, kind: str) -> list[Path]:
    """Return the JSON files in `folder` that are of this kind, sorted. Large files and invalid ones are left out."""
    paths = []
    for path in sorted(folder.glob("*.json")):
        with suppress(InputError, OSError):
            if path.stat().st_size <= MAX_SEARCHED_BYTES and find_file_kind(read_json_object(path, kind)) == kind:
                paths.append(path)
    return paths


def drop_comments(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without the keys that contain `_comment`."""
    return {key: inner for key, inner in value.items() if COMMENT_MARK not in key}


def parse_json(text: str, path: Path | str) -> Any:
    """Return `text` parsed as strict JSON: no NaN, no duplicate keys, no unpaired surrogates.

    Comments, which are keys that contain `_comment`, may occur several times, and their content may have duplicate
    keys. Raise InputError if `text` is not valid; syntax errors are reported with their line and column.
    """
    ambiguous: dict[int, str] = {}  # keyed by the identity of an object: one of its duplicate keys

    def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs if COMMENT_MARK not in key]
            ambiguous.update((id(value), key) for key in keys if keys.count(key) > 1)
        return value

    def reject_constant(name: str) -> Any:
        raise InputError(path, name, "this is not a JSON value", "use a number, a string, or null")

    def parse_number(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else reject_constant(digits)

    try:
        value = json.loads(
            text, object_pairs_hook=build_object, parse_constant=reject_constant, parse_float=parse_number
        )
        _check_json_usable(value, text)
    except json.JSONDecodeError as error:
        raise _explain_json_error(path, text, error) from None
    except UnicodeEncodeError as error:
        surrogate = ascii(error.object[error.start])
        problem = "this is one half of a surrogate pair, not a character"
        raise InputError(path, surrogate, problem, "write the character itself") from None
    except (RecursionError, ValueError) as error:
        raise InputError(path, "", f"this JSON is nested too deeply or too large ({error})", "simplify it") from None
    for node in _iter_objects(value) if ambiguous else ():
        if id(node) in ambiguous:
            raise InputError(path, repr(ambiguous[id(node)]), "duplicate key", "keep one of them")
    return value


def _iter_objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object inside a JSON value, except those in comments."""
    if isinstance(value, dict):
        yield value
        value = list(drop_comments(value).values())
    for inner in value if isinstance(value, list) else ():
        yield from _iter_objects(inner)


def _check_json_usable(value: object, text: str) -> None:
    """Raise ValueError if `value`, parsed from `text`, is valid JSON but cannot be sent in a message."""
    level = [value]
    for _ in range(MAX_JSON_LEVELS):
        containers = [
            node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)
        ]
        level = [child for container in containers for child in container]
        if not level:
            break
    else:
        raise ValueError(f"more than {MAX_JSON_LEVELS} levels")
    if "\\u" in text:  # only an escape such as "\ud83d" can produce an unpaired surrogate
        json.dumps(value, ensure_ascii=False).encode()


class _JsonMistake(NamedTuple):
    """`end`: where the text ends that must be removed; None if removing it is not enough."""

    position: int
    problem: str
    remedy: str
    end: int | None = None


def _explain_json_error(path: Path | str, text: str, error: json.JSONDecodeError) -> InputError:
    """Return an error that names the mistakes in `text`: all trailing commas and comments, up to any other mistake.

    Python's parser reports where it gave up, which is often after the mistake, and what it expected there. Common
    mistakes are recognized from the characters around that position. To find the next one, the parser gets the text
    without those that were found.
    """
    errors: list[InputError] = []
    next_error: json.JSONDecodeError | None = error
    while next_error is not None and len(errors) <= MAX_PROBLEMS_SHOWN:
        mistake = _find_json_mistake(text, next_error)
        line = text.count("\n", 0, mistake.position) + 1
        column = mistake.position - text.rfind("\n", 0, mistake.position)
        errors.append(InputError(path, f"line {line}, column {column}", mistake.problem, mistake.remedy))
        if mistake.end is None:
            break
        removed = re.sub(r"[^\n]", " ", text[mistake.position : mistake.end])
        text = text[: mistake.position] + removed + text[mistake.end :]
        next_error = _find_syntax_error(text)
    return merge_input_errors(errors)


def _find_syntax_error(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error if text.strip() else None
    except (RecursionError, ValueError):
        return None
    return None


def _find_comment_end(text: str, position: int) -> int:
    mark = "*/" if text.startswith("/*", position) else "\n"
    end = text.find(mark, position)
    return len(text) if end < 0 else end + len(mark)


def _find_json_mistake(text: str, error: json.JSONDecodeError) -> _JsonMistake:
    position = error.pos
    if not text.strip():
        return _JsonMistake(0, "the file is empty", "write one JSON object: { … }")
    comma = _find_trailing_comma(text, position)
    if comma is not None:
        bracket = text[comma + 1 :].lstrip()[0]
        if text[:comma].rstrip().endswith(("[", "{", ":", ",")):
            return _JsonMistake(comma, "missing value before the comma", "add it, or remove the comma")
        return _JsonMistake(comma, f"trailing comma before {bracket}", "remove it", comma + 1)
    following = text[position:]
    if following.startswith(("#", "//", "/*")):
        end = _find_comment_end(text, position)
        return _JsonMistake(position, "JSON does not allow comments", 'remove it, or write "_comment": "…"', end)
    if following.startswith(("'", "\u2018", "\u2019", "\u201c", "\u201d")):
        return _JsonMistake(position, f"{following[0]} is not a JSON quote", 'use straight double quotes: "')
    for word, replacement in _STRAY_WORDS.items():
        if following.startswith(word):
            return _JsonMistake(position, f"{word} is Python, not JSON", f"write {replacement}")
    if not following.strip():
        return _JsonMistake(position, "the file ends too early", "add the missing closing ] or }")
    if following[0] == "," and not following[1:].strip():
        return _JsonMistake(position, "trailing comma at the end of the file", "remove it", position + 1)
    if following[0] == "," and error.msg.startswith("Expecting value"):
        return _JsonMistake(position, "missing value before the comma", "add it, or remove the comma")
    for message, (problem, remedy) in _JSON_EXPLANATIONS_BY_MESSAGE.items():
        if error.msg.startswith(message):
            return _JsonMistake(position, problem, remedy)
    problem = f"this is not valid JSON ({error.msg})"
    return _JsonMistake(position, problem, "correct it here or just before this; put text in double quotes")


def _find_trailing_comma(text: str, position: int) -> int | None:
    """Return the position of the trailing comma if one made the parser fail; otherwise, return None.

    Python 3.13 and newer stop at the comma, older versions at the bracket after it.
    """
    if text[position : position + 1] in ("]", "}"):
        before = text[:position].rstrip()
        return len(before) - 1 if before.endswith(",") else None
    if text[position : position + 1] == "," and text[position + 1 :].lstrip()[:1] in ("]", "}"):
        return position
    return None


def build_value_error(remedy: str, problem: str = "is not valid") -> PydanticCustomError:
    """Return the error that a validator raises for an invalid value; users see "VALUE `problem`; `remedy`"."""
    from pydantic_core import PydanticCustomError  # not available in the auto-monitor's Lambda function

    return PydanticCustomError(_VALUE_ERROR_TYPE, "{problem}; {remedy}", {"problem": problem, "remedy": remedy})


def explain_validation_error(path: Path | str, error: ValidationError, *, is_json: bool) -> InputError:
    """Return all problems that pydantic found, as one InputError. `is_json`: whether the file is JSON or Python."""
    all_details = error.errors(include_url=False)
    # Pydantic does not compute a default that depends on an invalid field; that is not a separate problem.
    return merge_input_errors(
        _explain_error_details(path, details, format_json if is_json else format_value)
        for details in all_details
        if details["type"] != "default_factory_not_called"
    )


def _explain_error_details(
    path: Path | str, details: ErrorDetails, format_input: Callable[[object], str]
) -> InputError:
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in details["loc"])
    key = "".join(parts).lstrip(".") or "the file"
    if details["type"] == "missing":
        return InputError(path, key, "this key is missing", "add it")
    context = details.get("ctx", {})
    if details["type"] == _VALUE_ERROR_TYPE:
        problem, remedy = context["problem"], context["remedy"]
    elif details["type"] in _MESSAGES_BY_ERROR_TYPE:
        problem, remedy = (text.format_map(context) for text in _MESSAGES_BY_ERROR_TYPE[details["type"]])
    else:
        message = details["msg"]
        problem, remedy = "is not valid", message[:1].lower() + message[1:]
    return InputError(path, key, f"{format_input(details['input'])} {problem}", remedy)


def write_json_atomically(path: Path, value: object) -> None:
    """Write `value` as JSON; a reader sees either the old file or the complete new one."""
    write_file_atomically(path, f"{json.dumps(value, indent=2)}\n".encode())


def write_file_atomically(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Write a file; a reader sees either the old file or the complete new one, even after a power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(draft, 0o755 if executable else 0o644)
        os.replace(draft, path)
    except BaseException:  # also Ctrl-C: no draft remains
        Path(draft).unlink(missing_ok=True)
        raise
