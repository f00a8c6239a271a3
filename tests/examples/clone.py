"""A clone of the repository for the tests of `make demo`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.project import ROOT

SHIPPED = ("run.py", "config.py", "distributed_something", "worker", "files", "examples")


class Clone:
    """A copy of the repository in which the demo can run. It does not contain files that earlier runs created."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        for name in SHIPPED:
            subprocess.run(["cp", "-R", str(ROOT / name), str(home)], check=True)
        for folder in [home / "local", *home.glob("examples/*/local")]:
            shutil.rmtree(folder, ignore_errors=True)

    def start_demo(self, *arguments: str) -> subprocess.Popen[str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env = variables | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])}
        command = [str(self.home / "examples" / "demo.sh"), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
