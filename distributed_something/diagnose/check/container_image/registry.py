"""Images in Docker Hub, GHCR, quay, and every other registry, read as `docker pull` does without a login.

A registry answers the first request with status 401 and the address of its token service, which gives everyone a token
for public repositories: https://distribution.github.io/distribution/spec/auth/token/

Reading a manifest counts as one of the pulls that Docker Hub limits.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlencode

from distributed_something.core.image_name import ContainerImageReference
from distributed_something.diagnose.check.container_image.http import Fetch, HttpResponse, UnreachableRegistryError
from distributed_something.diagnose.check.container_image.manifests import (
    INDEX_MEDIA_TYPES,
    MANIFEST_MEDIA_TYPES,
    ImageLookupError,
    ImageProblem,
    parse_json_object,
)

DOCKER_HUB = "Docker Hub"
_DOCKER_HUB_URL = "https://registry-1.docker.io"
_DOCKER_HUB_NAMES = {"", "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
_LOCAL_REGISTRY_PATTERN = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?")  # Docker reads these without TLS, too
_ACCEPT = ", ".join((*INDEX_MEDIA_TYPES, *MANIFEST_MEDIA_TYPES))


class RegistryImage:
    """An image in a registry that speaks Docker's protocol. Requests have no credentials of the user."""

    def __init__(self, image: ContainerImageReference, fetch: Fetch) -> None:
        self._image, self._fetch = image, fetch
        self._path = find_repository_path(image)
        self._token = ""

    def read_manifest(self, digest: str = "") -> dict[str, Any]:
        """Return the image's manifest or index. Raise ImageLookupError if there is none, or it cannot be read."""
        image = self._image
        response = self._read(f"manifests/{digest or image.digest or image.tag or 'latest'}")
        manifest = parse_json_object(response.body)
        if not manifest:
            raise ImageLookupError(ImageProblem.UNREADABLE, "the answer is not a manifest")
        return manifest

    def read_digest(self) -> str:
        """Return the digest of the image's manifest or index. Raise ImageLookupError if it cannot be read."""
        response = self._read(f"manifests/{self._image.digest or self._image.tag or 'latest'}")
        return response.headers.get("docker-content-digest") or f"sha256:{hashlib.sha256(response.body).hexdigest()}"

    def read_config(self, digest: str) -> dict[str, Any]:
        """Return the image config; empty if it cannot be read, because the image itself is there."""
        try:
            return parse_json_object(self._read(f"blobs/{digest}").body)
        except ImageLookupError:
            return {}

    def _read(self, name: str) -> HttpResponse:
        url = f"{find_registry_url(self._image.registry)}/v2/{self._path}/{name}"
        try:
            response = self._get(url)
            if response.status == 401 and not self._token:
                self._token = self._request_token(response.headers.get("www-authenticate", ""))
                response = self._get(url)
        except UnreachableRegistryError as error:
            raise ImageLookupError(ImageProblem.UNREACHABLE, str(error)) from None
        _raise_unless_ok(response)
        return response

    def _get(self, url: str) -> HttpResponse:
        return self._fetch(
            url, {"Accept": _ACCEPT} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        )

    def _request_token(self, challenge: str) -> str:
        """Return a token for a public repository. `challenge`: the header that says where to get it."""
        scheme, _, parameters = challenge.strip().partition(" ")
        values = dict(re.findall(r'(\w+)="([^"]*)"', parameters))
        realm = values.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", "http://")):
            raise ImageLookupError(ImageProblem.PRIVATE)
        query = {"scope": f"repository:{self._path}:pull"}
        query |= {"service": values["service"]} if "service" in values else {}
        response = self._fetch(f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}", {})
        if response.status in (400, 404):  # this is how some token services refuse a repository
            raise ImageLookupError(ImageProblem.PRIVATE)
        _raise_unless_ok(response)
        content = parse_json_object(response.body)
        token = content.get("token") or content.get("access_token")
        if not isinstance(token, str):
            raise ImageLookupError(ImageProblem.PRIVATE)
        return token


def find_registry_url(registry: str) -> str:
    """Return the address of a registry. `registry`: the host in the image's name, or "" for Docker Hub."""
    if registry in _DOCKER_HUB_NAMES:
        return _DOCKER_HUB_URL
    return f"{'http' if _LOCAL_REGISTRY_PATTERN.fullmatch(registry) else 'https'}://{registry}"


def find_registry_name(registry: str) -> str:
    """Return the name of a registry for messages."""
    return DOCKER_HUB if registry in _DOCKER_HUB_NAMES else registry


def find_repository_path(image: ContainerImageReference) -> str:
    """Return the path of the image's repository; Docker Hub's own images, such as `debian`, are in `library`."""
    is_official = image.registry in _DOCKER_HUB_NAMES and "/" not in image.path
    return f"library/{image.path}" if is_official else image.path


def _raise_unless_ok(response: HttpResponse) -> None:
    """Raise ImageLookupError for every status except 200.

    A 404 means that the image is missing only if it comes from a registry, which then lists errors as JSON.
    """
    if response.status == 200:
        return
    if response.status in (401, 403):
        raise ImageLookupError(ImageProblem.PRIVATE)
    if response.status == 404 and parse_json_object(response.body).get("errors"):
        raise ImageLookupError(ImageProblem.MISSING)
    if response.status == 429:
        raise ImageLookupError(ImageProblem.RATE_LIMITED)
    raise ImageLookupError(ImageProblem.UNREADABLE, f"HTTP status {response.status}")
