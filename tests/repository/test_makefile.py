"""`make build` and `make push`, with a `docker` that only notes what it was asked (and what it was given to build).

The worker's image is built in a folder that is put together for it and removed afterwards: `worker/` and the worker's
package.
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
from tests.support.project import wait_for

NOTING = """#!/bin/sh
echo "$@" >> "$NOTES"
for last; do :; done
[ "$1" = build ] && cp -R "$last" "$NOTES.$(wc -l < "$NOTES" | tr -d ' ')"
[ -z "$DOCKER_WAITS" ] || sleep 600
exit "${DOCKER_EXIT:-0}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the template's Makefile and config, and the noting `docker`."""
    for name in ("Makefile", "config.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("worker", "distributed_something"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for folder in ("bin", "tmp"):
        (tmp_path / folder).mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(NOTING)
    docker.chmod(0o755)
    return tmp_path


def make(project: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command, env = ["make", f"PYTHON={sys.executable}", *words], environment(project) | more
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False)


def environment(project: Path) -> dict[str, str]:
    return {
        "PATH": f"{project}/bin:{os.environ['PATH']}",
        "NOTES": str(project / "notes"),
        "TMPDIR": str(project / "tmp"),
    }


def asked(project: Path) -> list[str]:
    """The calls of docker."""
    notes = project / "notes"
    return notes.read_text().splitlines() if notes.exists() else []


def built(project: Path, number: int = 1) -> Path:
    """A copy of the folder that docker's call of this number was given to build."""
    return project / f"notes.{number}"


def package_files(folder: Path) -> dict[str, bytes]:
    """What the worker's package consists of, below `folder`."""
    package = folder / "distributed_something"
    found = [package / "__init__.py", *(package / "worker").rglob("*")]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in found
        if path.is_file() and path.suffix != ".pyc"
    }


def say(project: Path, text: str) -> None:
    """Adds lines to the config; the last word of a constant counts."""
    with (project / "config.py").open("a") as config:
        config.write(f"\n{text}\n")


def test_the_untouched_template_builds_and_pushes_its_image(project: Path) -> None:
    assert make(project, "push").returncode == 0
    build, push = asked(project)
    assert build.startswith("build --build-arg BASE_IMAGE=debian:bookworm-slim ")
    assert " --tag user/distributed-something:latest " in build
    assert push == "push user/distributed-something:latest"


