"""Hooks and config keys that a developer's code depends on, so that `upgrade` can report their changes.

Modules are parsed instead of imported, because two versions of one module cannot be imported together.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_text_file
from distributed_something.project.config_file import is_constant_name

HookSignatures = Mapping[str, Mapping[str, str]]
_LOCAL_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)


def parse_settings_keys(source: str, path: Path) -> list[str]:
    """Return the config keys in the source of a version's `config_settings.py`: the upper-case fields of Settings."""
    tree = _parse_source(source, path)
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    fields = (node.target for settings in classes for node in settings.body if isinstance(node, ast.AnnAssign))
    return [field.id for field in fields if isinstance(field, ast.Name) and field.id.isupper()]


def parse_hooks(source: str, path: Path) -> dict[str, dict[str, str]]:
    """Return the signature and a hash of the docstring of each public function in a generic-worker.py."""
    tree = _parse_source(source, path)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
    return {
        node.name: {"signature": build_signature(node), "docstring": _hash_docstring(ast.get_docstring(node))}
        for node in functions
    }


def _parse_source(source: str, path: Path) -> ast.Module:
    """Return the parsed source; raise InputError, which names `path`, if it is not valid Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(path, "", f"this is not valid Python ({error})", "correct the syntax") from None


def build_signature(node: ast.FunctionDef) -> str:
    """Return a signature without types, such as `make_job(message, folders, settings)`."""
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{node.name}({ast.unparse(node.args)})"


def format_hook_changes(before: HookSignatures, after: HookSignatures) -> Iterator[str]:
    """Yield one line for each hook that was added, changed, or removed."""
    for name in after:
        if name not in before:
            yield f"{after[name]['signature']} is new"
        elif before[name]["signature"] != after[name]["signature"]:
            yield f"{before[name]['signature']} is now {after[name]['signature']}"
        elif before[name].get("docstring") != after[name]["docstring"]:
            yield f"{after[name]['signature']} has a new description"
    for name in before:
        if name not in after:
            yield f"{before[name]['signature']} was removed"


def get_config_line(config: str, key: str) -> str:
    """Return the line that sets the key in the text of a config.py, or the key if there is no such line."""
    match = re.search(rf"^{re.escape(key)} = .*$", config, re.M)
    return match[0] if match else key


def read_config_constants(path: Path) -> set[str]:
    """Return the constants that a config file sets, or an empty set if it cannot be read."""
    try:
        nodes: list[ast.AST] = [ast.parse(read_text_file(path, "a config file"))]
    except (InputError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # commands that need the config report the error
    names = set[str]()
    while nodes:
        node = nodes.pop()
        is_bare = isinstance(node, ast.AnnAssign) and node.value is None  # such as `MEMORY: int`
        if not is_bare and not isinstance(node, _LOCAL_SCOPES):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and is_constant_name(node.id):
            names.add(node.id)
    return names


def _hash_docstring(docstring: str | None) -> str:
    return hashlib.sha256(" ".join((docstring or "").split()).encode()).hexdigest()[:16]
