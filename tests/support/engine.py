"""The Docker engine for tests. Without an engine, tests are skipped with a reason or, with CI=true, fail."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed_something.project.build_image import fill_build_context
from tests.support.missing import skip_or_fail


def require_engine() -> None:
    """Skip the test if no engine responds. With CI=true, fail it instead."""
    if problem := _find_engine_problem():
        skip_or_fail(f"no Docker engine: {problem}")


def run_docker(*words: str) -> str:
    """Run a `docker` command and return its standard output. Fail the test with Docker's messages if it fails."""
    return _docker(*words).stdout


def read_container_logs(container: str) -> str:
    """Return a container's standard output and standard error."""
    result = _docker("logs", container)
    return result.stdout + result.stderr


def build_image(folder: Path, name: str, **arguments: str) -> str:
    """Build an image from a folder's Dockerfile, with build arguments, and return `name`.

    Docker caches the build steps for the next build. Skip the test if no engine responds.
    """
    require_engine()
    options = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
    run_docker("build", "--network", "host", *options, "--tag", name, str(folder))
    return name


def build_worker_image(folder: Path, name: str, **arguments: str) -> str:
    """Add the worker to the image BASE_IMAGE as `make build` does, from a project's worker folder; return `name`."""
    with TemporaryDirectory() as context:
        fill_build_context(Path(context), folder)
        return build_image(Path(context), name, **arguments)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, f"docker {' '.join(words)}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result


def _find_engine_problem() -> str:
    """Return the reason why the engine cannot be used, or an empty string."""
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if result.returncode == 0 and result.stdout.strip():
        return ""
    return "`docker info` failed; start Docker, and check DOCKER_HOST"
