"""What a developer's code rests on: the functions of `generic-worker.py` as the template has them, and config's keys.

Read as text (ast), never run: two versions of one module cannot be imported side by side.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_text_file

HookSignatures = Mapping[str, Mapping[str, str]]


def read_hooks(path: Path) -> dict[str, dict[str, str]]:
    """The signature of each public function in the file, and a digest of its docstring; raises InputError."""
    try:
        tree = ast.parse(read_text_file(path, "generic-worker.py"))
    except (SyntaxError, ValueError) as error:
        raise InputError(path, "", f"this is not Python ({error})", "correct it") from None
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
    return {
        node.name: {"signature": build_signature(node), "docstring": _hash_docstring(ast.get_docstring(node))}
        for node in found
    }


def build_signature(node: ast.FunctionDef) -> str:
    """`make_job(message, folders, settings)`: names and defaults, as a caller sees them; types aside."""
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{node.name}({ast.unparse(node.args)})"


def format_hook_changes(before: HookSignatures, now: HookSignatures) -> Iterator[str]:
    """What a developer should look at, a line for each function that is new, gone or other than before."""
    for name in now:
        if name not in before:
            yield f"{now[name]['signature']} is new"
        elif before[name]["signature"] != now[name]["signature"]:
            yield f"{before[name]['signature']} is now {now[name]['signature']}"
        elif before[name].get("docstring") != now[name]["docstring"]:
            yield f"{now[name]['signature']} is described anew"
    for name in before:
        if name not in now:
            yield f"{before[name]['signature']} is gone"


def get_config_line(config: str, key: str) -> str:
    """What the template's config.py says of a key: its line, in one piece."""
    found = re.search(rf"^{re.escape(key)} = .*$", config, re.M)
    return found[0] if found else key


def read_config_constants(path: Path) -> set[str]:
    """The upper-case names that a config sets; none where it cannot be read."""
    try:
        tree = ast.parse(read_text_file(path, "a config file"))
    except (InputError, SyntaxError, ValueError):
        return set()  # the commands that need it say so
    targets = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    return {target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()}


def _hash_docstring(docstring: str | None) -> str:
    return hashlib.sha256(" ".join((docstring or "").split()).encode()).hexdigest()[:16]
