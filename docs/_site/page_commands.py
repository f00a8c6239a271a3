"""Runs the commands of a page in a copy of the repository, as a reader would type them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL_WORDS = ("make", "source", "python", "cd", "rm", "printf", "ls", "cat", "examples/")
# These install packages, need Docker, or repeat what others do; the environment that is active replaces .venv.
LEFT_OUT = re.compile(r"^(make |source )|--containers")


def read_blocks(page: str) -> list[str]:
    """Return the indented blocks of a page in docs/, without the indent."""
    text = re.sub(r"<!-- screen: [\w-]+ -->\n(?: {4}.*\n|\n(?= {4}))+", "", (ROOT / "docs" / page).read_text())
    blocks = re.findall(r"(?:^ {4}.*\n)+", text, flags=re.M)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in blocks]


def list_commands(page: str) -> list[str]:
    """Return the command lines of a page in their order, without those that LEFT_OUT describes."""
    blocks = [re.sub(r" \\\n +", " ", block) for block in read_blocks(page)]  # commands that are broken into lines
    lines = [line for block in blocks if block.startswith(SHELL_WORDS) for line in block.splitlines()]
    return [line for line in lines if not LEFT_OUT.search(line)]


def copy_repository(folder: Path) -> None:
    """Copy the files that are or could be under version control into `folder`, which is created."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in names:
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def build_environment(repository: Path) -> dict[str, str]:
    """Return environment variables for `python run.py` in `repository` and in projects made there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCALCLOUD_"))}
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    return env | {"PATH": path, "PYTHONPATH": str(repository), "VIRTUAL_ENV": sys.prefix, "TERM": "xterm-256color"}
