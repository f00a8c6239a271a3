"""Projects whose worker imports the package of an older version, which this version does not have.

`upgrade` converts such a project; until then, only its own run.py can run it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from distributed_something.core.errors import InputError

OLDER_PACKAGE = "machinery"  # the package that a generic-worker.py of that version imports


def check_project_version(project: Path, upgrade_command: str) -> None:
    """Raise InputError if a worker of the project was written for the previous version.

    `upgrade_command`: how the user types `upgrade` for this project.
    """
    for path, line in find_older_imports(project):
        problem = f"imports `{OLDER_PACKAGE}`, the worker package of an older version"
        if (project / "worker" / OLDER_PACKAGE).is_dir():
            remedy = "use the project's own run.py, or convert the project"
            raise InputError(path, f"line {line}", problem, remedy, commands=[upgrade_command])
        raise InputError(path, f"line {line}", problem, "import from distributed_something.worker instead")


def find_older_imports(project: Path) -> Iterator[tuple[Path, int]]:
    """Yield the file and line of each import of the older package in the Python files of the project's worker."""
    for path in sorted((project / "worker").glob("*.py")):
        yield from ((path, line) for line in _list_older_imports(path))


def _list_older_imports(path: Path) -> list[int]:
    """Return the numbers of the lines that import the older package; none if the file cannot be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []  # the worker reports the error when it starts
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        if any(name.partition(".")[0] == OLDER_PACKAGE for name in names):
            lines.append(node.lineno)
    return sorted(lines)
