"""A copy of an example with its real program, in which tests run the four commands from the example's README."""

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

from distributed_something.project.config_file import load_settings
from tests.support.missing import skip_or_fail
from tests.support.project import ROOT, Project

IMAGE = "tests/example-{name}:1"


class Example(Project):
    """A copy of `examples/NAME` and the files next to it. The workers find the real program in their PATH."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.folder = home / "examples" / name
        generated_files = shutil.ignore_patterns("local", "__pycache__", "*SpotFleetRequestId.json")
        shutil.copytree(ROOT / "examples" / name, self.folder, symlinks=True, ignore=generated_files)
        for path in (ROOT / "examples").glob("*.*"):
            shutil.copy(path, home / "examples")
        for folder in ("worker", "distributed_something"):
            (home / folder).symlink_to(ROOT / folder)
        if name != "cellcount":  # other examples use the images of cellcount
            (home / "examples" / "cellcount").symlink_to(ROOT / "examples" / "cellcount")
        self.program_folders = find_program(name)
        if (self.folder / "get-data.sh").exists():
            run_script(self.folder / "get-data.sh")
        self.settings = load_settings(self.folder / "config.py")

    def build_environment(self, more: Mapping[str, str]) -> dict[str, str]:  # type: ignore[override]
        variables = super().build_environment(more)
        return variables | {"PATH": os.pathsep.join([*self.program_folders, variables["PATH"]])}

    def run_four_commands(self, job_file: str = "files/exampleJob.json", *options: str) -> str:
        """Run the four commands and return the summary that `monitor` prints.

        `options`: options for run.py, such as --containers.
        """
        self.run(*options, "setup")
        self.run(*options, "submitJob", str(self.folder / job_file))
        self.run(*options, "startCluster", str(ROOT / "files" / "exampleFleet.json"))
        monitor_file = self.folder / "files" / f"{self.settings.APP_NAME}SpotFleetRequestId.json"
        result = self.run(*options, "monitor", str(monitor_file), check=False)
        expected = 0 if "jobs failed     0\n" in result.stdout else 3
        assert result.returncode == expected, result.stdout + result.stderr
        return result.stdout

    def get_bucket_folder(self) -> Path:
        """Return the folder that contains the bucket's objects after `monitor` ends."""
        return self.folder / "local" / self.settings.AWS_BUCKET

    def list_result_files(self, prefix: str = "") -> dict[str, Path]:
        """Return the files below `prefix` in the bucket, keyed by object key. Omit records, logs, and monitor files."""
        paths = sorted(path for path in self.get_bucket_folder().rglob("*") if path.is_file())
        paths_by_key = {str(path.relative_to(self.get_bucket_folder())): path for path in paths}
        other_prefixes = ("runs/", "monitors/", "exportedlogs/")
        return {
            key: path
            for key, path in paths_by_key.items()
            if key.startswith(prefix) and not key.startswith(other_prefixes)
        }

    def read_records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.get_bucket_folder().glob("runs/*/*/jobs/*.json"))]

    def build_image(self, base: str = "", image: str = "") -> str:
        """Build the example's image as `make build EXAMPLE=NAME` does, but with a test name. Return that name."""
        image = image or IMAGE.format(name=self.name)
        with (self.folder / "config.py").open("a") as config:
            config.write(f"\nDOCKERHUB_TAG = {image!r}\n")
        command = [sys.executable, str(ROOT / "run.py"), "--project", str(self.folder), "buildImage"]
        command += ["--base", base] if base else []
        env = os.environ | {"DOCKER_BUILD": "docker build --network host"}
        completed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return image


def load_worker(name: str) -> dict[str, Any]:
    """Return the names that the example's generic-worker.py defines. Its imports work as in the container image."""
    folder = ROOT / "examples" / name / "worker"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), str(ROOT), *sys.path])
        return runpy.run_path(str(folder / "generic-worker.py"), run_name="worker")


@cache
def find_program(name: str) -> tuple[str, ...]:
    """Return the folder that the example's get-program.sh prints, or nothing if it has no such script."""
    script = ROOT / "examples" / name / "get-program.sh"
    return (run_script(script),) if script.exists() else ()


def run_script(script: Path) -> str:
    """Return the output of a script that gets a program or data.

    If the script fails, skip the test, or let it fail if CI=true.
    """
    completed = subprocess.run([str(script)], capture_output=True, text=True, timeout=900, check=False)
    if completed.returncode == 0:
        return completed.stdout.strip()
    reason = f"{script.parent.name}/{script.name}: {completed.stderr.strip().splitlines()[-1:]}"
    skip_or_fail(reason)


@contextmanager
def open_example(name: str, home: Path) -> Iterator[Example]:
    """Yield a copy of the example in the folder `home`. Stop its local cloud at the end in any case."""
    example = Example(name, home)
    try:
        yield example
    finally:
        example.stop()
