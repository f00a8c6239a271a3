"""Reading, checking, and writing the small files that people edit, with errors that name the file and the place."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError, merge_input_errors
from distributed_something.core.text import format_value

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails, PydanticCustomError


MAX_JSON_LEVELS = 50  # nesting depth; deeper than any user's file, and shallow enough for Python's recursion limit
_VALUE_ERROR_TYPE = "unfit_value"
# What is wrong and what to write, for pydantic's own checks, filled in from the error's context.
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


def read_text_file(path: Path, what: str) -> str:
    """The text of `path`; raises InputError where it is no readable UTF-8 file. `what`: «a job file», …"""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "", "there is no such file", f"give the path of {what}") from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "this is not UTF-8 text", "save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, "", f"it cannot be read ({reason})", f"give the path of {what}") from None


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in `path`; raises InputError for anything else, keys written twice included."""
    value = parse_json(read_text_file(path, what), path)
    if not isinstance(value, dict):
        raise InputError(path, "", f"it holds a {type(value).__name__}", "write one JSON object: { … }")
    return value


def parse_json(text: str, path: Path | str) -> Any:
    """`text` as strict JSON (no NaN, no key twice, no half characters); raises InputError with line and column."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
        if twice is not None:
            raise InputError(path, repr(twice), "this key stands there twice", "keep one of them")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise InputError(path, name, "this is no JSON value", "use a number, a text or null")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else constant(digits)

    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=constant, parse_float=finite)
        _check_json_usable(value, text)
        return value
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(path, where, f"this is not JSON ({error.msg})", "correct it there or just before") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise InputError(path, half, "this is half of a character", "write both halves, or the character") from None
    except (RecursionError, ValueError) as error:
        raise InputError(path, "", f"this JSON is too deep or too large ({error})", "make it simpler") from None


def _check_json_usable(value: object, text: str) -> None:
    """Raises ValueError for what is JSON but cannot be sent on."""
    level = [value]
    for _ in range(MAX_JSON_LEVELS):
        insides = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [inner for inside in insides for inner in inside]
        if not level:
            break
    else:
        raise ValueError(f"more than {MAX_JSON_LEVELS} levels")
    if "\\u" in text:  # only an escape can write half of a character, as "\ud83d" without the other half
        json.dumps(value, ensure_ascii=False).encode()


def build_value_error(remedy: str, problem: str = "does not fit") -> PydanticCustomError:
    """Return what a validator raises about a value: «VALUE `problem`; `remedy`»."""
    from pydantic_core import PydanticCustomError  # not in the auto-monitor's Lambda

    return PydanticCustomError(_VALUE_ERROR_TYPE, "{problem}; {remedy}", {"problem": problem, "remedy": remedy})


def explain_validation_error(path: Path | str, error: ValidationError) -> InputError:
    """Return all problems that pydantic found, as one InputError."""
    return merge_input_errors(_explain_error_details(path, details) for details in error.errors(include_url=False))


def _explain_error_details(path: Path | str, details: ErrorDetails) -> InputError:
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
    return InputError(path, key, f"{format_value(details['input'])} {problem}", remedy)


def write_json_atomically(path: Path, value: object) -> None:
    """Writes `value` as JSON so that a reader sees the old file or the whole new one, never a part."""
    write_file_atomically(path, f"{json.dumps(value, indent=2)}\n".encode())


def write_file_atomically(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, after a power cut too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(draft, 0o755 if executable else 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
