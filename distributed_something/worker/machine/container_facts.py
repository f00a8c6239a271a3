"""Facts about this container that do not change while it runs, for the records of its jobs."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from distributed_something.worker.machine.metadata import build_direct_opener
from distributed_something.worker.version import VERSION

CGROUP_FOLDER = Path("/sys/fs/cgroup")  # inside a container, this is the container's own control group
LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")  # cgroup v2; cgroup v1
# Without a limit, cgroup v2 says `max`, and cgroup v1 the largest multiple of the page size below 2 ** 63.
MIN_UNLIMITED_BYTES = 2**62
TASK_METADATA_VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
TASK_METADATA_TIMEOUT_SECONDS = 2.0
TASK_METADATA_ATTEMPTS = 3  # the agent of a machine that is still starting may respond slowly
MAX_TASK_METADATA_BYTES = 256 * 1024  # limit for a response, which has a few kilobytes
# In the local cloud, several containers have the same host name, so it gives each of them a name of its own.
LOCAL_NAME_VARIABLE = "LOCAL_CONTAINER"


@dataclass(frozen=True)
class ContainerFacts:
    """What a record says about the container that ran the job.

    `container` is the container's name, in the characters that an S3 key and a file name may have. None means unknown
    or, for the memory limit, no limit. See `read_image_digest` for the meaning of `image_digest`.
    """

    container: str = ""
    memory_limit_bytes: int | None = None
    image_digest: str | None = None
    worker_version: str = VERSION


def read_container_facts(env: Mapping[str, str] = os.environ, cgroup: Path = CGROUP_FOLDER) -> ContainerFacts:
    """Return this container's facts. A fact that cannot be read is None, because no job may fail for it."""
    return ContainerFacts(get_container_name(env), read_memory_limit(cgroup), read_image_digest(env))


def get_container_name(
    env: Mapping[str, str] = os.environ, get_host_name: Callable[[], str] = socket.gethostname
) -> str:
    """Return the container's name: its host name, which is the first part of its Docker ID."""
    return re.sub(r"[^\w.-]", "-", env.get(LOCAL_NAME_VARIABLE) or get_host_name(), flags=re.ASCII)


def read_memory_limit(cgroup: Path = CGROUP_FOLDER) -> int | None:
    """Return the container's memory limit in bytes, or None if it has none or the limit cannot be read."""
    for name in LIMIT_FILES:
        try:
            text = (cgroup / name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        return int(text) if text.isdecimal() and int(text) < MIN_UNLIMITED_BYTES else None
    return None


def read_image_digest(env: Mapping[str, str] = os.environ) -> str | None:
    """Return the digest of the image that this container runs, such as `sha256:…`, or None if it is unknown.

    On ECS, this is `ImageID` in the container's metadata. The ECS Developer Guide ("Amazon ECS task metadata V4 JSON
    response") calls it the SHA-256 digest of the image manifest, with which the image can be pulled as
    `repository-url/image@sha256:digest`. On EC2, the agent takes it from Docker's description of the local image (`Id`
    in `docker image inspect`); unless Docker uses the containerd image store, this is the digest of the image's
    configuration. Both change exactly when the image's content changes.

    Elsewhere, the environment variable IMAGE_DIGEST may contain the digest.
    """
    digest = _fetch_task_metadata(env).get("ImageID")
    return digest if isinstance(digest, str) and digest else env.get("IMAGE_DIGEST") or None


def _fetch_task_metadata(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the container's metadata from the ECS agent; empty outside ECS or if the agent does not respond."""
    url = env.get(TASK_METADATA_VARIABLE, "")
    for _ in range(TASK_METADATA_ATTEMPTS if url.startswith("http://") else 0):
        with suppress(OSError, HTTPException, ValueError):
            with build_direct_opener().open(url, timeout=TASK_METADATA_TIMEOUT_SECONDS) as response:
                document = json.loads(response.read(MAX_TASK_METADATA_BYTES)) if response.status == 200 else None
            if isinstance(document, dict):
                return document
    return {}
