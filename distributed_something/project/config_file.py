"""Reads a config file: executes it, checks its constants, and explains what is wrong with it."""

from __future__ import annotations

import ast
import json
import re
import runpy
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distributed_something.core.config_settings import Settings, split_queue_arn
from distributed_something.core.errors import InputError, InputProblems, merge_input_errors
from distributed_something.core.files import explain_validation_error, read_text_file
from distributed_something.core.text import find_similar_name, format_one_line, format_value

_RESERVED_NAME_PATTERN = re.compile(
    r"(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN)|(LD|DYLD|PYTHON)_?\w*|PATH|HOME|RUN"
    r"|SQS_QUEUE_URL|SQS_DEAD_LETTER_QUEUE_URL|DOCKER_IMAGE|STOP_SECONDS|WORK_DIR|WORKER_SCRIPTS_DIR|INSTANCE_ID"
    r"|ENDPOINT_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)"
    r"|ONE_JOB_FOLDER|CHECK_MESSAGES_FOLDER|JOURNAL_SECONDS|SICK_PAUSE_SECONDS)"
)
# A task definition has at most 64 KiB, as the JSON of the request to ECS. 8 KiB remain for the queues' URLs, the log
# configuration, and tags: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html
MAX_CONSTANTS_BYTES = (64 - 8) * 1024


def load_settings(path: Path) -> Settings:
    """Return the settings in the config file `path`. Raise InputError with all problems if the file is not valid."""
    constants = {name: value for name, value in execute_config(path).items() if is_constant_name(name)}
    known = {name: value for name, value in constants.items() if name in Settings.model_fields}
    problems, own = InputProblems(), {}
    for name, value in constants.items():
        if name not in known:
            with problems.collect():
                own[name] = _encode_environment_value(path, name, value)
    settings = None
    with problems.collect():
        settings = _validate(path, known, own)
    if settings is None or problems.has_any:
        sources = _read_sources(_parse_config(read_text_file(path, "a config file")))
        raise merge_input_errors(_drop_consequences(problems.list_problems(), sources))
    _check_constants_size(path, settings)
    return settings


def _check_constants_size(path: Path, settings: Settings) -> None:
    """Raise InputError with the largest constants if a task definition cannot hold all of them."""
    environment = settings.build_worker_environment()
    sizes = {name: len(json.dumps({"name": name, "value": value})) + 2 for name, value in environment.items()}
    problems, total = InputProblems(), sum(sizes.values())
    limit = f"a task definition holds {MAX_CONSTANTS_BYTES:,} for all constants, which have {total:,} together"
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if total <= MAX_CONSTANTS_BYTES:
            break
        total -= sizes[name]
        problem = f"it has {sizes[name]:,} bytes, but {limit}"
        remedy = "put the text into a file in the bucket or the image, and the path of the file into the constant"
        problems.add(InputError(path, name, problem, remedy))
    problems.raise_if_any()


def _validate(path: Path, known: dict[str, Any], own: dict[str, str]) -> Settings:
    """Return the settings. Raise InputError with all problems of the known constants."""
    try:
        return Settings(**known, own=own, dead_letter_account=split_queue_arn(known.get("SQS_DEAD_LETTER_QUEUE"))[1])
    except ValidationError as error:
        missing = [str(details["loc"][0]) for details in error.errors() if details["type"] == "missing"]
        similar = {name: constant for name in own if (constant := find_similar_name(name, missing))}
        problems = [
            InputError(path, name, f"the constant {constant} is missing, whose name is similar", f"write {constant}")
            for name, constant in similar.items()
        ]
        explained = explain_validation_error(path, error, is_json=False).problems
        problems += [problem for problem in explained if problem.key not in similar.values()]
        raise merge_input_errors(problems) from None


