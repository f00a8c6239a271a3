#!/usr/bin/env python3
"""Makes a folder outside the tree once, and prints where it is: `once.py NAME SCRIPT…` runs SCRIPT in it.

For get-program.sh and get-data.sh, whose downloads must not be repeated. The folder is whole or made anew: whoever asks
at the same time waits, what was interrupted is begun again, and so is what SCRIPT made before it was changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path


def get_cache_folder() -> Path:
    """The user's own cache, where nothing is kept that cannot be fetched again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "distributed-something"


def normalize_script(script: str) -> str:
    """The same wherever its helpers lie: above it, or beside it as in a project that newProject made."""
    return script.replace("/../", "/")


def run_once(folder: Path, script: Path, arguments: list[str]) -> None:
    """Runs `script` in `folder` unless it made it already, as it is now. Raises CalledProcessError where it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made, by = folder / ".made-by", "\n".join([script.read_text(), *arguments])
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and normalize_script(made.read_text()) == normalize_script(by):
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = [str(script), *arguments]
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
        made.write_text(by)


def main(name: str, script: str, *arguments: str) -> int:
    folder = get_cache_folder() / name
    try:
        run_once(folder, Path(script).resolve(), list(arguments))
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
