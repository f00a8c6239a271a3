"""Converts the config of a published implementation: values stay, and constants that nothing uses anymore are left out.

The text is kept with its comments and computed values. Only whole statements are replaced.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError
from distributed_something.core.files import read_text_file
from distributed_something.project.config_file import (
    execute_config,
    find_computed_names,
    is_constant_name,
    is_reserved_name,
)
from distributed_something.worker import has_secret, has_secret_in_prose

_PLUGINS_REMEDY = "add the plugins at a fixed commit, and install what they need, in worker/Dockerfile"
# What replaces constants of the published implementations that have no effect here.
REPLACEMENTS = {
    "UPDATE_PLUGINS": _PLUGINS_REMEDY,
    "PLUGINS_COMMIT": _PLUGINS_REMEDY,
    "INSTALL_REQUIREMENTS": _PLUGINS_REMEDY,
    "REQUIREMENTS": _PLUGINS_REMEDY,
    "REQUIREMENTS_FILE": _PLUGINS_REMEDY,
}
_LOGIN_REMEDY = "set AWS_PROFILE, or log in with the AWS CLI; secrets must not be in a config"
# Everyone who may read the repository or a task definition would see it.
_SECRET_REMEDY = "it is or looks like a secret; keep it in a file in a private bucket, which `inputs` lists"
_SECRET_COMMENT = "a comment that contains a secret"
_RESERVED_REMEDY = "use another name, because the worker sets this variable itself"
_DATA_TYPES = (str, bytes, int, float, dict, list, tuple, set, frozenset)
_OFF_VALUES = ("", "false", "none", "0")


@dataclass(frozen=True)
class OldConfig:
    """A config that was read but not converted yet.

    `values`: its constants. `secrets`: why names of any case must not be in the project's repository.
    """

    path: Path
    text: str
    values: Mapping[str, Any]
    secrets: Mapping[str, str]

    @property
    def app_name(self) -> str | None:
        name = self.values.get("APP_NAME")
        return name if isinstance(name, str) else None


@dataclass(frozen=True)
class ConvertedConfig:
    """The text of a converted config, and what became of its constants.

    `left_out`: the constants that are no longer in it, with what replaces them; "" if they were switched off. `own`:
    constants that nothing here knows, which the program gets as environment variables. `kept`: how many others there
    are.
    """

    text: str
    left_out: dict[str, str]
    own: list[str]
    kept: int


def read_old_config(path: Path) -> OldConfig:
    """Return the config at `path`, which is executed. Raise InputError if that fails."""
    text = read_text_file(path, "a config file")
    names = {name: value for name, value in execute_config(path).items() if not name.startswith("__")}
    data = {name: value for name, value in names.items() if isinstance(value, _DATA_TYPES)}  # no modules and functions
    secrets = {name for name, value in data.items() if has_secret(value, name)}
    reasons = dict.fromkeys(sorted(secrets), _SECRET_REMEDY)
    for name, source in find_computed_names(text, secrets).items():
        reasons[name] = f"it is computed from {source}, which is or looks like a secret"
    return OldConfig(path, text, {name: value for name, value in names.items() if is_constant_name(name)}, reasons)


def convert_config(config: OldConfig, new_values: Mapping[str, str], known: Collection[str]) -> ConvertedConfig:
    """Return the config with `new_values`, and without secrets and constants that nothing uses anymore.

    `known`: the names that the project's worker uses. Raise InputError if a constant cannot be replaced.
    """
    left_out = {name: reason for name, reason in config.secrets.items() if name not in new_values}
    left_out |= {name: _find_replacement(name, value) for name, value in config.values.items() if _is_obsolete(name)}
    lines, commented = _remove_secret_comments(config.text)
    replaced = set(left_out) | {name for name, value in new_values.items() if config.values.get(name) != value}
    statements = list(_iter_statements(config, replaced))
    for name in left_out:
        if name not in dict(statements):
            remedy = f"write `{name} = …` on its own line, or remove it"
            raise InputError(config.path, name, "it must be left out, but no line sets it by its name", remedy)
    _check_other_statements(config, [statement for _, statement in statements])
    for name, statement in reversed(statements):
        last = _last_line(statement)
        if name in new_values:
            comment = lines[last - 1].encode()[statement.end_col_offset :].decode()
            text = f"{name} = {new_values[name]!r}{comment}"
        else:
            text = _build_comment(config, name, left_out[name])
        lines[statement.lineno - 1 : last] = [text]
    lines += [f"{name} = {value!r}" for name, value in new_values.items() if name not in config.values]
    own = [name for name in config.values if name not in {*left_out, *Settings.model_fields, *known}]
    kept = len(config.values) - len(own) - sum(name in config.values for name in left_out)
    left_out |= dict.fromkeys(commented, _SECRET_COMMENT)
    return ConvertedConfig("\n".join(lines) + "\n", left_out, own, kept)


def _build_comment(config: OldConfig, name: str, reason: str) -> str:
    """Return the comment that takes the place of a constant. It has the value only if that may still be needed."""
    if not reason or name not in REPLACEMENTS:
        return f"# {name} is left out{reason and f': {reason}'}"
    return f"# {name} = {config.values[name]!r} is left out. Instead: {reason}"


def _remove_secret_comments(text: str) -> tuple[list[str], list[str]]:
    """Return the config's lines with other comments in the place of those that contain secrets, and their places."""
    # Python's lines end only here; those of `splitlines` end at form feeds, too.
    lines, places = re.split(r"\r\n|\r|\n", text.rstrip("\r\n")), []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and has_secret_in_prose(token.string.lstrip("# ")):
            number, column = token.start
            lines[number - 1] = f"{lines[number - 1][:column]}# {_SECRET_COMMENT} is left out"
            places.append(f"config.py, line {number}")
    return lines, places


