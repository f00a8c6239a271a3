"""Images in the account's own ECR, read with boto3: reading them over HTTP would need ECR's password."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code
from distributed_something.core.image_name import ContainerImageReference
from distributed_something.diagnose.check.container_image.http import Fetch, UnreachableRegistryError
from distributed_something.diagnose.check.container_image.manifests import (
    INDEX_MEDIA_TYPES,
    MANIFEST_MEDIA_TYPES,
    ImageLookupError,
    ImageProblem,
    parse_json_object,
)

_MISSING_REPOSITORY_CODES = {"RepositoryNotFoundException"}


class EcrImage:
    """An image in ECR. AWS errors other than a missing repository are not caught.

    `ecr`: the client of the image's region. `fetch`: downloads the image config, a few kB, from ECR's URL.
    """

    def __init__(self, ecr: Any, image: ContainerImageReference, fetch: Fetch) -> None:
        assert image.ecr is not None, "the caller passes only images in ECR"
        self._ecr, self._image, self._fetch = ecr, image, fetch
        self._repository = {"registryId": image.ecr[0], "repositoryName": image.path}

    def read_manifest(self, digest: str = "") -> dict[str, Any]:
        """Return the image's manifest or index. Raise ImageLookupError if the image or its repository is missing."""
        return parse_json_object(self._get_image(digest).get("imageManifest", ""))

    def read_digest(self) -> str:
        """Return the digest of the image's manifest or index. Raise ImageLookupError if there is none."""
        return str(self._get_image()["imageId"]["imageDigest"])

    def _get_image(self, digest: str = "") -> dict[str, Any]:
        try:
            response = self._ecr.batch_get_image(
                **self._repository,
                imageIds=[{"imageDigest": digest} if digest else self._image.which],
                acceptedMediaTypes=[*INDEX_MEDIA_TYPES, *MANIFEST_MEDIA_TYPES],
            )
        except ClientError as error:
            if get_error_code(error) in _MISSING_REPOSITORY_CODES:
                raise ImageLookupError(ImageProblem.MISSING) from None
            raise
        if not response.get("images"):
            raise ImageLookupError(ImageProblem.MISSING)
        image: dict[str, Any] = response["images"][0]
        return image

    def read_config(self, digest: str) -> dict[str, Any]:
        """Return the image config; empty if it cannot be downloaded."""
        url = self._ecr.get_download_url_for_layer(**self._repository, layerDigest=digest)["downloadUrl"]
        try:
            return parse_json_object(self._fetch(url, {}).body)
        except UnreachableRegistryError:
            return {}