def test_an_image_is_built_of_the_worker_folder_and_the_workers_package_alone(project: Path) -> None:
    (project / "distributed_something" / "worker" / "__pycache__").mkdir()
    assert make(project, "build").returncode == 0
    folder = built(project)
    for path in (path for path in (ROOT / "worker").rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert (folder / path.relative_to(ROOT / "worker")).read_bytes() == path.read_bytes()
    package = package_files(ROOT)
    assert package_files(folder) == package
    assert {path.relative_to(folder).as_posix() for path in (folder / "distributed_something").rglob("*.py")} <= set(
        package
    )
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize("target", ["build", "push"])
def test_a_config_that_names_another_image_stops_make_before_docker_is_asked(project: Path, target: str) -> None:
    say(project, "DOCKERHUB_TAG = 'ada/cells:2'")
    done = make(project, target)
    assert done.returncode != 0
    assert "config.py: DOCKERHUB_TAG: 'ada/cells:2' is not the image that the Makefile builds" in done.stderr
    assert "'user/distributed-something:latest'" in done.stderr
    assert asked(project) == []


def test_names_that_agree_build_whatever_they_are(project: Path) -> None:
    say(project, "DOCKERHUB_TAG = 'registry.example.org/ada/cells:2'")
    assert make(project, "build", "user=registry.example.org/ada", "project=cells", "tag=2").returncode == 0
    assert "--tag registry.example.org/ada/cells:2 " in asked(project)[0]


def test_a_name_without_a_tag_means_latest_as_docker_reads_it(project: Path) -> None:
    say(project, "DOCKERHUB_TAG = 'ada/cells'")
    assert make(project, "build", "user=ada", "project=cells").returncode == 0
    assert make(project, "build", "user=ada", "project=cells", "tag=2").returncode != 0
    assert len(asked(project)) == 1


@pytest.mark.parametrize("said", ["'True'", "True", "'False'", "False"])
def test_the_image_is_asked_for_s3fs_as_the_config_says(project: Path, said: str) -> None:
    say(project, f"MOUNT_S3 = {said}")
    assert make(project, "build").returncode == 0
    word = said.strip("'")
    assert f"--build-arg MOUNT_S3={word} " in asked(project)[0]


@pytest.mark.parametrize("text", ["APP_NAME = ", "1 / 0"])
def test_a_config_that_is_no_python_is_told_in_one_line(project: Path, text: str) -> None:
    say(project, text)
    done = make(project, "build")
    assert done.returncode != 0
    assert "config.py cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked(project) == []


@pytest.fixture
def example(project: Path) -> Path:
    """An example in the project, with files of its own for each place that the image has for them."""
    (project / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "build.sh", project / "examples")
    own = project / "examples" / "cells" / "worker"
    (own / "scripts").mkdir(parents=True)
    for name, text in (
        ("Dockerfile", "FROM cells:2"), ("generic-worker.py", "own"), ("naming.py", "own"),
        ("requirements-own.txt", "own"), ("scripts/say.sh", "own"),
    ):  # fmt: skip
        (own / name).write_text(text)
    (own.parent / "config.py").write_text("DOCKERHUB_TAG = 'ada/cells:2'\nMOUNT_S3 = 'True'\n")
    return own


def test_an_examples_image_is_its_programs_with_the_worker_and_its_own_files_on_top(
    project: Path, example: Path
) -> None:
    assert make(project, "push", "EXAMPLE=cells").returncode == 0
    program, worker, push = asked(project)
    assert program == "build --tag ada/cells:2-program examples/cells/worker"
    assert worker.startswith("build --build-arg BASE_IMAGE=ada/cells:2-program --build-arg MOUNT_S3=True ")
    assert " --tag ada/cells:2 " in worker
    assert push == "push ada/cells:2"
    folder = built(project, 2)
    for own in (path.relative_to(example) for path in example.rglob("*") if path.is_file()):
        text = (folder / own).read_text()
        assert text == ((ROOT / "worker" / own).read_text() if own.name == "Dockerfile" else "own")
    assert package_files(folder) == package_files(ROOT)


def test_an_example_is_built_on_another_base_and_with_other_options_where_they_are_given(
    project: Path, example: Path
) -> None:
    options = ("base=local/cells", "docker_build=docker build --network host")
    assert make(project, "build", "EXAMPLE=cells", *options).returncode == 0
    (worker,) = asked(project)
    assert worker.startswith("build --network host --build-arg BASE_IMAGE=local/cells ")


@pytest.mark.parametrize("code", ["0", "1"])
@pytest.mark.parametrize("words", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_nothing_of_a_build_is_left(project: Path, example: Path, words: tuple[str, ...], code: str) -> None:
    before = sorted(path for path in project.rglob("*") if "notes" not in path.name)
    assert (make(project, "build", *words, DOCKER_EXIT=code).returncode == 0) == (code == "0")
    assert len(asked(project)) == 1
    assert sorted(path for path in project.rglob("*") if not str(path).startswith(str(project / "notes"))) == before


@pytest.mark.parametrize("words", [(), ("EXAMPLE=cells", "base=local/cells")], ids=["own", "example"])
def test_ctrl_c_leaves_nothing_of_a_build(project: Path, example: Path, words: tuple[str, ...]) -> None:
    command = ["make", f"PYTHON={sys.executable}", "build", *words]
    env = environment(project) | {"DOCKER_WAITS": "yes"}
    making = subprocess.Popen(command, cwd=project, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_for(lambda: bool(asked(project)))
    os.killpg(making.pid, signal.SIGINT)
    assert making.wait(120) != 0
    wait_for(lambda: not list((project / "tmp").iterdir()))


@pytest.mark.parametrize(("name", "text"), [("cells", "1 / 0"), ("no-such-example", "")])
def test_an_example_whose_config_cannot_be_read_is_told_in_one_line(
    project: Path, example: Path, name: str, text: str
) -> None:
    (example.parent / "config.py").write_text(text)
    done = make(project, "build", f"EXAMPLE={name}")
    assert done.returncode != 0
    assert f"examples/{name}/config.py cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked(project) == []


def test_a_build_that_failed_fails_make(project: Path, example: Path) -> None:
    assert make(project, "build", "EXAMPLE=cells", DOCKER_EXIT="1").returncode != 0
    assert len(asked(project)) == 1
