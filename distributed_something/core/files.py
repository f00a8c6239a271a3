"""Reading, checking, and writing the small files that people edit, with errors that name the file and the place."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError
from distributed_something.core.text import format_value

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import PydanticCustomError


MAX_JSON_LEVELS = 50  # levels of JSON inside JSON; no file of a user needs so many, and Python can follow them all
_VALUE_ERROR_TYPE = "unfit_value"
_REMEDIES_BY_ERROR_TYPE = {  # for pydantic's own checks, filled in from the error's context; for others its own words
    "greater_than": "input should be greater than {gt:.15g}",
    "greater_than_equal": "input should be greater than or equal to {ge:.15g}",
    "less_than": "input should be less than {lt:.15g}",
    "less_than_equal": "input should be less than or equal to {le:.15g}",
    "finite_number": "input should be a finite number",
    "int_type": "input should be a valid integer",
    "int_parsing": "input should be a valid integer, unable to parse string as an integer",
    "int_parsing_size": "unable to parse input string as an integer, exceeded maximum size",
    "int_from_float": "input should be a valid integer, got a number with a fractional part",
    "float_type": "input should be a valid number",
    "float_parsing": "input should be a valid number, unable to parse string as a number",
    "bool_type": "input should be a valid boolean",
    "string_type": "input should be a valid string",
    "string_too_short": "string should have at least {min_length} character",
    "list_type": "input should be a valid list",
    "too_short": "list should have at least {min_length} item after validation, not {actual_length}",
    "too_long": "list should have at most {max_length} items after validation, not {actual_length}",
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
    """What pydantic found, as one line about the first wrong key."""
    errors = error.errors(include_url=False)
    first, others = errors[0], len(errors) - 1
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    key = "".join(parts).lstrip(".") or "the file"
    if first["type"] == "missing":
        return InputError(path, key, "this key is missing", "add it", others=others)
    context = first.get("ctx", {})
    if first["type"] == _VALUE_ERROR_TYPE:
        problem, remedy = context["problem"], context["remedy"]
    else:
        template, words = _REMEDIES_BY_ERROR_TYPE.get(first["type"]), first["msg"]
        problem, remedy = "does not fit", template.format_map(context) if template else words[:1].lower() + words[1:]
    return InputError(path, key, f"{format_value(first['input'])} {problem}", remedy, others=others)


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
