"""Checks of the work: the image that would run, and the queue that it would empty."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from control.errors import code_of
from control.facts import Facts, QueueFacts
from control.findings import Finding, ok, warning, wrong

CONFIG_SECONDS = 20  # for an image's config, a few kB
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ECR = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"  # of a repository's name, as Docker's reference grammar has it
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EC2_NAMES = {"amd64": "x86_64", "arm64": "arm64", "386": "i386"}
_MISSING_REPOSITORY = {"RepositoryNotFoundException"}


@dataclass(frozen=True)
class ImageName:
    """A container image's name in its parts. `tag` or `digest` says which; neither is 'latest'."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def ecr(self) -> tuple[str, str] | None:
        """Account and region where the registry is one of ECR's."""
        found = _ECR.fullmatch(self.registry)
        return (found[1], found[2]) if found else None

    @property
    def which(self) -> dict[str, str]:
        """As ECR wants to be asked."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or "latest"}


def parse(name: str) -> ImageName | None:
    """The parts of an image's name; None where no registry would take it."""
    name, _, digest = name.partition("@")
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_host else ("", name)
    path, _, tag = path.partition(":")
    right = _PATH.fullmatch(path) and (not tag or _TAG.fullmatch(tag)) and (not digest or _DIGEST.fullmatch(digest))
    return ImageName(registry, path, tag, digest) if right else None


def image(facts: Facts) -> Iterator[Finding]:
    """The image's name, and in ECR the image itself."""
    written = facts.settings.DOCKERHUB_TAG
    name = parse(written)
    if name is None:
        yield wrong(
            "image",
            f"{written} is no image's name",
            "write DOCKERHUB_TAG as user/project:tag, with small letters in user and project",
            by_user=True,
        )
    elif name.ecr is None:
        yield ok("image", f"{written} has the form of an image's name; that it is there is not looked up outside ECR")
    elif name.ecr[1] != facts.settings.AWS_REGION:
        yield warning(
            "image",
            f"{written} is in {name.ecr[1]}: each machine pays for the transfer, and it was not looked up there",
            f"push it to ECR in {facts.settings.AWS_REGION}",
        )
    else:
        found = in_ecr(facts.clients.ecr, name, fetch)
        yield from judge_image(written, found, machine_architectures(facts))


def in_ecr(ecr: Any, name: ImageName, fetch: Callable[[str], bytes]) -> set[str] | None:
    """The architectures of an image in ECR, in EC2's words (empty: it does not say); None where it is not there.

    Two calls and a download of a few kB at most. Raises botocore's errors.
    """
    assert name.ecr is not None  # looked at by the caller
    place = {"registryId": name.ecr[0], "repositoryName": name.path}
    try:
        answer = ecr.batch_get_image(**place, imageIds=[name.which], acceptedMediaTypes=[*_INDEXES, *_MANIFESTS])
    except ClientError as error:
        if code_of(error) in _MISSING_REPOSITORY:
            return None
        raise
    if not answer.get("images"):
        return None
    manifest = _json(answer["images"][0].get("imageManifest", ""))
    if "manifests" in manifest:
        return _known(one.get("platform", {}).get("architecture") for one in manifest["manifests"])
    digest = manifest.get("config", {}).get("digest")
    if not digest:
        return set()
    url = ecr.get_download_url_for_layer(**place, layerDigest=digest)["downloadUrl"]
    return _known([_json(fetch(url)).get("architecture")])


def fetch(url: str) -> bytes:
    """What lies at an address that ECR gave out; nothing where it cannot be had."""
    try:
        with urllib.request.urlopen(url, timeout=CONFIG_SECONDS) as answer:
            return bytes(answer.read(1 << 20))
    except (OSError, ValueError):
        return b""


def judge_image(name: str, found: set[str] | None, machines: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """`found`: the image's architectures, None where it is not in ECR. `machines`: those of each type."""
    unfit = sorted(kind for kind, has in machines.items() if found and not found & has)
    said = ", ".join(sorted(found or ()))
    if found is None:
        yield wrong("image", f"{name} is not in ECR", "push it (make push), or correct DOCKERHUB_TAG", by_user=True)
    elif unfit:
        kinds = f"{name} is for {said}, which {', '.join(unfit)} cannot run"
        yield wrong(
            "image",
            kinds,
            "build it for their processors (docker build --platform), or choose other MACHINE_TYPE",
            by_user=True,
        )
    else:
        yield ok("image", f"{name} is in ECR{', for ' + said if said else ''}")


def machine_architectures(facts: Facts) -> dict[str, frozenset[str]]:
    return {name: machine.architectures for name, machine in facts.types.items()}


def jobs(facts: Facts) -> Iterator[Finding]:
    """The queue and how many jobs wait in it."""
    settings = facts.settings
    machines = settings.CLUSTER_MACHINES
    yield from judge_queue(settings.SQS_QUEUE_NAME, facts.job_queue, machines, settings.slots // machines)
    name = settings.SQS_DEAD_LETTER_QUEUE
    if facts.job_queue and facts.job_queue.feeds != name:
        yield warning(
            "queue",
            f"jobs that fail do not go to {name} but to {facts.job_queue.feeds or 'no queue'}",
            "run setup, which corrects it",
        )
    yield from judge_dead(name, facts.dead_queue)


def judge_queue(name: str, found: QueueFacts | None, machines: int, slots: int) -> Iterator[Finding]:
    """`slots`: jobs that a machine runs at once."""
    if found is None:
        yield wrong("queue", f"there is no queue {name}", "run setup first")
        return
    counts = found.counts
    details = {"waiting": counts.waiting, "running": counts.running}
    said = f"{counts.waiting:,} jobs wait in {name}, {counts.running:,} are held by workers"
    if counts.jobs == 0:
        yield warning(
            "queue", f"no job waits in {name}: machines would start for nothing", "run submitJob first", details=details
        )
    elif counts.jobs <= (machines - 1) * slots:
        yield warning(
            "queue",
            f"{said}, but {machines * slots:,} could run at once: some machines would idle",
            f"lower CLUSTER_MACHINES to {-(-counts.jobs // slots)}, unless more jobs come",
            details=details,
        )
    else:
        yield ok("queue", said, details=details)


def judge_dead(name: str, found: QueueFacts | None) -> Iterator[Finding]:
    """The dead-letter queue: jobs that failed before this run."""
    if found is None:
        yield wrong("queue", f"there is no dead-letter queue {name}", "run setup first")
    elif found.counts.jobs:
        yield warning(
            "queue",
            f"{found.counts.jobs:,} failed jobs of an earlier run are in {name}",
            "look at them; they will be counted with this run's",
            details={"dead": found.counts.jobs},
        )


def _known(architectures: Any) -> set[str]:
    return {_EC2_NAMES.get(str(one), str(one)) for one in architectures if one and one != "unknown"}


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
