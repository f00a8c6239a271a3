"""The container engine on this computer, asked by its own command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from distributed_something.core.errors import UserFacingError


def build_docker_options(container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Of `docker create`. Values travel in the client's environment: no process list shows them."""
    rights = container.get("linuxParameters", {})
    devices = [one["hostPath"] for one in rights.get("devices", [])]
    words = ["--pull", "never", "--network", "host", "--cpu-shares", str(container["cpu"])]
    words += ["--memory", f"{container['memory']}m"]
    words += [word for name in rights.get("capabilities", {}).get("add", []) for word in ("--cap-add", name)]
    words += [word for path in devices for word in ("--device", path)]
    return words + [word for name in env for word in ("--env", name)]


class Docker:
    """The container engine's own command line."""

    def __init__(self, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> None:
        self._run = run

    def ask(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """What it answers; raises UserFacingError where it refuses, or is not there."""
        done = self._run_docker(*words, env=env)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserFacingError(reason, "is the container engine running?", action=f"asking docker to {words[0]}")
        return done.stdout

    def require_image(self, image: str) -> None:
        """Raises UserFacingError where the image is not on this computer: what it would pull may be a stranger's."""
        if self._run_docker("image", "inspect", image).returncode:
            self.ask("version")
            remedy = "make build, or docker pull it, or leave --containers out"
            action = f"running a job in {image}"
            raise UserFacingError("this image is not on this computer", remedy, action=action)

    def _run_docker(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, **(env or {})}
        try:
            return self._run(["docker", *words], env=given, capture_output=True, text=True, check=False)
        except OSError as error:
            remedy, action = "install it, or leave --containers out", f"asking docker to {words[0]}"
            raise UserFacingError(error.strerror or str(error), remedy, action=action) from None
