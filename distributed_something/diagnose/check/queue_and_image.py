"""Checks the container image and the job queues."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code
from distributed_something.core.image_name import ContainerImageReference, parse_image_reference
from distributed_something.core.text import format_count
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts

IMAGE_CONFIG_TIMEOUT_SECONDS = 20  # enough, because an image config is only a few kB
_INDEX_MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFEST_MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_EC2_ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64", "386": "i386"}
_MISSING_REPOSITORY_CODES = {"RepositoryNotFoundException"}


def check_container_image(lookups: Lookups) -> Iterator[Finding]:
    """Check the image name and, if the image is in this region's ECR, that it exists and runs on the machines."""
    tag = lookups.settings.DOCKERHUB_TAG
    image = parse_image_reference(tag)
    if image is None:
        yield build_wrong_finding(
            "image",
            f"{tag!r} is not an image name",
            "write DOCKERHUB_TAG as user/project:tag, with user and project in lowercase",
            is_user_error=True,
        )
    elif image.ecr is None:
        yield build_ok_finding("image", f"{tag} is a valid name (images outside ECR are not looked up)")
    elif image.ecr[1] != lookups.settings.AWS_REGION:
        yield build_warning_finding(
            "image",
            f"{tag} is in {image.ecr[1]} and was not looked up there; you pay for the transfer to each machine",
            f"push it to ECR in {lookups.settings.AWS_REGION}",
        )
    else:
        architectures = find_ecr_architectures(lookups.clients.ecr, image, download_image_config)
        yield from judge_container_image(tag, architectures, list_machine_architectures(lookups))


def find_ecr_architectures(ecr: Any, image: ContainerImageReference, fetch: Callable[[str], bytes]) -> set[str] | None:
    """Return the architectures of an image in ECR, under the names that EC2 uses.

    The set is empty if the image does not declare its architecture; the result is None if the image does not exist.
    Makes at most two calls and one download of a few kB. Other AWS errors are not caught.
    """
    assert image.ecr is not None, "the caller passes only images in ECR"
    repository = {"registryId": image.ecr[0], "repositoryName": image.path}
    try:
        response = ecr.batch_get_image(
            **repository, imageIds=[image.which], acceptedMediaTypes=[*_INDEX_MEDIA_TYPES, *_MANIFEST_MEDIA_TYPES]
        )
    except ClientError as error:
        if get_error_code(error) in _MISSING_REPOSITORY_CODES:
            return None
        raise
    if not response.get("images"):
        return None
    manifest = _parse_json_object(response["images"][0].get("imageManifest", ""))
    if "manifests" in manifest:
        return _normalize_architectures(
            platform_manifest.get("platform", {}).get("architecture") for platform_manifest in manifest["manifests"]
        )
    digest = manifest.get("config", {}).get("digest")
    if not digest:
        return set()
    url = ecr.get_download_url_for_layer(**repository, layerDigest=digest)["downloadUrl"]
    return _normalize_architectures([_parse_json_object(fetch(url)).get("architecture")])


def download_image_config(url: str) -> bytes:
    """Return the image config at a URL that ECR returned; empty bytes if it cannot be downloaded."""
    try:
        with urllib.request.urlopen(url, timeout=IMAGE_CONFIG_TIMEOUT_SECONDS) as response:
            return bytes(response.read(1 << 20))
    except (OSError, ValueError):
        return b""


def judge_container_image(
    name: str, architectures: set[str] | None, machine_architectures: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    """Check that the image exists and that every machine type can run it.

    `architectures`: the image's architectures, or None if the image is not in ECR. `machine_architectures`: the
    architectures that each machine type supports.
    """
    unsuitable_types = sorted(
        type_name
        for type_name, supported in machine_architectures.items()
        if architectures and not architectures & supported
    )
    architecture_list = ", ".join(sorted(architectures or ()))
    if architectures is None:
        yield build_wrong_finding(
            "image", f"{name} is not in ECR", "push it (make push), or correct DOCKERHUB_TAG", is_user_error=True
        )
    elif unsuitable_types:
        yield build_wrong_finding(
            "image",
            f"{name} is for {architecture_list}, which {', '.join(unsuitable_types)} cannot run",
            "build it for their processors (docker build --platform), or choose another MACHINE_TYPE",
            is_user_error=True,
        )
    else:
        yield build_ok_finding("image", f"{name} is in ECR{', for ' + architecture_list if architecture_list else ''}")


def list_machine_architectures(lookups: Lookups) -> dict[str, frozenset[str]]:
    """Return the architectures that each machine type in the config or Fleet file supports, keyed by type."""
    return {name: machine_type.architectures for name, machine_type in lookups.types.value.items()}


def check_job_queues(lookups: Lookups) -> Iterator[Finding]:
    """Check that the queues exist, how many jobs they contain, and that failed jobs go to the dead-letter queue."""
    settings = lookups.settings
    machines = settings.CLUSTER_MACHINES
    yield from judge_job_queue(settings.SQS_QUEUE_NAME, lookups.job_queue.value, machines, settings.slots // machines)
    name = settings.SQS_DEAD_LETTER_QUEUE
    if lookups.job_queue.value and lookups.job_queue.value.dead_letter_queue != name:
        actual_name = lookups.job_queue.value.dead_letter_queue or "no dead-letter queue"
        yield build_warning_finding(
            "queue",
            f"failed jobs should go to {name}, but they go to {actual_name}",
            "run setup, which corrects it",
        )
    yield from judge_dead_letter_queue(name, lookups.dead_letter_queue.value, settings.APP_NAME)


def judge_job_queue(name: str, queue: QueueFacts | None, machines: int, slots: int) -> Iterator[Finding]:
    """Check that the queue exists and has enough jobs to keep every machine busy (`slots`: slots per machine)."""
    if queue is None:
        yield build_wrong_finding("queue", f"there is no queue {name}", "run setup first")
        return
    counts = queue.counts
    details = {"waiting": counts.waiting, "running": counts.running}
    message = f"{format_count(counts.waiting, 'waiting job')} in {name}, {counts.running:,} leased by workers"
    if counts.jobs == 0:
        yield build_warning_finding(
            "queue", f"{name} has no jobs, so the machines would be idle", "run submitJob first", details=details
        )
    elif counts.jobs <= (machines - 1) * slots:
        yield build_warning_finding(
            "queue",
            f"{message}, but {machines * slots:,} could run at once, so some machines would be idle",
            f"lower CLUSTER_MACHINES to {-(-counts.jobs // slots)}, unless you will submit more jobs",
            details=details,
        )
    else:
        yield build_ok_finding("queue", message, details=details)


def judge_dead_letter_queue(name: str, queue: QueueFacts | None, app: str) -> Iterator[Finding]:
    """Check that the dead-letter queue exists, and mention messages from earlier runs if it is the app's own."""
    if queue is None:
        yield build_wrong_finding("queue", f"there is no dead-letter queue {name}", "run setup first")
    elif queue.counts.jobs and queue.tags.get("app") in (app, None):
        yield build_ok_finding(
            "queue",
            f"{format_count(queue.counts.jobs, 'message')} of failed jobs of earlier runs in {name}; they are not"
            " counted, but cleanup keeps a queue that contains them",
            "cleanup --failed-too deletes them",
            details={"dead": queue.counts.jobs},
        )


def _normalize_architectures(architectures: Any) -> set[str]:
    return {_EC2_ARCHITECTURES.get(str(name), str(name)) for name in architectures if name and name != "unknown"}


def _parse_json_object(text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
