"""Files of two parts, Dockerfiles that become the stage `program`, and names of images: pure functions."""

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
def test_what_is_joined_is_split_into_the_same_parts(own: str, machinery: str) -> None:
    found = split_parts(join_parts(own, machinery), "Dockerfile")
    assert found.machinery == machinery
    assert found.own.rstrip("\n") == own.rstrip("\n")
    assert join_parts(*found) == join_parts(own, machinery)


@quick
@given(own=texts, machinery=MACHINERY)
def test_the_templates_own_part_is_left_out(own: str, machinery: str) -> None:
    whole = f"{join_parts(own, machinery)}\n{TEMPLATE_MARKER}\ndemo:\n"
    assert split_parts(whole, "Makefile").machinery == machinery


def test_a_file_without_a_marker_line_is_named() -> None:
    with pytest.raises(InputError, match=r"^worker/Dockerfile: it has no line that begins with '# ---- The machinery"):
        split_parts(f"FROM x\n {MACHINERY_MARKER}\n", "worker/Dockerfile")


@pytest.mark.parametrize("name", TWO_PART_FILES)
def test_the_templates_files_have_two_parts(name: str) -> None:
    own, machinery = split_parts((ROOT / name).read_text(), name)
    assert own.strip()
    assert len(machinery.splitlines()) > 20
    assert "examples" not in machinery


def test_the_templates_dockerfile_has_the_stage_that_its_machinery_builds_on() -> None:
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
    made = convert_to_program_stage(text, "Dockerfile")
    found, before = parse_stages(made), parse_stages(text)
    assert len(before) == len(stages)
    assert [stage.name for stage in found] == [*(stage.name for stage in before[:-1]), "program"]
    assert find_base_image(made) == stages[-1][1]
    others = [line for number, line in enumerate(text.splitlines()) if number != before[-1].line]
    assert [line for line in made.splitlines()[1:] if line != "FROM ${BASE_IMAGE} AS program"] == others


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("from a/b:1\n", "ARG BASE_IMAGE=a/b:1\nfrom ${BASE_IMAGE} AS program\n"),
        ("FROM --platform=p a as b\nRUN c", "ARG BASE_IMAGE=a\nFROM --platform=p ${BASE_IMAGE} AS program\nRUN c\n"),
        ("# syntax=d:1\nFROM a\n", "# syntax=d:1\nARG BASE_IMAGE=a\nFROM ${BASE_IMAGE} AS program\n"),
        ("ARG V=1\nFROM a:${V}\n", "ARG V=1\nFROM a:${V} AS program\n"),
        ("FROM a AS first\nRUN b\nFROM first\n", "FROM a AS first\nRUN b\nFROM first AS program\n"),
    ],
)  # fmt: skip
def test_a_dockerfile_as_people_write_it_becomes_the_stage_program(text: str, made: str) -> None:
    assert convert_to_program_stage(text, "Dockerfile") == made


def test_a_dockerfile_without_from_is_named() -> None:
    with pytest.raises(InputError, match="Dockerfile: FROM: there is no such line"):
        convert_to_program_stage("RUN a \\\nFROM b\n", "Dockerfile")


def test_the_base_of_the_templates_part_can_be_another() -> None:
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
def test_an_images_name_has_user_project_and_tag(text: str, name: tuple[str, str, str]) -> None:
    assert parse_project_image(text) == name


@pytest.mark.parametrize(
    "text", ["seqtk", "Ada/seqtk", "ada/seqtk@sha256:0f", "ada/seqtk:", "a b/c", "ada/$(id)", "", "/a"]
)
def test_what_the_makefile_cannot_hold_is_no_images_name(text: str) -> None:
    assert parse_project_image(text) is None


@quick
@given(text=st.from_regex(r"[ab1]{1,3}(:5)?(/[ab1._-]{1,3}){1,3}(:[abA_1.-]{1,3})?", fullmatch=True))
def test_a_name_that_is_taken_is_the_makefiles_with_its_tag(text: str) -> None:
    found = parse_project_image(text)
    assume(found is not None)
    assert found is not None
    assert str(found) in (text, f"{text}:latest")
    own = replace_makefile_values("user = u\nproject = p\n\ntag=t\nbase = b\n", found._asdict())
    assert own == f"user = {found.user}\nproject = {found.project}\n\ntag={found.tag}\nbase = b\n"