def _check_other_statements(config: OldConfig, replaced: Collection[ast.stmt]) -> None:
    """Raise InputError if a statement that is not replaced contains a secret."""
    replaced_lines = {(statement.lineno, statement.end_lineno) for statement in replaced}
    for statement in ast.parse(config.text).body:
        if (statement.lineno, statement.end_lineno) in replaced_lines:
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and has_secret_in_prose(node.value):
                raise InputError(
                    config.path, f"line {node.lineno}", "it contains a secret", "remove it from the config"
                )


def _is_obsolete(name: str) -> bool:
    return name in REPLACEMENTS or is_reserved_name(name)


def _find_replacement(name: str, value: object) -> str:
    if name not in REPLACEMENTS:
        return _LOGIN_REMEDY if name.startswith("AWS_") else _RESERVED_REMEDY
    return "" if is_off(value) else REPLACEMENTS[name]


def is_off(value: object) -> bool:
    """Return whether a published switch with this value, or a value that it names, is off."""
    return str(value).strip().lower() in _OFF_VALUES


def _iter_statements(config: OldConfig, names: Collection[str]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each statement that sets one of the constants. Raise InputError if it does more than that."""
    statements = ast.parse(config.text).body
    for statement in statements:
        found = sorted(set(_iter_targets(statement)) & set(names))
        if not found:
            continue
        is_alone = all(
            other is statement or other.lineno > _last_line(statement) or _last_line(other) < statement.lineno
            for other in statements
        )
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or len(list(_iter_targets(statement))) != 1:
            is_alone = False
        if not is_alone:
            problem = f"{found[0]} must be replaced, but its line also does something else"
            raise InputError(
                config.path, f"line {statement.lineno}", problem, f"write `{found[0]} = …` on its own line"
            )
        yield found[0], statement


def _last_line(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def _iter_targets(statement: ast.stmt) -> Iterator[str]:
    """Yield the name that the statement sets, or changes a part of, each time it does."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            target: ast.expr = node
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            if isinstance(target, ast.Name):
                yield target.id
