"""What of one of the template's examples becomes a project of its own, where nothing lies beside it any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from control.files import read_text, write_file

# What an example has for its life in the template, or that a run made.
_LEFT_OUT = ("README.md", "local", "__pycache__", ".venv", "*SpotFleetRequestId.json", "*.submitted", "*.pyc")


def lay(example: Path, project: Path) -> None:
    """Copies the example's files, and those that its scripts call beside it: `../once.py` becomes `once.py`."""
    shutil.copytree(example, project, dirs_exist_ok=True, ignore=_ignored)
    shared = [path for path in example.parent.iterdir() if path.is_file()]
    for script in sorted(project.glob("*.sh")):
        text = read_text(script, "a script")
        called = [path for path in shared if f"../{path.name}" in text]
        for path in called:
            text = text.replace(f"../{path.name}", path.name)
            shutil.copy(path, project)
        if called:
            write_file(script, text.encode(), executable=True)
    if (project / "get-data.sh").is_file():
        with (project / ".gitignore").open("a") as ignored:
            ignored.write("\n# The link to what get-data.sh fetched\n/data\n")


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Links too: to what a script fetched to this computer, and will fetch again."""
    patterns = shutil.ignore_patterns(*_LEFT_OUT)(folder, names)
    return set(patterns) | {name for name in names if Path(folder, name).is_symlink()}


def preparations(project: Path) -> Iterator[str]:
    """The commands that make this computer ready for its jobs."""
    if (project / "requirements.txt").is_file():
        yield "pip install -r requirements.txt"
    if (project / "get-data.sh").is_file():
        yield "./get-data.sh"
    if (project / "get-program.sh").is_file():
        yield 'export PATH="$(./get-program.sh):$PATH"'
