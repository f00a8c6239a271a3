"""distributed_something.core.image_name."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ECR_REGISTRY_PATTERN = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_REPOSITORY_PART_PATTERN = (
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"  # of a repository's name, as Docker's reference grammar has it
)
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
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or "latest"}


def parse_image_reference(name: str) -> ContainerImageReference | None:
    """The parts of an image's name; None where no registry would take it."""
    name, _, digest = name.partition("@")
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_host else ("", name)
    path, _, tag = path.partition(":")
    right = (
        _REPOSITORY_PATTERN.fullmatch(path)
        and (not tag or _TAG_PATTERN.fullmatch(tag))
        and (not digest or _DIGEST_PATTERN.fullmatch(digest))
    )
    return ContainerImageReference(registry, path, tag, digest) if right else None