def _parse_config(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's warnings, such as the one about '\d', would only confuse the user
        return ast.parse(text)


def _read_sources(tree: ast.Module) -> dict[str, set[str]]:
    """Return the names that each name in a config is computed from, such as CPU_SHARES from DOCKER_CORES."""
    sources: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in _list_names(*targets):
                sources.setdefault(name, set()).update(_list_names(node.value))
    return sources


def _list_names(*nodes: ast.AST) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _find_all_sources(names: set[str], sources: Mapping[str, set[str]]) -> set[str]:
    """Return all names that the values of `names` depend on, directly or through others."""
    found, unvisited = set[str](), list(names)
    while unvisited:
        new = sources.get(unvisited.pop(), set()) - found
        found |= new
        unvisited += new
    return found


def find_computed_names(text: str, names: Collection[str]) -> dict[str, str]:
    """Return the names in a config that are computed from some of `names`, each with one of these."""
    sources = _read_sources(_parse_config(text))
    used = {name: sorted(_find_all_sources({name}, sources) & set(names)) for name in sources if name not in names}
    return {name: origins[0] for name, origins in used.items() if origins}


def _drop_consequences(problems: Sequence[InputError], sources: Mapping[str, set[str]]) -> list[InputError]:
    """Leave out the problems of values that are computed from a constant that has a problem itself.

    Such a value is probably right once the constant is corrected. `sources`: as `_read_sources` returns them.
    """
    mistaken = {problem.key for problem in problems}
    origins = {key: _find_all_sources({key}, sources) for key in mistaken}
    return [
        problem
        for problem in problems
        # Of constants that depend on each other, each may be the mistake.
        if all(problem.key in origins[origin] for origin in mistaken & origins[problem.key])
    ]


def is_constant_name(name: str) -> bool:
    """Return whether a name in a config is a setting, or a constant of the user's own, which the program gets."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", name) is not None


def is_reserved_name(name: str) -> bool:
    """Return whether a constant of the user's own cannot have this name."""
    return _RESERVED_NAME_PATTERN.fullmatch(name) is not None


def execute_config(path: Path) -> dict[str, Any]:
    """Execute a config file and return its names. Raise InputError if that fails."""
    text = read_text_file(path, "a config file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `_parse_config`
            return runpy.run_path(str(path))
    except SyntaxError as error:
        raise _explain_syntax_error(path, error) from None
    except (Exception, SystemExit) as error:  # the config is the user's program, so any exception means invalid input
        number, values = _find_failed_line(path, error)
        if number:
            _check_used_constants(path, _parse_config(text), number, values)
        remedy = "write text in quotes, or correct the name" if isinstance(error, NameError) else "correct this line"
        line = f"line {number}" if number else ""
        raise InputError(path, line, format_one_line(f"{type(error).__name__}: {error}"), remedy) from None


def _check_used_constants(path: Path, tree: ast.Module, number: int, values: Mapping[str, Any]) -> None:
    """Raise InputError if the line with this number failed because a constant that it uses has an invalid value.

    `values`: of the names that the config had set by then.
    """
    used = _list_names(*(node for node in tree.body if node.lineno <= number <= (node.end_lineno or node.lineno)))
    sources = _read_sources(tree)
    known = {name: value for name, value in values.items() if is_constant_name(name) and name in Settings.model_fields}
    try:
        _validate(path, known, {})
    except InputError as error:
        problems = [problem for problem in error.problems if problem.key in known]  # others may be set further below
        if {problem.key for problem in problems} & (used | _find_all_sources(used, sources)):
            raise merge_input_errors(_drop_consequences(problems, sources)) from None


def _explain_syntax_error(path: Path, error: SyntaxError) -> InputError:
    """Return an error for the file with the mistake: the config, or one that it imports."""
    config_line, _ = _find_failed_line(path, error)
    file = Path(error.filename or path)
    if config_line and not (error.filename and file.is_file()):  # such as the code of `eval`
        problem, remedy = f"SyntaxError: {error.msg}", "correct this line or what it uses"
        return InputError(path, f"line {config_line}", problem, remedy)
    remedy = "correct this line or the one before it"
    # For 0,05, Python's message is about octal numbers.
    if "leading zeros" in error.msg or "invalid decimal literal" in error.msg:
        remedy = "write numbers with a dot and without leading zeros or units, such as 0.05, and text in quotes"
    elif not error.lineno:  # null bytes, or a coding that Python does not know
        remedy = "save it as plain text in UTF-8"
    if config_line:
        remedy += f"; {path.name} uses this file in line {config_line}"
    line = f"line {error.lineno}" if error.lineno else ""
    return InputError(file, line, f"this is not valid Python ({error.msg})", remedy)


def _find_failed_line(path: Path, error: BaseException) -> tuple[int, Mapping[str, Any]]:
    """Return the last line of the config that was executed, and the names that it could use; 0 if none was."""
    trace, number, values = error.__traceback__, 0, {}
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            number, values = trace.tb_lineno, trace.tb_frame.f_globals
        trace = trace.tb_next
    return number, values


def _encode_environment_value(path: Path, name: str, value: object) -> str:
    """Return a user-defined constant as text: strings unchanged, numbers and booleans as in Python, others as JSON.

    Raise InputError if the name is reserved or the value cannot become text.
    """
    if is_reserved_name(name):
        problem = "this name is reserved, or its value is a secret that must not be sent"
        raise InputError(path, name, problem, "choose another name, or remove it")
    try:
        text = str(value) if isinstance(value, (str, bool, int, float)) else json.dumps(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        problem = f"a value of type {type(value).__name__} cannot be passed to the container"
        if isinstance(value, str):
            problem = f"{format_value(value)} is not valid Unicode text"
        raise InputError(path, name, problem, "use a string or a number") from None
    if "\0" in text:
        raise InputError(path, name, "a null byte cannot be passed to the container", "remove it")
    return text
