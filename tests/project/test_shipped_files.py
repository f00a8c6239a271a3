"""Files in two parts, Dockerfiles that become the stage `program`, and image names."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from distributed_something.core.errors import InputError
from distributed_something.core.image_name import parse_project_image
from distributed_something.project.dockerfile import (
    convert_to_program_stage,
    find_base_image,
    parse_stages,
    replace_base_image,
    replace_makefile_values,
)
from distributed_something.project.shipped_files import (
    MACHINERY_MARKER,
    TEMPLATE_MARKER,
    TWO_PART_FILES,
    join_parts,
    split_parts,
)
from tests.support.paths import ROOT

quick = run_with(derandomize=True, deadline=None, max_examples=200, database=None)
texts = st.lists(
    st.sampled_from(["RUN a", "", "# b", "  c", MACHINERY_MARKER[2:], f" {MACHINERY_MARKER}", "FROM x"])
).map("\n".join)
MACHINERY = texts.map(lambda text: f"{MACHINERY_MARKER}: and so on\n{text}".rstrip("\n") + "\n")
IMAGES = st.sampled_from(["debian:bookworm-slim", "a/b", "r.example.org:5000/a/b@sha256:0f", "scratch"])
LINES = st.sampled_from(
    ["RUN a \\\n    FROM b", "COPY a b", "# FROM comment", "", "RUN x \\\n# FROM y\n  && z", "ENV FROM=1"]
)
STAGES = st.lists(st.tuples(st.booleans(), IMAGES, st.lists(LINES, max_size=3)), min_size=1, max_size=4)


@quick
@given(own=texts, machinery=MACHINERY)
def test_joined_parts_are_split_into_the_same_parts(own: str, machinery: str) -> None:
    parts = split_parts(join_parts(own, machinery), "Dockerfile")
    assert parts.machinery == machinery
    assert parts.own.rstrip("\n") == own.rstrip("\n")
    assert join_parts(*parts) == join_parts(own, machinery)


@quick
@given(own=texts, machinery=MACHINERY)
def test_the_part_that_only_the_template_has_is_omitted(own: str, machinery: str) -> None:
    text = f"{join_parts(own, machinery)}\n{TEMPLATE_MARKER}\ndemo:\n"
    assert split_parts(text, "Makefile").machinery == machinery


def test_a_file_without_a_marker_line_is_rejected() -> None:
    with pytest.raises(
        InputError, match=r"^worker/Dockerfile: there is no line that begins with '# ---- The machinery"
    ):
        split_parts(f"FROM x\n {MACHINERY_MARKER}\n", "worker/Dockerfile")


@pytest.mark.parametrize("name", TWO_PART_FILES)
def test_the_files_of_the_template_have_two_parts(name: str) -> None:
    own, machinery = split_parts((ROOT / name).read_text(), name)
    assert own.strip()
    assert len(machinery.splitlines()) > 20
    assert "examples" not in machinery


def test_the_dockerfile_of_the_template_defines_the_stage_that_its_shipped_part_uses() -> None:
    own, machinery = split_parts((ROOT / "worker" / "Dockerfile").read_text(), "")
    assert [stage.name for stage in parse_stages(own)] == ["program"]
    assert parse_stages(machinery)[-1].image == "program"
    assert find_base_image(own) == "debian:bookworm-slim"


@quick
@given(stages=STAGES)
def test_the_last_stage_of_an_example_becomes_program_and_nothing_else_changes(
    stages: list[tuple[bool, str, list[str]]],
) -> None:
    text = "".join(
        f"FROM {base}{f' AS s{number}' if named else ''}\n" + "".join(f"{line}\n" for line in lines)
        for number, (named, base, lines) in enumerate(stages)
    )
    converted = convert_to_program_stage(text, "Dockerfile")
    after, before = parse_stages(converted), parse_stages(text)
    assert len(before) == len(stages)
    assert [stage.name for stage in after] == [*(stage.name for stage in before[:-1]), "program"]
    assert find_base_image(converted) == stages[-1][1]
    others = [line for number, line in enumerate(text.splitlines()) if number != before[-1].line]
    assert [line for line in converted.splitlines()[1:] if line != "FROM ${BASE_IMAGE} AS program"] == others


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from a/b:1\n", "ARG BASE_IMAGE=a/b:1\nfrom ${BASE_IMAGE} AS program\n"),
        ("FROM --platform=p a as b\nRUN c", "ARG BASE_IMAGE=a\nFROM --platform=p ${BASE_IMAGE} AS program\nRUN c\n"),
        ("# syntax=d:1\nFROM a\n", "# syntax=d:1\nARG BASE_IMAGE=a\nFROM ${BASE_IMAGE} AS program\n"),
        ("ARG V=1\nFROM a:${V}\n", "ARG V=1\nFROM a:${V} AS program\n"),
        ("FROM a AS first\nRUN b\nFROM first\n", "FROM a AS first\nRUN b\nFROM first AS program\n"),
    ],
)  # fmt: skip
def test_common_forms_of_dockerfiles_become_the_stage_program(text: str, expected: str) -> None:
    assert convert_to_program_stage(text, "Dockerfile") == expected


def test_a_dockerfile_without_a_from_line_is_rejected() -> None:
    with pytest.raises(InputError, match="Dockerfile: FROM: this line is missing; write FROM and the image"):
        convert_to_program_stage("RUN a \\\nFROM b\n", "Dockerfile")


def test_the_base_image_in_the_developers_part_can_be_replaced() -> None:
    own = split_parts((ROOT / "worker" / "Dockerfile").read_text(), "").own
    assert find_base_image(replace_base_image(own, r"a\1b")) == r"a\1b"
    assert replace_base_image(own, "debian:bookworm-slim") == own


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ada/seqtk:1.4", ("ada", "seqtk", "1.4")),
        ("ada/seqtk", ("ada", "seqtk", "latest")),
        ("1.dkr.ecr.us-east-1.amazonaws.com/a/b:2", ("1.dkr.ecr.us-east-1.amazonaws.com/a", "b", "2")),
        ("localhost:5000/b", ("localhost:5000", "b", "latest")),
    ],
)
def test_an_image_name_has_a_user_a_project_and_a_tag(text: str, name: tuple[str, str, str]) -> None:
    assert parse_project_image(text) == name


@pytest.mark.parametrize(
    "text", ["seqtk", "Ada/seqtk", "ada/seqtk@sha256:0f", "ada/seqtk:", "a b/c", "ada/$(id)", "", "/a"]
)
def test_names_that_the_makefile_cannot_represent_are_rejected(text: str) -> None:
    assert parse_project_image(text) is None


@quick
@given(text=st.from_regex(r"[ab1]{1,3}(:5)?(/[ab1._-]{1,3}){1,3}(:[abA_1.-]{1,3})?", fullmatch=True))
def test_an_accepted_image_name_is_written_to_the_makefile_with_its_tag(text: str) -> None:
    image = parse_project_image(text)
    assume(image is not None)
    assert image is not None
    assert str(image) in (text, f"{text}:latest")
    own = replace_makefile_values("user = u\nproject = p\n\ntag=t\nbase = b\n", image._asdict())
    assert own == f"user = {image.user}\nproject = {image.project}\n\ntag={image.tag}\nbase = b\n"
