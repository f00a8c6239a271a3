"""Tests for `make build` and `make push` with a fake `docker`, which records its arguments and copies its build folder.

The build has two steps: the program's image from worker/Dockerfile, then the worker, from a temporary folder.
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
    """Return a folder with the files that make build needs, an environment, and the fake `docker`."""
    for name in ("Makefile", "config.py", "run.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("worker", "distributed_something"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for name in ("bin", "tmp", ".venv/bin", "files"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name in ("requirements.txt", "requirements-local.txt"):
        (tmp_path / "files" / name).touch()
    for name in (".made", ".installed"):
        (tmp_path / ".venv" / name).touch()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    return tmp_path


def run_make(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, env = ["make", *arguments], build_environment(project) | variables
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False)


def build_environment(project: Path) -> dict[str, str]:
    return {
        "PATH": f"{project}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
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


def test_the_unedited_repository_builds_and_pushes_its_image(project: Path) -> None:
    result = run_make(project, "push")
    assert result.returncode == 0, result.stderr
    program, worker, push = read_docker_calls(project)
    assert program == f"build --platform linux/amd64 --tag user/distributed-something:latest-program {project}/worker"
    assert worker.startswith(
        "build --platform linux/amd64 --build-arg BASE_IMAGE=user/distributed-something:latest-program "
    )
    assert " --tag user/distributed-something:latest " in worker
    assert push == "push user/distributed-something:latest"


def test_the_worker_is_added_from_the_projects_code_and_the_workers_package_only(project: Path) -> None:
    (project / "distributed_something" / "worker" / "__pycache__").mkdir()
    assert run_make(project, "build").returncode == 0
    folder = find_build_folder(project, 2)
    for path in (path for path in (ROOT / "worker").rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        if path.name != "Dockerfile":
            assert (folder / path.relative_to(ROOT / "worker")).read_bytes() == path.read_bytes()
    image_files = ROOT / "distributed_something" / "worker" / "image"
    assert (folder / "Dockerfile").read_bytes() == (image_files / "Dockerfile").read_bytes()
    package = read_package_files(ROOT)
    assert read_package_files(folder) == package
    assert {path.relative_to(folder).as_posix() for path in (folder / "distributed_something").rglob("*.py")} <= set(
        package
    )
    assert not list(folder.rglob("__pycache__"))


def test_the_config_names_the_image(project: Path) -> None:
    append_to_config(project, "DOCKERHUB_TAG = 'registry.example.org/ada/cells:2'")
    assert run_make(project, "build").returncode == 0
    assert "--tag registry.example.org/ada/cells:2 " in read_docker_calls(project)[1]


@pytest.mark.parametrize(
    ("types", "platform"),
    [("['m5.large', 'c7i-flex.large', 'g4dn.xlarge']", "linux/amd64"), ("['m6g.large', 'c7gn.xlarge']", "linux/arm64")],
)
def test_the_image_is_built_for_the_processors_of_the_machine_types(project: Path, types: str, platform: str) -> None:
    append_to_config(project, f"MACHINE_TYPE = {types}")
    assert run_make(project, "build").returncode == 0
    assert [f" --platform {platform} " in call for call in read_docker_calls(project)] == [True, True]


def test_machine_types_with_different_processors_are_refused_in_one_line_before_docker_is_called(project: Path) -> None:
    append_to_config(project, "MACHINE_TYPE = ['m5.large', 'm6g.large']")
    result = run_make(project, "push")
    assert result.returncode != 0
    problem = "these machine types have different processors (m5.large is linux/amd64, m6g.large is linux/arm64)"
    assert [line for line in result.stderr.splitlines() if f"config.py: MACHINE_TYPE: {problem}" in line]
    assert "Traceback" not in result.stderr
    assert read_docker_calls(project) == []


@pytest.mark.parametrize("option", ["--platform linux/arm64", "--platform=linux/arm64"])
def test_a_platform_that_the_user_gives_replaces_the_one_of_the_machine_types(project: Path, option: str) -> None:
    append_to_config(project, "MACHINE_TYPE = ['m5.large', 'm6g.large']")
    assert run_make(project, "build", DOCKER_BUILD=f"docker build {option}").returncode == 0
    assert [call.count("--platform") for call in read_docker_calls(project)] == [1, 1]


def test_an_image_for_the_local_cloud_is_built_for_this_computer(project: Path) -> None:
    command = [sys.executable, "run.py", "--local", "buildImage"]
    assert subprocess.run(command, cwd=project, env=build_environment(project), check=False).returncode == 0
    assert [call for call in read_docker_calls(project) if "--platform" in call] == []


@pytest.mark.parametrize("value", ["'True'", "True", "'False'", "False"])
def test_the_config_decides_whether_s3fs_is_installed_in_the_image(project: Path, value: str) -> None:
    append_to_config(project, f"MOUNT_S3 = {value}")
    assert run_make(project, "build").returncode == 0
    expected = value.strip("'")
    assert f"--build-arg MOUNT_S3={expected} " in read_docker_calls(project)[1]


@pytest.mark.parametrize("text", ["APP_NAME = ", "1 / 0"])
def test_a_config_that_is_not_valid_python_is_reported_before_docker_is_called(project: Path, text: str) -> None:
    append_to_config(project, text)
    result = run_make(project, "build")
    assert result.returncode != 0
    assert "run.py: config.py: line " in result.stderr
    assert "Traceback" not in result.stderr
    assert read_docker_calls(project) == []


def test_without_docker_one_line_says_what_to_install(project: Path) -> None:
    (project / "bin" / "docker").unlink()
    command = [sys.executable, "run.py", "buildImage"]
    env = build_environment(project) | {"PATH": str(project / "bin")}
    result = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        1, "run.py: while running docker build: No such file or directory — install Docker\n",
    )  # fmt: skip


@pytest.fixture
def example(project: Path) -> Path:
    """Return the worker folder of a new example, which contains each file that an example can replace."""
    folder = project / "examples" / "cells" / "worker"
    (folder / "scripts").mkdir(parents=True)
    for name, text in (
        ("Dockerfile", "FROM cells:2"), ("generic-worker.py", "own"), ("naming.py", "own"),
        ("requirements-own.txt", "own"), ("scripts/run.sh", "own"),
    ):  # fmt: skip
        (folder / name).write_text(text)
    config = (ROOT / "config.py").read_text() + "DOCKERHUB_TAG = 'ada/cells:2'\nMOUNT_S3 = 'True'\n"
    (folder.parent / "config.py").write_text(config)
    return folder


def test_an_examples_image_adds_the_worker_and_its_own_files_to_the_programs_image(
    project: Path, example: Path
) -> None:
    assert run_make(project, "push", "EXAMPLE=cells").returncode == 0
    program, worker, push = read_docker_calls(project)
    assert program == "build --platform linux/amd64 --tag ada/cells:2-program examples/cells/worker"
    assert worker.startswith("build --platform linux/amd64 --build-arg BASE_IMAGE=ada/cells:2-program ")
    assert " --build-arg MOUNT_S3=True --tag ada/cells:2 " in worker
    assert push == "push ada/cells:2"
    folder = find_build_folder(project, 2)
    for name in (path.relative_to(example) for path in example.rglob("*") if path.is_file()):
        if name.name != "Dockerfile":
            assert (folder / name).read_text() == "own"
    assert read_package_files(folder) == read_package_files(ROOT)


def test_an_example_can_be_built_on_another_base_image_and_with_other_docker_options(
    project: Path, example: Path
) -> None:
    options = {"DOCKER_BUILD": "docker build --network host"}
    assert run_make(project, "build", "EXAMPLE=cells", "base=local/cells", **options).returncode == 0
    (worker,) = read_docker_calls(project)
    assert worker.startswith("build --network host --platform linux/amd64 --build-arg BASE_IMAGE=local/cells ")


@pytest.mark.parametrize("code", ["0", "1"])
@pytest.mark.parametrize("arguments", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_a_build_removes_its_temporary_files(
    project: Path, example: Path, arguments: tuple[str, ...], code: str
) -> None:
    before = sorted(path for path in project.rglob("*") if "notes" not in path.name)
    assert (run_make(project, "build", *arguments, DOCKER_EXIT=code).returncode == 0) == (code == "0")
    assert len(read_docker_calls(project)) == (2 if arguments == () and code == "0" else 1)
    assert sorted(path for path in project.rglob("*") if not str(path).startswith(str(project / "notes"))) == before


@pytest.mark.parametrize("arguments", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_an_interrupted_build_removes_its_temporary_files(
    project: Path, example: Path, arguments: tuple[str, ...]
) -> None:
    command = ["make", "build", *arguments]
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
    assert f"examples/{name}" in result.stderr
    assert "Traceback" not in result.stderr
    assert read_docker_calls(project) == []


def test_make_fails_if_the_build_fails(project: Path, example: Path) -> None:
    assert run_make(project, "build", "EXAMPLE=cells", DOCKER_EXIT="1").returncode != 0
    assert len(read_docker_calls(project)) == 1


@pytest.mark.parametrize(("stop_code", "is_deleted"), [(0, True), (1, True), (2, False)])
def test_make_clean_deletes_nothing_if_the_user_does_not_want_to_lose_jobs(
    project: Path, stop_code: int, is_deleted: bool
) -> None:
    (project / "run.py").write_text(f"import sys; print(*sys.argv[1:]); sys.exit({stop_code})")
    (project / "local").mkdir()
    result = run_make(project, "clean")
    assert "--local --project . stop" in result.stdout
    assert (result.returncode == 0, not (project / "local").exists()) == (is_deleted, is_deleted)
    assert (project / ".venv").exists() != is_deleted
