"""Looks up which image a name such as `user/project:tag` stands for."""

from __future__ import annotations

from typing import Any

from distributed_something.core.errors import AWSError
from distributed_something.core.image_name import parse_image_reference
from distributed_something.diagnose.check.container_image.ecr import EcrImage
from distributed_something.diagnose.check.container_image.http import Fetch
from distributed_something.diagnose.check.container_image.manifests import ImageLookupError
from distributed_something.diagnose.check.container_image.registry import RegistryImage


def find_image_digest(name: str, region: str, ecr: Any, fetch: Fetch) -> str | None:
    """Return the digest of the image's manifest or index, such as `sha256:…`; None if it cannot be looked up.

    `region`: of the client `ecr`.
    """
    image = parse_image_reference(name)
    if image is None or (image.ecr and image.ecr[1] != region):
        return None
    if image.digest:
        return image.digest
    try:
        return (EcrImage(ecr, image, fetch) if image.ecr else RegistryImage(image, fetch)).read_digest()
    except (ImageLookupError, *AWSError):
        return None
