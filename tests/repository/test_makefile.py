"""Tests for `make build` and `make push` with a fake `docker`, which records its arguments and copies its build folder.

`make` copies `worker/` and the worker's package into a temporary folder, builds the worker's image there, and removes
the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.project import wait_until

FAKE_DOCKER = """#!/bin/sh
echo "$@" >> "$NOTES"
for last; do :; done
[ "$1" = build ] && cp -R "$last" "$NOTES.$(wc -l < "$NOTES" | tr -d ' ')"
[ -z "$DOCKER_WAITS" ] || sleep 600
exit "${DOCKER_EXIT:-0}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Create a folder with the Makefile, the config, the worker's files, and the fake `docker`, and return it."""
    for name in ("Makefile", "config.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("worker", "distributed_something"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for folder in ("bin", "tmp"):
        (tmp_path / folder).mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    return tmp_path


def run_make(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, env = ["make", f"PYTHON={sys.executable}", *arguments], build_environment(project) | variables
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False)


def build_environment(project: Path) -> dict[str, str]:
    return {
        "PATH": f"{project}/bin:{os.environ['PATH']}",
        "NOTES": str(project / "notes"),
        "TMPDIR": str(project / "tmp"),
    }


def read_docker_calls(project: Path) -> list[str]:
    """Return the arguments of each call to docker, one line per call."""
    notes = project / "notes"
    return notes.read_text().splitlines() if notes.exists() else []


def find_build_folder(project: Path, call: int = 1) -> Path:
    """Return the copy of the folder that docker call number `call` (starting at 1) built."""
    return project / f"notes.{call}"


def read_package_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of the worker package's files in `folder`, keyed by relative path."""
    package = folder / "distributed_something"
    paths = [package / "__init__.py", *(package / "worker").rglob("*")]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix != ".pyc"
    }


def append_to_config(project: Path, text: str) -> None:
    """Add lines to the config. If a constant is set twice, the last value counts."""
    with (project / "config.py").open("a") as config:
        config.write(f"\n{text}\n")


def test_the_untouched_template_builds_and_pushes_its_image(project: Path) -> None:
    assert run_make(project, "push").returncode == 0
    build, push = read_docker_calls(project)
    assert build.startswith("build --build-arg BASE_IMAGE=debian:bookworm-slim ")
    assert " --tag user/distributed-something:latest " in build
    assert push == "push user/distributed-something:latest"


