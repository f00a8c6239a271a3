"""The container engine of this computer, through its own command line (no library is worth a dependency for this).

A file in the cloud's folder says that containers were used, and through which engine: whoever cleans up later, in
another environment perhaps, still finds them, and a project that never used any never pays for asking.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from distributed_something.localcloud.base.errors import LocalCloudError

CONTAINER_LABEL = "localcloud"


def run_docker(*arguments: str, engine: Mapping[str, str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Runs one command of the engine. Raises OSError without a `docker`, TimeoutExpired when it hangs."""
    return subprocess.run(
        ["docker", *arguments], env=build_engine_environment(engine), capture_output=True, text=True, timeout=seconds
    )


def build_engine_environment(engine: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **engine}


def check_engine() -> dict[str, str]:
    """The variables that lead to a running engine. Raises LocalCloudError where none answers."""
    engine = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    if not shutil.which("docker"):
        raise LocalCloudError("no container engine: `docker` is not installed; install it, or run without containers")
    try:
        answer = run_docker("version", "--format", "{{.Server.Version}}", engine=engine)
    except subprocess.TimeoutExpired:
        raise LocalCloudError(
            "the container engine does not answer within 30 s; restart Docker and try again"
        ) from None
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LocalCloudError(f"the container engine does not answer ({reason}); start Docker and try again")
    return engine


def has_image(image: str, engine: Mapping[str, str]) -> bool:
    return run_docker("image", "inspect", image, engine=engine).returncode == 0


def save_engine(root: Path, engine: Mapping[str, str]) -> None:
    (root / "engine.json").write_text(json.dumps(dict(engine)))


def delete_containers(root: Path, key: str) -> None:
    """Removes every container of the project `key`, if it ever used any."""
    note = root / "engine.json"
    if not note.exists() or not shutil.which("docker"):
        return
    engine = json.loads(note.read_text())
    listing = run_docker("ps", "--all", "--quiet", "--filter", f"label={CONTAINER_LABEL}={key}", engine=engine)
    if containers := listing.stdout.split():
        run_docker("rm", "--force", "--volumes", *containers, engine=engine)
