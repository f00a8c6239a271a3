"""Converts the config of a published implementation: values stay, and constants that nothing uses anymore are left out.

The text is kept with its comments and computed values. Only whole statements are replaced.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError
from distributed_something.core.files import read_text_file
from distributed_something.project.config_file import execute_config, is_reserved_name

_PLUGINS_REMEDY = "add the plugins at a fixed commit, and install what they need, in worker/Dockerfile"
# What replaces constants of the published implementations that have no effect here.
REPLACEMENTS = {
    "UPDATE_PLUGINS": _PLUGINS_REMEDY,
    "PLUGINS_COMMIT": _PLUGINS_REMEDY,
    "INSTALL_REQUIREMENTS": _PLUGINS_REMEDY,
    "REQUIREMENTS": _PLUGINS_REMEDY,
    "REQUIREMENTS_FILE": _PLUGINS_REMEDY,
}
_SECRET_REMEDY = "set AWS_PROFILE, or log in with the AWS CLI; secrets must not be in a config"
_RESERVED_REMEDY = "use another name, because the worker sets this variable itself"
_OFF_VALUES = ("", "false", "none", "0")


@dataclass(frozen=True)
class OldConfig:
    """A config that was read but not converted yet. `values`: its uppercase constants."""

    path: Path
    text: str
    values: Mapping[str, Any]

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
    values = {name: value for name, value in execute_config(path).items() if name.isupper()}
    return OldConfig(path, text, values)


def convert_config(config: OldConfig, new_values: Mapping[str, str], known: Collection[str]) -> ConvertedConfig:
    """Return the config with `new_values`, and without the constants that nothing uses anymore.

    `known`: the names that the project's worker uses. Raise InputError if a constant cannot be replaced.
    """
    left_out = {name: _find_replacement(name, value) for name, value in config.values.items() if _is_obsolete(name)}
    lines = config.text.splitlines()
    replaced = set(left_out) | {name for name, value in new_values.items() if config.values.get(name) != value}
    for name, statement in reversed(list(_iter_statements(config, replaced))):
        last = _last_line(statement)
        if name in new_values:
            comment = lines[last - 1].encode()[statement.end_col_offset :].decode()
            text = f"{name} = {new_values[name]!r}{comment}"
        else:
            text = f"# {name} is left out{left_out[name] and f'. Instead: {left_out[name]}'}"
        lines[statement.lineno - 1 : last] = [text]
    lines += [f"{name} = {value!r}" for name, value in new_values.items() if name not in config.values]
    own = [name for name in config.values if name not in {*left_out, *Settings.model_fields, *known}]
    kept = len(config.values) - len(left_out) - len(own)
    return ConvertedConfig("\n".join(lines) + "\n", left_out, own, kept)


def _is_obsolete(name: str) -> bool:
    return name in REPLACEMENTS or is_reserved_name(name)


def _find_replacement(name: str, value: object) -> str:
    if name not in REPLACEMENTS:
        return _SECRET_REMEDY if name.startswith("AWS_") else _RESERVED_REMEDY
    return "" if str(value).strip().lower() in _OFF_VALUES else REPLACEMENTS[name]


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
    """Yield the name that the statement sets each time it sets one."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