def test_an_image_is_built_from_only_the_worker_folder_and_the_workers_package(project: Path) -> None:
    (project / "distributed_something" / "worker" / "__pycache__").mkdir()
    assert run_make(project, "build").returncode == 0
    folder = find_build_folder(project)
    for path in (path for path in (ROOT / "worker").rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert (folder / path.relative_to(ROOT / "worker")).read_bytes() == path.read_bytes()
    package = read_package_files(ROOT)
    assert read_package_files(folder) == package
    assert {path.relative_to(folder).as_posix() for path in (folder / "distributed_something").rglob("*.py")} <= set(
        package
    )
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize("target", ["build", "push"])
def test_make_stops_before_it_calls_docker_if_the_config_names_another_image(project: Path, target: str) -> None:
    append_to_config(project, "DOCKERHUB_TAG = 'ada/cells:2'")
    result = run_make(project, target)
    assert result.returncode != 0
    assert "config.py: DOCKERHUB_TAG: 'ada/cells:2' is not the image that the Makefile builds" in result.stderr
    assert "'user/distributed-something:latest'" in result.stderr
    assert read_docker_calls(project) == []


def test_any_image_name_is_built_if_the_makefile_and_the_config_agree(project: Path) -> None:
    append_to_config(project, "DOCKERHUB_TAG = 'registry.example.org/ada/cells:2'")
    assert run_make(project, "build", "user=registry.example.org/ada", "project=cells", "tag=2").returncode == 0
    assert "--tag registry.example.org/ada/cells:2 " in read_docker_calls(project)[0]


def test_an_image_name_without_a_tag_means_latest_as_in_docker(project: Path) -> None:
    append_to_config(project, "DOCKERHUB_TAG = 'ada/cells'")
    assert run_make(project, "build", "user=ada", "project=cells").returncode == 0
    assert run_make(project, "build", "user=ada", "project=cells", "tag=2").returncode != 0
    assert len(read_docker_calls(project)) == 1


@pytest.mark.parametrize("value", ["'True'", "True", "'False'", "False"])
def test_the_config_decides_whether_s3fs_is_installed_in_the_image(project: Path, value: str) -> None:
    append_to_config(project, f"MOUNT_S3 = {value}")
    assert run_make(project, "build").returncode == 0
    expected = value.strip("'")
    assert f"--build-arg MOUNT_S3={expected} " in read_docker_calls(project)[0]


@pytest.mark.parametrize("text", ["APP_NAME = ", "1 / 0"])
def test_a_config_that_is_not_valid_python_is_reported_without_a_traceback(project: Path, text: str) -> None:
    append_to_config(project, text)
    result = run_make(project, "build")
    assert result.returncode != 0
    assert "config.py cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    assert read_docker_calls(project) == []


@pytest.fixture
def example(project: Path) -> Path:
    """Create an example that replaces every file it can, and return its worker folder."""
    (project / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "build.sh", project / "examples")
    folder = project / "examples" / "cells" / "worker"
    (folder / "scripts").mkdir(parents=True)
    for name, text in (
        ("Dockerfile", "FROM cells:2"), ("generic-worker.py", "own"), ("naming.py", "own"),
        ("requirements-own.txt", "own"), ("scripts/run.sh", "own"),
    ):  # fmt: skip
        (folder / name).write_text(text)
    (folder.parent / "config.py").write_text("DOCKERHUB_TAG = 'ada/cells:2'\nMOUNT_S3 = 'True'\n")
    return folder


def test_an_examples_image_adds_the_worker_and_its_own_files_to_the_programs_image(
    project: Path, example: Path
) -> None:
    assert run_make(project, "push", "EXAMPLE=cells").returncode == 0
    program, worker, push = read_docker_calls(project)
    assert program == "build --tag ada/cells:2-program examples/cells/worker"
    assert worker.startswith("build --build-arg BASE_IMAGE=ada/cells:2-program --build-arg MOUNT_S3=True ")
    assert " --tag ada/cells:2 " in worker
    assert push == "push ada/cells:2"
    folder = find_build_folder(project, 2)
    for name in (path.relative_to(example) for path in example.rglob("*") if path.is_file()):
        expected = (ROOT / "worker" / name).read_text() if name.name == "Dockerfile" else "own"
        assert (folder / name).read_text() == expected
    assert read_package_files(folder) == read_package_files(ROOT)


def test_an_example_can_be_built_on_another_base_image_and_with_other_docker_options(
    project: Path, example: Path
) -> None:
    options = ("base=local/cells", "docker_build=docker build --network host")
    assert run_make(project, "build", "EXAMPLE=cells", *options).returncode == 0
    (worker,) = read_docker_calls(project)
    assert worker.startswith("build --network host --build-arg BASE_IMAGE=local/cells ")


@pytest.mark.parametrize("code", ["0", "1"])
@pytest.mark.parametrize("arguments", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_a_build_removes_its_temporary_files(
    project: Path, example: Path, arguments: tuple[str, ...], code: str
) -> None:
    before = sorted(path for path in project.rglob("*") if "notes" not in path.name)
    assert (run_make(project, "build", *arguments, DOCKER_EXIT=code).returncode == 0) == (code == "0")
    assert len(read_docker_calls(project)) == 1
    assert sorted(path for path in project.rglob("*") if not str(path).startswith(str(project / "notes"))) == before


@pytest.mark.parametrize("arguments", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_an_interrupted_build_removes_its_temporary_files(
    project: Path, example: Path, arguments: tuple[str, ...]
) -> None:
    command = ["make", f"PYTHON={sys.executable}", "build", *arguments]
    env = build_environment(project) | {"DOCKER_WAITS": "yes"}
    process = subprocess.Popen(command, cwd=project, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(read_docker_calls(project)))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    wait_until(lambda: not list((project / "tmp").iterdir()))


@pytest.mark.parametrize(("name", "text"), [("cells", "1 / 0"), ("no-such-example", "")])
def test_an_example_whose_config_cannot_be_read_is_reported_without_a_traceback(
    project: Path, example: Path, name: str, text: str
) -> None:
    (example.parent / "config.py").write_text(text)
    result = run_make(project, "build", f"EXAMPLE={name}")
    assert result.returncode != 0
    assert f"examples/{name}/config.py cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    assert read_docker_calls(project) == []


def test_make_fails_if_the_build_fails(project: Path, example: Path) -> None:
    assert run_make(project, "build", "EXAMPLE=cells", DOCKER_EXIT="1").returncode != 0
    assert len(read_docker_calls(project)) == 1
