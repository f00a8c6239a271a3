"""The name of a container image: what a config takes, what a registry takes, and what a Makefile can hold.

Each is a part of the one before: `IMAGE_NAME_FORMAT` has the characters that names consist of, so a config with one is
read; `parse_image_reference` reads the name as Docker does, and `check` names one that no registry takes;
`parse_project_image` takes the names that a project's own image can have: `user`, `project`, and `tag` of a Makefile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from distributed_something.core.names import NameFormat

IMAGE_NAME_FORMAT = NameFormat(r"[a-z0-9][a-zA-Z0-9._/:@-]{0,254}", "an image's name, such as 'user/project:tag'")
DEFAULT_TAG = "latest"
_ECR_REGISTRY_PATTERN = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
# Docker's reference grammar: host, maybe with a port; the parts of a repository's name; tag; digest.
_REGISTRY_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?")
_REPOSITORY_PART_PATTERN = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY_PATTERN = re.compile(rf"{_REPOSITORY_PART_PATTERN}(?:/{_REPOSITORY_PART_PATTERN})*")
_TAG_PATTERN = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ContainerImageReference:
    """A container image's name in its parts. `tag` or `digest` says which; neither is 'latest'."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def ecr(self) -> tuple[str, str] | None:
        """Account and region where the registry is one of ECR's."""
        found = _ECR_REGISTRY_PATTERN.fullmatch(self.registry)
        return (found[1], found[2]) if found else None

    @property
    def which(self) -> dict[str, str]:
        """As ECR wants to be asked."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or DEFAULT_TAG}


class ProjectImageName(NamedTuple):
    """The name of a project's own image. `user` may hold a registry's host."""

    user: str
    project: str
    tag: str

    def __str__(self) -> str:
        return f"{self.user}/{self.project}:{self.tag}"


def parse_image_reference(name: str) -> ContainerImageReference | None:
    """The parts of an image's name; None where no registry would take it."""
    name, at, digest = name.partition("@")
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_host else ("", name)
    path, _, tag = path.partition(":")
    right = (
        (not registry or _REGISTRY_PATTERN.fullmatch(registry))
        and _REPOSITORY_PATTERN.fullmatch(path)
        and (not tag or _TAG_PATTERN.fullmatch(tag))
        and (not at or _DIGEST_PATTERN.fullmatch(digest))
    )
    return ContainerImageReference(registry, path, tag, digest) if right else None


def parse_project_image(text: str) -> ProjectImageName | None:
    """The parts of an image's name; None where it is none that the Makefile can hold. Without a tag it is `latest`."""
    found = parse_image_reference(text)
    if found is None or found.digest or found.registry != found.registry.lower() or text.endswith(":"):
        return None
    if not IMAGE_NAME_FORMAT.fits(text):  # too long
        return None
    user, slash, project = f"{found.registry}/{found.path}".strip("/").rpartition("/")
    return ProjectImageName(user, project, found.tag or DEFAULT_TAG) if slash else None
