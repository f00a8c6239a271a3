"""The Docker engine for tests: where there is none they skip and say why; with CI=true they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.paths import ROOT

MAKE_CONTEXT = ROOT / "distributed_something" / "worker" / "image" / "make-context.sh"


def require_engine() -> None:
    """Skips the test without an engine that answers; fails it where CI promised one."""
    reason = _missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI needs a Docker engine: {reason}")
    if reason:
        pytest.skip(f"no Docker engine: {reason}")


def docker(*words: str) -> str:
    """`docker …`; its standard output. Fails the test with docker's own words."""
    done = _docker(*words)
    return done.stdout


def logs_of(container: str) -> str:
    """What a container has said, on both outputs."""
    done = _docker("logs", container)
    return done.stdout + done.stderr


def build(folder: Path, name: str, **arguments: str) -> str:
    """Builds the image of a folder's Dockerfile, whose steps are kept for the next build; `name`. Needs the engine."""
    require_engine()
    given = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
    docker("build", "--network", "host", *given, "--tag", name, str(folder))
    return name


def build_worker(folder: Path, name: str, **arguments: str) -> str:
    """Builds the worker's image with the files of `folder`, which has a worker's Dockerfile, as `make build` does."""
    with TemporaryDirectory() as context:
        subprocess.run([str(MAKE_CONTEXT), context, str(folder)], check=True)
        return build(Path(context), name, **arguments)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def _missing() -> str:
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    asked = ["docker", "info", "--format", "{{.ServerVersion}}"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 and done.stdout.strip() else "it does not answer (is it running? DOCKER_HOST?)"
