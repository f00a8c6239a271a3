"""Checks of the work: the image that would run, and the queue that it would empty."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code
from distributed_something.core.image_name import ContainerImageReference, parse_image_reference
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts

IMAGE_CONFIG_TIMEOUT_SECONDS = 20  # for an image's config, a few kB
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


def check_container_image(facts: Lookups) -> Iterator[Finding]:
    """The image's name, and in ECR the image itself."""
    written = facts.settings.DOCKERHUB_TAG
    name = parse_image_reference(written)
    if name is None:
        yield build_wrong_finding(
            "image",
            f"{written} is no image's name",
            "write DOCKERHUB_TAG as user/project:tag, with small letters in user and project",
            by_user=True,
        )
    elif name.ecr is None:
        yield build_ok_finding(
            "image", f"{written} has the form of an image's name; that it is there is not looked up outside ECR"
        )
    elif name.ecr[1] != facts.settings.AWS_REGION:
        yield build_warning_finding(
            "image",
            f"{written} is in {name.ecr[1]}: each machine pays for the transfer, and it was not looked up there",
            f"push it to ECR in {facts.settings.AWS_REGION}",
        )
    else:
        found = find_ecr_architectures(facts.clients.ecr, name, download_image_config)
        yield from judge_container_image(written, found, list_machine_architectures(facts))


def find_ecr_architectures(ecr: Any, name: ContainerImageReference, fetch: Callable[[str], bytes]) -> set[str] | None:
    """The architectures of an image in ECR, in EC2's words (empty: it does not say); None where it is not there.

    Two calls and a download of a few kB at most. Raises botocore's errors.
    """
    assert name.ecr is not None  # looked at by the caller
    place = {"registryId": name.ecr[0], "repositoryName": name.path}
    try:
        answer = ecr.batch_get_image(
            **place, imageIds=[name.which], acceptedMediaTypes=[*_INDEX_MEDIA_TYPES, *_MANIFEST_MEDIA_TYPES]
        )
    except ClientError as error:
        if get_error_code(error) in _MISSING_REPOSITORY_CODES:
            return None
        raise
    if not answer.get("images"):
        return None
    manifest = _parse_json_object(answer["images"][0].get("imageManifest", ""))
    if "manifests" in manifest:
        return _normalize_architectures(one.get("platform", {}).get("architecture") for one in manifest["manifests"])
    digest = manifest.get("config", {}).get("digest")
    if not digest:
        return set()
    url = ecr.get_download_url_for_layer(**place, layerDigest=digest)["downloadUrl"]
    return _normalize_architectures([_parse_json_object(fetch(url)).get("architecture")])


def download_image_config(url: str) -> bytes:
    """What lies at an address that ECR gave out; nothing where it cannot be had."""
    try:
        with urllib.request.urlopen(url, timeout=IMAGE_CONFIG_TIMEOUT_SECONDS) as answer:
            return bytes(answer.read(1 << 20))
    except (OSError, ValueError):
        return b""


def judge_container_image(
    name: str, found: set[str] | None, machines: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    """`found`: the image's architectures, None where it is not in ECR. `machines`: those of each type."""
    unfit = sorted(kind for kind, has in machines.items() if found and not found & has)
    said = ", ".join(sorted(found or ()))
    if found is None:
        yield build_wrong_finding(
            "image", f"{name} is not in ECR", "push it (make push), or correct DOCKERHUB_TAG", by_user=True
        )
    elif unfit:
        kinds = f"{name} is for {said}, which {', '.join(unfit)} cannot run"
        yield build_wrong_finding(
            "image",
            kinds,
            "build it for their processors (docker build --platform), or choose other MACHINE_TYPE",
            by_user=True,
        )
    else:
        yield build_ok_finding("image", f"{name} is in ECR{', for ' + said if said else ''}")


def list_machine_architectures(facts: Lookups) -> dict[str, frozenset[str]]:
    return {name: machine.architectures for name, machine in facts.types.value.items()}


def check_job_queues(facts: Lookups) -> Iterator[Finding]:
    """The queue and how many jobs wait in it."""
    settings = facts.settings
    machines = settings.CLUSTER_MACHINES
    yield from judge_job_queue(settings.SQS_QUEUE_NAME, facts.job_queue.value, machines, settings.slots // machines)
    name = settings.SQS_DEAD_LETTER_QUEUE
    if facts.job_queue.value and facts.job_queue.value.feeds != name:
        yield build_warning_finding(
            "queue",
            f"jobs that fail do not go to {name} but to {facts.job_queue.value.feeds or 'no queue'}",
            "run setup, which corrects it",
        )
    yield from judge_dead_letter_queue(name, facts.dead_queue.value)


def judge_job_queue(name: str, found: QueueFacts | None, machines: int, slots: int) -> Iterator[Finding]:
    """`slots`: jobs that a machine runs at once."""
    if found is None:
        yield build_wrong_finding("queue", f"there is no queue {name}", "run setup first")
        return
    counts = found.counts
    details = {"waiting": counts.waiting, "running": counts.running}
    said = f"{counts.waiting:,} jobs wait in {name}, {counts.running:,} are held by workers"
    if counts.jobs == 0:
        yield build_warning_finding(
            "queue", f"no job waits in {name}: machines would start for nothing", "run submitJob first", details=details
        )
    elif counts.jobs <= (machines - 1) * slots:
        yield build_warning_finding(
            "queue",
            f"{said}, but {machines * slots:,} could run at once: some machines would idle",
            f"lower CLUSTER_MACHINES to {-(-counts.jobs // slots)}, unless more jobs come",
            details=details,
        )
    else:
        yield build_ok_finding("queue", said, details=details)


def judge_dead_letter_queue(name: str, found: QueueFacts | None) -> Iterator[Finding]:
    """The dead-letter queue: jobs that failed before this run."""
    if found is None:
        yield build_wrong_finding("queue", f"there is no dead-letter queue {name}", "run setup first")
    elif found.counts.jobs:
        yield build_warning_finding(
            "queue",
            f"{found.counts.jobs:,} failed jobs of an earlier run are in {name}",
            "look at them; they will be counted with this run's",
            details={"dead": found.counts.jobs},
        )


def _normalize_architectures(architectures: Any) -> set[str]:
    return {_EC2_ARCHITECTURES.get(str(one), str(one)) for one in architectures if one and one != "unknown"}


def _parse_json_object(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
