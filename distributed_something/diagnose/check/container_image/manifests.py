"""Image manifests: what registries answer, and which processors an image is for.

https://github.com/opencontainers/image-spec/blob/main/image-index.md; Docker's own formats have the same keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

INDEX_MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MAX_UNLABELED_MANIFESTS = 4  # an index need not say which platforms its manifests are for; so many are read then
_EC2_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64", "386": "i386"}


class ImageProblem(Enum):
    """Why the manifest of an image could not be read."""

    MISSING = "missing"
    PRIVATE = "private"  # or the repository does not exist: registries do not say which
    RATE_LIMITED = "rate-limited"
    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"  # the registry's answer is not a manifest


class ImageLookupError(Exception):
    """Raised if an image's manifest cannot be read. `reason`: what the registry answered, or ""."""

    def __init__(self, problem: ImageProblem, reason: str = "") -> None:
        super().__init__(problem, reason)
        self.problem, self.reason = problem, reason


class ImageSource(Protocol):
    """An image in a registry. Both methods raise ImageLookupError."""

    def read_manifest(self, digest: str = "") -> dict[str, Any]:
        """Return the image's manifest or index, or one of the manifests in its index."""
        ...

    def read_config(self, digest: str) -> dict[str, Any]:
        """Return the image config, which names the platform of a single image; empty if it cannot be read."""
        ...


def find_architectures(source: ImageSource) -> set[str]:
    """Return the architectures of an image, under the names that EC2 uses; empty if the image does not declare any.

    An image for another system than Linux has names that no machine type has, such as "windows/amd64".

    Raise ImageLookupError if the image does not exist or cannot be read. A single image takes two requests, an index
    that names its platforms takes one.
    """
    manifest = source.read_manifest()
    if isinstance(manifest.get("manifests"), list):
        entries = [entry for entry in manifest["manifests"] if isinstance(entry, dict)]
        platforms = [entry["platform"] for entry in entries if isinstance(entry.get("platform"), dict)]
        unlabeled = [entry["digest"] for entry in entries if "platform" not in entry and _has_digest(entry)]
        others = [source.read_manifest(digest) for digest in unlabeled[:MAX_UNLABELED_MANIFESTS]]
        return _normalize_architectures([*platforms, *(_read_platform(source, other) for other in others)])
    return _normalize_architectures([_read_platform(source, manifest)])


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in `text`; an empty one if there is none."""
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_platform(source: ImageSource, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the object that has a single image's `architecture`: its config or, in Docker's old format, itself."""
    config = manifest.get("config")
    return source.read_config(config["digest"]) if isinstance(config, dict) and _has_digest(config) else manifest


def _has_digest(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("digest"), str) and entry["digest"] != ""


def _normalize_architectures(platforms: Iterable[dict[str, Any]]) -> set[str]:
    """Return the architectures of Linux images or, if there are none, the other platforms, such as "windows/amd64".

    BuildKit's attestations have the platform "unknown". What is not text declares nothing.
    """
    pairs = [(platform.get("os") or "linux", platform.get("architecture")) for platform in platforms]
    names = [(system, name) for system, name in pairs if isinstance(system, str) and isinstance(name, str)]
    names = [(system, name) for system, name in names if name and "unknown" not in (system, name)]
    linux_names = {_EC2_ARCHITECTURES.get(name, name) for system, name in names if system == "linux"}
    return linux_names or {f"{system}/{name}" for system, name in names}
