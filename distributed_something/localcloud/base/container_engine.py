"""Calls this computer's container engine through the `docker` command, which avoids another dependency.

When a project first uses containers, the file `engine.json` in the local cloud's folder records how to reach the
engine. A later cleanup can then find the containers even in a different environment, and a project that never used
containers never calls Docker.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed_something.localcloud.base.errors import LocalCloudError

CONTAINER_LABEL = "localcloud"


def run_docker(*arguments: str, engine: Mapping[str, str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Run one `docker` command. Raise OSError if `docker` is not installed, or TimeoutExpired after `seconds`."""
    return subprocess.run(
        ["docker", *arguments], env=build_engine_environment(engine), capture_output=True, text=True, timeout=seconds,
        start_new_session=True,  # so that Ctrl-C during `stop` does not end it
    )  # fmt: skip


def build_engine_environment(engine: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **engine}


def check_engine() -> dict[str, str]:
    """Return the environment variables that select the engine. Raise LocalCloudError if no engine is running."""
    engine = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    if not shutil.which("docker"):
        raise LocalCloudError("`docker` is not installed; install it, or run without containers")
    try:
        response = run_docker("version", "--format", "{{.Server.Version}}", engine=engine)
    except subprocess.TimeoutExpired:
        raise LocalCloudError(
            "the container engine did not respond within 30 s; restart Docker and try again"
        ) from None
    if response.returncode:
        reason = (response.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LocalCloudError(f"the container engine does not respond ({reason}); start Docker and try again")
    return engine


def inspect_image(image: str, engine: Mapping[str, str]) -> dict[str, Any] | None:
    """Return Docker's description of an image, or None if the image is not on this computer."""
    response = run_docker("image", "inspect", image, engine=engine)
    if response.returncode:
        return None
    try:
        description: dict[str, Any] = json.loads(response.stdout)[0]
    except (ValueError, LookupError):
        return {}
    return description


def get_image_digest(description: Mapping[str, Any]) -> str:
    """Return the digest under which a repository has the image; if no repository has it, the image's own ID.

    `description` is the result of `inspect_image`. Return an empty string if it contains neither.
    """
    digests = [str(name).partition("@")[2] for name in description.get("RepoDigests") or []]
    return next(filter(None, digests), "") or str(description.get("Id") or "")


def save_engine(root: Path, engine: Mapping[str, str]) -> None:
    (root / "engine.json").write_text(json.dumps(dict(engine)))


def delete_containers(root: Path, key: str) -> None:
    """Remove all containers of the project `key`. Do nothing if the project never used containers."""
    engine_file = root / "engine.json"
    if not engine_file.exists() or not shutil.which("docker"):
        return
    engine = json.loads(engine_file.read_text())
    listing = run_docker("ps", "--all", "--quiet", "--filter", f"label={CONTAINER_LABEL}={key}", engine=engine)
    if containers := listing.stdout.split():
        run_docker("rm", "--force", "--volumes", *containers, engine=engine)
