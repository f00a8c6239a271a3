"""Projects created by the previous version, whose code is in `control/`, `localcloud/`, and `worker/machinery/`.

Only their own run.py can run them, because their workers import a package that this version does not have.
"""

from __future__ import annotations

import ast
from pathlib import Path

from distributed_something.core.errors import InputError

OLDER_PACKAGE = "machinery"  # the package that a generic-worker.py of that version imports


def check_project_version(project: Path) -> None:
    """Raise InputError if a worker of the project was written for the previous version."""
    for path in sorted((project / "worker").glob("*.py")):
        line = _find_older_import(path)
        if line is None:
            continue
        if (project / "run.py").is_file():
            remedy = f"use the project's own run.py: python {project / 'run.py'}"
        else:
            remedy = "import from distributed_something.worker instead"
        problem = f"imports `{OLDER_PACKAGE}`, the worker package of an older version"
        raise InputError(path, f"line {line}", problem, remedy)


def is_older_project(project: Path) -> bool:
    """Return whether the previous version created the project."""
    return any((project / "worker" / OLDER_PACKAGE).glob("*.py"))


def _find_older_import(path: Path) -> int | None:
    """Return the number of a line that imports the older package; None if there is none or the file cannot be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # the worker reports the error when it starts
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
