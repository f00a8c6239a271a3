"""Checks that the container image exists and that the machines can run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from distributed_something.core.image_name import (
    ContainerImageReference,
    find_published_base,
    parse_image_reference,
)
from distributed_something.core.text import format_names
from distributed_something.diagnose.check.container_image.ecr import EcrImage
from distributed_something.diagnose.check.container_image.http import Fetch
from distributed_something.diagnose.check.container_image.manifests import (
    ImageLookupError,
    ImageProblem,
    ImageSource,
    find_architectures,
)
from distributed_something.diagnose.check.container_image.registry import RegistryImage, find_registry_name
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups

MISSING_IMAGE_REMEDY = "push it (make push), or correct DOCKERHUB_TAG"
_PRIVATE_REMEDY = (
    "push it (make push) and make its repository public, because the machines do not log in either; or use ECR, which "
    "needs no password on the machines"
)
_RETRY_REMEDY = "run check again later; until then, make sure that the image exists and is for the machines' processors"


def check_container_image(lookups: Lookups) -> Iterator[Finding]:
    """Check the image's name, that the image exists, and that the machines can run it.

    Without `lookups.fetch`, which is how the local cloud is checked, only the name is checked.
    """
    tag = lookups.settings.DOCKERHUB_TAG
    image, published_base = parse_image_reference(tag), find_published_base(tag)
    if published_base is not None:
        yield judge_published_image(tag, published_base, is_local=lookups.is_local)
    elif image is None:
        yield build_wrong_finding(
            "image",
            f"{tag!r} is not an image name",
            "write DOCKERHUB_TAG as user/project:tag, with user and project in lowercase",
            is_user_error=True,
        )
    elif lookups.fetch is None:
        yield build_ok_finding("image", f"{tag} is a valid name (the image was not looked up)")
    elif image.ecr and image.ecr[1] != lookups.settings.AWS_REGION:
        yield build_warning_finding(
            "image",
            f"{tag} is in {image.ecr[1]} and was not looked up there; you pay for the transfer to each machine",
            f"push it to ECR in {lookups.settings.AWS_REGION}",
        )
    else:
        yield from _check_manifest(lookups, image, lookups.fetch)


def judge_published_image(name: str, base: str, *, is_local: bool) -> Finding:
    """Return a finding about an image of a published implementation. Most local runs use no image."""
    problem, remedy = explain_published_image(name, base)
    if is_local:
        return build_warning_finding("image", problem, remedy)
    return build_wrong_finding("image", problem, remedy, is_user_error=True)


def explain_published_image(name: str, base: str) -> tuple[str, str]:
    """Return what is wrong with an image of a published implementation, and what to do.

    `base`: the program's image from which it is built; "" if it has none.
    """
    problem = f"{name} contains the published system's worker, which does not understand the jobs of this one"
    build = f"make push base={base}, which adds this system's worker to the same program" if base else "make push"
    return problem, f"set DOCKERHUB_TAG to a name of your own, such as 'user/project:tag', and run {build}"


def _check_manifest(lookups: Lookups, image: ContainerImageReference, fetch: Fetch) -> Iterator[Finding]:
    name = lookups.settings.DOCKERHUB_TAG
    registry = "ECR" if image.ecr else find_registry_name(image.registry)
    source: ImageSource = EcrImage(lookups.clients.ecr, image, fetch) if image.ecr else RegistryImage(image, fetch)
    try:
        architectures = find_architectures(source)
    except ImageLookupError as error:
        yield judge_lookup_error(name, registry, error)
    else:
        yield from judge_container_image(name, registry, architectures, list_machine_architectures(lookups))


def judge_lookup_error(name: str, registry: str, error: ImageLookupError) -> Finding:
    """Return a finding about an image that is missing or could not be read. `registry`: its name, for the message."""
    match error.problem:
        case ImageProblem.MISSING:
            return build_wrong_finding(
                "image", f"{name} is not in {registry}", MISSING_IMAGE_REMEDY, is_user_error=True
            )
        case ImageProblem.PRIVATE:
            message = f"{registry} shows {name} to nobody who is not logged in: it is private, or it does not exist"
            return build_warning_finding("image", message, _PRIVATE_REMEDY)
        case ImageProblem.RATE_LIMITED:
            message = f"{name} was not looked up: {registry} limits how often it can be read from one address"
        case ImageProblem.UNREACHABLE:
            message = f"{name} was not looked up: {registry} did not answer ({error.reason})"
        case ImageProblem.UNREADABLE:
            message = f"{name} could not be read from {registry}: {error.reason}"
    return build_warning_finding("image", message, _RETRY_REMEDY)


def judge_container_image(
    name: str, registry: str, architectures: set[str], machine_architectures: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    """Check that every machine type can run the image.

    `architectures`: the image's, empty if it does not declare any. `machine_architectures`: those that each machine
    type supports.
    """
    unsuitable_types = sorted(
        type_name
        for type_name, supported in machine_architectures.items()
        if architectures and supported and not architectures & supported
    )
    architecture_list = ", ".join(sorted(architectures))
    if unsuitable_types:
        yield build_wrong_finding(
            "image",
            f"{name} is for {architecture_list}, which {format_names(unsuitable_types)} cannot run",
            "build and push it again (make push), which builds it for MACHINE_TYPE; or choose another MACHINE_TYPE",
            is_user_error=True,
            details={"image": sorted(architectures), "types": unsuitable_types},
        )
    else:
        yield build_ok_finding(
            "image", f"{name} is in {registry}{', for ' + architecture_list if architecture_list else ''}"
        )


def list_machine_architectures(lookups: Lookups) -> dict[str, frozenset[str]]:
    """Return the architectures that each machine type in the config or Fleet file supports, keyed by type."""
    return {name: machine_type.architectures for name, machine_type in lookups.types.value.items()}
