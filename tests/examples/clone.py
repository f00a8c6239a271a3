"""The repository as a newcomer clones it, and `make demo` in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.project import ROOT

SHIPPED = ("run.py", "config.py", "distributed_something", "worker", "files", "examples")


class Clone:
    """The repository as it is cloned, and the demo in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        for name in SHIPPED:
            subprocess.run(["cp", "-R", str(ROOT / name), str(home)], check=True)
        for made in [home / "local", *home.glob("examples/*/local")]:
            shutil.rmtree(made, ignore_errors=True)

    def demo(self, *words: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env = own | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])}
        command = [str(self.home / "examples" / "demo.sh"), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
