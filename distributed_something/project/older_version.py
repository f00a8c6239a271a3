"""Projects of the version before this one, whose machinery lies in `control/`, `localcloud/`, and `worker/machinery/`.

Their own run.py runs them. This version cannot: their workers import a package that it does not have.
"""

from __future__ import annotations

import ast
from pathlib import Path

from distributed_something.core.errors import InputError

OLDER_PACKAGE = "machinery"  # what a generic-worker.py of that version imports


def check_project_version(project: Path) -> None:
    """Raise InputError if a worker of the project was written for the version before this one."""
    for path in sorted((project / "worker").glob("*.py")):
        line = _find_older_import(path)
        if line is None:
            continue
        if (project / "run.py").is_file():
            remedy = f"use the project's own run.py: python {project / 'run.py'}"
        else:
            remedy = "import what it needs from distributed_something.worker"
        problem = f"it imports `{OLDER_PACKAGE}`, the worker's package in an older version"
        raise InputError(path, f"line {line}", problem, remedy)


def is_older_project(project: Path) -> bool:
    """Whether the version before this one made the project."""
    return any((project / "worker" / OLDER_PACKAGE).glob("*.py"))


def _find_older_import(path: Path) -> int | None:
    """The first line that imports the older version's package; None if no line does, or the file cannot be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # the worker itself says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        if any(name.partition(".")[0] == OLDER_PACKAGE for name in names):
            return node.lineno
    return None
