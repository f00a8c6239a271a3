#!/usr/bin/env python3
"""A cache for programs and data: `once.py NAME SCRIPT [ARGUMENT…]` runs SCRIPT in a new folder and prints the folder's
path.

get-program.sh and get-data.sh use it so that nothing is downloaded twice. A second call runs SCRIPT again only if the
first was interrupted or failed, or if SCRIPT or its arguments have changed since then. Simultaneous calls wait for each
other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path


def get_cache_folder() -> Path:
    """Return the folder in the user's cache, which can be deleted at any time."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "distributed-something"


def normalize_script(script: str) -> str:
    """Return the script in the form in which newProject copies it, with its helpers in the same folder.

    The original and the copy are then equal.
    """
    return script.replace("/../", "/")


def run_once(folder: Path, script: Path, arguments: list[str]) -> None:
    """Run `script` in `folder` unless this version of it has filled the folder before.

    Raise CalledProcessError if the script fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp, stamp_text = folder / ".made-by", "\n".join([script.read_text(), *arguments])
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and normalize_script(stamp.read_text()) == normalize_script(stamp_text):
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = [str(script), *arguments]
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
        stamp.write_text(stamp_text)


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
