"""The container engine on this computer, which is controlled with the `docker` command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from distributed_something.core.errors import UserFacingError


def build_docker_options(container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Return the options for `docker create`.

    They contain the names of the environment variables but not their values, because a process list would show the
    values.
    """
    linux = container.get("linuxParameters", {})
    devices = [device["hostPath"] for device in linux.get("devices", [])]
    words = ["--pull", "never", "--network", "host", "--cpu-shares", str(container["cpu"])]
    words += ["--memory", f"{container['memory']}m"]
    words += [word for name in linux.get("capabilities", {}).get("add", []) for word in ("--cap-add", name)]
    words += [word for path in devices for word in ("--device", path)]
    return words + [word for name in env for word in ("--env", name)]


class Docker:
    """The `docker` command. `run_process` starts it and has the signature of `subprocess.run`."""

    def __init__(self, run_process: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> None:
        self._run_process = run_process

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Run `docker` with these arguments and return its output. Raise UserFacingError if the command fails."""
        result = self._run_docker(*words, env=env)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserFacingError(reason, "is the container engine running?", action=f"running docker {words[0]}")
        return result.stdout

    def require_image(self, image: str) -> None:
        """Raise UserFacingError if the image is not on this computer.

        It is never pulled, because the registry might have someone else's image under this name.
        """
        if self._run_docker("image", "inspect", image).returncode:
            self.run("version")  # raises if the container engine does not respond
            remedy = "build it with buildImage, get it with docker pull, or leave out --containers"
            action = f"running a job in {image}"
            raise UserFacingError("this image is not on this computer", remedy, action=action)

    def _run_docker(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **(env or {})}
        try:
            return self._run_process(["docker", *words], env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            remedy, action = "install it, or leave out --containers", f"running docker {words[0]}"
            raise UserFacingError(error.strerror or str(error), remedy, action=action) from None
