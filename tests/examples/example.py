"""An example in a folder of its own, with its real program at hand, and the four commands as its README types them."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from distributed_something.core.config_settings import load_settings
from tests.support.project import ROOT, Project

IMAGE = "tests/example-{name}:1"


class Example(Project):
    """A copy of `examples/NAME`, with what stands beside it. Its workers find the real program in their PATH."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.folder = home / "examples" / name
        made_here = shutil.ignore_patterns("local", "__pycache__", "*SpotFleetRequestId.json")
        shutil.copytree(ROOT / "examples" / name, self.folder, symlinks=True, ignore=made_here)
        for path in (ROOT / "examples").glob("*.*"):
            shutil.copy(path, home / "examples")
        for beside in ("worker", "distributed_something"):
            (home / beside).symlink_to(ROOT / beside)
        if name != "cellcount":  # whose pictures others use
            (home / "examples" / "cellcount").symlink_to(ROOT / "examples" / "cellcount")
        self.program = program_of(name)
        self._run_beside("get-data.sh")
        self.settings = load_settings(self.folder / "config.py")

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:  # type: ignore[override]
        own = super().environment(more)
        return own | {"PATH": os.pathsep.join([*self.program, own["PATH"]])}

    def four_commands(self, job_file: str = "files/exampleJob.json", *options: str) -> str:
        """A whole run; what `monitor` printed: the summary. `options` are run.py's own, such as --containers."""
        self.run(*options, "setup")
        self.run(*options, "submitJob", str(self.folder / job_file))
        self.run(*options, "startCluster", str(ROOT / "files" / "exampleFleet.json"))
        monitor_file = self.folder / "files" / f"{self.settings.APP_NAME}SpotFleetRequestId.json"
        return self.run(*options, "monitor", str(monitor_file)).stdout

    def bucket(self, name: str = "") -> Path:
        """A bucket as a folder, once `monitor` has ended; AWS_BUCKET unless another is named."""
        return self.folder / "local" / (name or self.settings.AWS_BUCKET)

    def files(self, prefix: str = "") -> dict[str, Path]:
        """The files below `prefix` in the bucket, but for records, logs and monitor files, by their keys."""
        paths = sorted(path for path in self.bucket().rglob("*") if path.is_file())
        keys = {str(path.relative_to(self.bucket())): path for path in paths}
        ours = ("runs/", "monitors/", "exportedlogs/")
        return {key: path for key, path in keys.items() if key.startswith(prefix) and not key.startswith(ours)}

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.bucket().glob("runs/*/*/jobs/*.json"))]

    def build(self, base: str = "", image: str = "") -> str:
        """Builds the example's image as `make build EXAMPLE=NAME` does, under a name of the tests' own; that name."""
        image = image or IMAGE.format(name=self.name)
        with (self.folder / "config.py").open("a") as config:
            config.write(f"\nDOCKERHUB_TAG = {image!r}\n")
        command = [str(self.home / "examples" / "build.sh"), self.name, *([base] if base else [])]
        env = os.environ | {"DOCKER_BUILD": "docker build --network host"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return image

    def _run_beside(self, script: str) -> None:
        """Runs a script of the example, if it has one."""
        if (self.folder / script).exists():
            ask(self.folder / script)


def worker_of(name: str) -> dict[str, Any]:
    """What the example's generic-worker.py defines; it finds the package and its own modules as in the image."""
    folder = ROOT / "examples" / name / "worker"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), str(ROOT), *sys.path])
        return runpy.run_path(str(folder / "generic-worker.py"), run_name="worker")


@cache
def program_of(name: str) -> tuple[str, ...]:
    """The folder of the example's program, as its get-program.sh prints it; none where it has no such script."""
    script = ROOT / "examples" / name / "get-program.sh"
    return (ask(script),) if script.exists() else ()


def ask(script: Path) -> str:
    """What a script prints. Where it cannot get what it is there for, the test skips; with CI=true it fails."""
    done = subprocess.run([str(script)], capture_output=True, text=True, timeout=900, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    reason = f"{script.parent.name}/{script.name}: {done.stderr.strip().splitlines()[-1:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs every example's program and data: {reason}")
    pytest.skip(reason)


@contextmanager
def example(name: str, home: Path) -> Iterator[Example]:
    """The example NAME in the folder `home`; its local cloud is stopped at the end, whatever happened."""
    made = Example(name, home)
    try:
        yield made
    finally:
        made.stop()
