"""Image names: a config accepts names that a registry rejects, and a registry accepts names that a Makefile rejects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError
from distributed_something.core.image_name import (
    IMAGE_NAME_FORMAT,
    find_published_base,
    parse_image_reference,
    parse_project_image,
)
from distributed_something.project.new import (
    build_default_image,
    check_app_name_option,
    check_base_option,
    parse_image_option,
)
from tests.support.offline import CONFIG

quick = run_with(derandomize=True, deadline=None, max_examples=500, database=None)
names = st.text(st.sampled_from("ab1A._-/:@ "), max_size=12) | st.from_regex(
    r"([ab.:5]{1,6}/)?[ab1._-]{1,4}(/[ab1._-]{1,4})?(:[abA_1.-]{1,3})?(@sha256:0{64})?", fullmatch=True
)


def load_image_from_config(name: str) -> str:
    """Return DOCKERHUB_TAG from a config that sets it to `name`."""
    return Settings.model_validate(CONFIG | {"DOCKERHUB_TAG": name}).DOCKERHUB_TAG


@pytest.mark.parametrize(
    "name",
    [
        "debian", "ada/seqtk:1.4", "ada/seqtk:V1-Beta", "registry.example.org:5000/ada/x", f"ada/x@sha256:{'0' * 64}",
        "111122223333.dkr.ecr.us-east-1.amazonaws.com/tools/app:1", "localhost:5000/app",
    ],
)  # fmt: skip
def test_a_config_and_the_option_base_accept_any_image(name: str) -> None:
    assert load_image_from_config(name) == name
    assert check_base_option(name) == name
    assert parse_image_reference(name) is not None


@pytest.mark.parametrize("name", ["a_/b", "a/b-", "a:/b", "a/b@", "-a.org/b", "a.org:/b", "a.org:x/b", "é.org/b"])
def test_a_name_that_docker_cannot_parse_is_not_an_image_reference(name: str) -> None:
    assert parse_image_reference(name) is None
    assert parse_project_image(name) is None


@quick
@given(name=names)
def test_a_projects_image_is_valid_for_registries_and_configs(name: str) -> None:
    image = parse_project_image(name)
    if image is None:
        return
    for text in (name, str(image)):
        assert parse_image_reference(text) is not None
        assert IMAGE_NAME_FORMAT.fits(text)
    assert parse_project_image(str(image)) == image
    assert parse_image_option(name) == image


@quick
@given(app=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True))
def test_newproject_proposes_a_valid_image_for_every_app_name(app: str) -> None:
    assert parse_project_image(build_default_image(check_app_name_option(app))) is not None


def test_a_config_accepts_a_name_that_a_registry_rejects() -> None:
    assert load_image_from_config("ada//x") == "ada//x"
    with pytest.raises(InputError, match="--image: 'ada//x' is not an image name"):
        parse_image_option("ada//x")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("cellprofiler/distributed-cellprofiler:2.0.0_4.2.4", "cellprofiler/cellprofiler:4.2.4"),
        ("cellprofiler/distributed-cellprofiler:1.2.1_3.1.9", "cellprofiler/cellprofiler:3.1.9"),
        ("docker.io/cellprofiler/distributed-cellprofiler:latest", "cellprofiler/cellprofiler:4.2.8"),
        ("cellprofiler/distributed-cellprofiler", "cellprofiler/cellprofiler:4.2.8"),
        ("cellprofiler/distributed-fiji:latest", "fiji/fiji:fiji-openjdk-8"),
        ("erinweisbart/distributed-bioformats2raw:0.0.19", "openmicroscopy/bioformats2raw:0.9.1"),
        ("erinweisbart/distributed-helloworld:1", ""),
        ("user/distributed-cellprofiler:4.2.8", None),
        ("quay.io/cellprofiler/distributed-cellprofiler:1", None),
        ("cellprofiler/cellprofiler:4.2.8", None),
        ("lab/distributed-fiji:latest", None),
    ],
)
def test_an_image_of_the_published_system_is_recognized_with_the_image_it_is_built_from(
    name: str, base: str | None
) -> None:
    assert find_published_base(name) == base
