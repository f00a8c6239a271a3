"""Names of container images, checked at three levels of strictness, and those that the published system's users have.

`IMAGE_NAME_FORMAT` checks only the characters; the name in every config must match it. `parse_image_reference` applies
Docker's grammar; `check` reports names that do not follow it. `parse_project_image` accepts only names for a project's
own image, which the Makefile builds from `user`, `project`, and `tag`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from distributed_something.core.names import NameFormat

IMAGE_NAME_FORMAT = NameFormat(
    r"[a-z0-9][a-zA-Z0-9._/:@-]{0,254}", "an image name", "write one such as 'user/project:tag'"
)
DEFAULT_TAG = "latest"
_ECR_REGISTRY_PATTERN = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
# Docker's reference grammar: host with an optional port, parts of the repository's name, tag, digest.
_REGISTRY_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?")
_REPOSITORY_PART_PATTERN = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY_PATTERN = re.compile(rf"{_REPOSITORY_PART_PATTERN}(?:/{_REPOSITORY_PART_PATTERN})*")
_TAG_PATTERN = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKER_HUB_HOSTS = ("", "docker.io", "index.docker.io", "registry-1.docker.io")
# Docker Hub repositories of the published implementations, and the program's own image that each is built from. A tag
# of the first one, such as 2.0.0_4.2.4, ends with the version of CellProfiler.
_PUBLISHED_REPOSITORY = re.compile(
    r"(cellprofiler|erinweisbart|distributedscience)/"
    r"distributed-(cellprofiler|fiji|omezarrcreator|bioformats2raw|helloworld|something)"
)
_PUBLISHED_BASES = {
    "cellprofiler": "cellprofiler/cellprofiler:4.2.8",
    "fiji": "fiji/fiji:fiji-openjdk-8",
    "omezarrcreator": "openmicroscopy/bioformats2raw:0.9.1",
    "bioformats2raw": "openmicroscopy/bioformats2raw:0.9.1",
}


@dataclass(frozen=True)
class ContainerImageReference:
    """The parts of a container image's name. Without a `tag` or `digest`, the name means the tag `latest`."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def ecr(self) -> tuple[str, str] | None:
        """Return the account and region if the registry belongs to ECR; otherwise, return None."""
        match = _ECR_REGISTRY_PATTERN.fullmatch(self.registry)
        return (match[1], match[2]) if match else None

    @property
    def which(self) -> dict[str, str]:
        """Return the image as ECR's API identifies it."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or DEFAULT_TAG}


class ProjectImageName(NamedTuple):
    """The name of a project's own image. `user` may include a registry's host."""

    user: str
    project: str
    tag: str

    def __str__(self) -> str:
        return f"{self.user}/{self.project}:{self.tag}"


def parse_image_reference(name: str) -> ContainerImageReference | None:
    """Return the parts of an image's name, or None if it does not follow Docker's grammar."""
    name, at, digest = name.partition("@")
    first, slash, remainder = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, remainder) if is_host else ("", name)
    path, _, tag = path.partition(":")
    is_valid = (
        (not registry or _REGISTRY_PATTERN.fullmatch(registry))
        and _REPOSITORY_PATTERN.fullmatch(path)
        and (not tag or _TAG_PATTERN.fullmatch(tag))
        and (not at or _DIGEST_PATTERN.fullmatch(digest))
    )
    return ContainerImageReference(registry, path, tag, digest) if is_valid else None


def find_published_base(name: str) -> str | None:
    """Return the program's image that a published implementation's image is built from; None for any other image.

    The published images contain the published system's worker. "" if the implementation has no program of its own.
    """
    image = parse_image_reference(name)
    match = _PUBLISHED_REPOSITORY.fullmatch(image.path) if image and image.registry in _DOCKER_HUB_HOSTS else None
    if image is None or match is None:
        return None
    version = re.fullmatch(r"[\w.]+_(\d+(?:\.\d+)+)", image.tag) if match[2] == "cellprofiler" else None
    return f"cellprofiler/cellprofiler:{version[1]}" if version else _PUBLISHED_BASES.get(match[2], "")


def parse_project_image(text: str) -> ProjectImageName | None:
    """Return the parts of an image's name, or None if the Makefile cannot express it. The default tag is `latest`."""
    image = parse_image_reference(text)
    if image is None or image.digest or image.registry != image.registry.lower() or text.endswith(":"):
        return None
    if not IMAGE_NAME_FORMAT.fits(text):  # too long
        return None
    user, slash, project = f"{image.registry}/{image.path}".strip("/").rpartition("/")
    return ProjectImageName(user, project, image.tag or DEFAULT_TAG) if slash else None
